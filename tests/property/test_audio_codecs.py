from hypothesis import given, settings
from hypothesis import strategies as st

from edge.audio.codecs import open_decoder
from edge.errors import AudioError

CLOCKS_HZ = {"opus": 48_000, "PCMU": 8_000, "PCMA": 8_000}
STEPS = st.lists(
    st.tuples(st.sampled_from(["decode", "fec", "conceal"]), st.binary(max_size=300)), max_size=8
)


@settings(deadline=None)
@given(st.sampled_from(sorted(CLOCKS_HZ)), st.sampled_from([8_000, 16_000, 24_000, 48_000]), STEPS)
def test_any_stream_is_sound_of_the_promised_length(
    codec: str, rate_hz: int, steps: list[tuple[str, bytes]]
) -> None:
    decoder = open_decoder(codec, rate_hz)
    clock_hz = CLOCKS_HZ[codec]
    for step, payload in steps:
        try:
            match step:
                case "decode":
                    pcm, ticks = decoder.decode(payload), decoder.duration_ticks(payload)
                case "fec":
                    copy = decoder.decode_fec(payload, clock_hz // 50)
                    if copy is None:
                        continue
                    pcm, ticks = copy, clock_hz // 50
                case _:
                    ticks = clock_hz // 400 * (1 + len(payload) % 40)
                    pcm = decoder.conceal(ticks)
        except AudioError as exc:
            assert exc.reason in {"opus-malformed", "g711-empty"}  # noqa: PT017 - or none
        else:
            assert len(pcm) == 2 * ticks * rate_hz // clock_hz
