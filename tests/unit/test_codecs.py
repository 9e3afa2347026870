import pytest

from edge.audio.codecs import EncoderSettings, open_decoder, open_encoder
from edge.errors import AudioError, LocalProtocolError
from edge.media.payloads import Codec, PayloadTypes
from tests.support.speech import aligned, log_spectral_distance, speech

RATES_HZ = (8_000, 16_000, 24_000, 48_000)
SETTINGS = EncoderSettings(bitrate_bps=32_000, complexity=5, fec=True, dtx=False)

every_codec = pytest.mark.parametrize("codec", list(Codec))
every_rate = pytest.mark.parametrize("rate_hz", RATES_HZ)


def payloads_of(codec: Codec, pcm: bytes, rate_hz: int, loss: float = 0.0) -> list[bytes]:
    encoder = open_encoder(codec, rate_hz, SETTINGS)
    encoder.expect_loss(loss)
    size = rate_hz // 50 * 2
    return [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm), size)]


def ticks_of(codec: Codec, seconds: float) -> int:
    return round(PayloadTypes(codec, 0).clock_rate_hz * seconds)


@every_codec
@every_rate
def test_round_trip(codec: Codec, rate_hz: int) -> None:
    pcm = speech(3.0, rate_hz, seed=1)
    decoder = open_decoder(codec, rate_hz)
    payloads = payloads_of(codec, pcm, rate_hz)
    for payload in payloads:
        assert decoder.duration_ticks(payload) == ticks_of(codec, 0.02)
        assert not decoder.is_dtx(payload)
    heard = b"".join(decoder.decode(payload) for payload in payloads)
    assert len(heard) == len(pcm)
    # G.711 keeps half the band, at most: compare what it can have.
    if codec is Codec.OPUS or rate_hz == 8_000:
        assert log_spectral_distance(pcm, aligned(pcm, heard, rate_hz, 0.1), rate_hz) < 3.0


@every_codec
@every_rate
def test_losses_are_filled_to_the_sample(codec: Codec, rate_hz: int) -> None:
    pcm = speech(3.0, rate_hz, seed=1)
    payloads = payloads_of(codec, pcm, rate_hz, loss=0.2)
    clean, lossy = open_decoder(codec, rate_hz), open_decoder(codec, rate_hz)
    wanted = b"".join(clean.decode(payload) for payload in payloads)
    heard, copies, holes = b"", 0, b""
    for n, payload in enumerate(payloads):
        if n % 10 != 5:
            heard += lossy.decode(payload)
            holes += heard[len(holes) :]
            continue
        filled = lossy.decode_fec(payloads[n + 1], ticks_of(codec, 0.02))
        copies += filled is not None
        heard += lossy.conceal(ticks_of(codec, 0.02)) if filled is None else filled
        holes += bytes(rate_hz // 25)
    assert len(heard) == len(pcm)
    assert (copies > 5) == (codec is Codec.OPUS)
    distance = log_spectral_distance(wanted, heard, rate_hz)
    assert distance < 0.65 * log_spectral_distance(wanted, holes, rate_hz)


@every_codec
@every_rate
@pytest.mark.parametrize("seconds", [0.0025, 0.01, 0.02, 0.06, 0.1])
def test_concealment_is_as_long_as_asked(codec: Codec, rate_hz: int, seconds: float) -> None:
    decoder = open_decoder(codec, rate_hz)
    for payload in payloads_of(codec, speech(0.2, rate_hz, seed=1), rate_hz):
        decoder.decode(payload)
    assert len(decoder.conceal(ticks_of(codec, seconds))) == 2 * round(seconds * rate_hz)


@every_codec
@pytest.mark.parametrize("seconds", [0.0, 0.121, 60.0])
def test_concealment_has_an_end(codec: Codec, seconds: float) -> None:
    with pytest.raises(LocalProtocolError):
        open_decoder(codec, 24_000).conceal(ticks_of(codec, seconds))


@every_codec
def test_an_empty_payload_is_no_sound(codec: Codec) -> None:
    decoder = open_decoder(codec, 24_000)
    for call in (decoder.decode, decoder.duration_ticks):
        with pytest.raises(AudioError) as caught:
            call(b"")
        assert caught.value.reason in {"opus-malformed", "g711-empty"}
    assert decoder.decode_fec(b"", ticks_of(codec, 0.02)) is None


def test_opus_dtx_is_told() -> None:
    decoder = open_decoder("opus", 16_000)
    assert decoder.is_dtx(b"\x48")
    assert decoder.decode(b"\x48") == bytes(640)
    assert not open_decoder("PCMU", 16_000).is_dtx(b"\xff")


@every_codec
def test_an_encoder_takes_20_ms(codec: Codec) -> None:
    encoder = open_encoder(codec, 24_000, SETTINGS)
    for size in (0, 958, 962, 1_920):
        with pytest.raises(LocalProtocolError, match="20 ms"):
            encoder.encode(bytes(size))


def test_unknown_codecs_and_settings() -> None:
    with pytest.raises(LocalProtocolError, match="G722"):
        open_decoder("G722", 16_000)
    with pytest.raises(LocalProtocolError, match="G722"):
        open_encoder("G722", 16_000, SETTINGS)
    with pytest.raises(LocalProtocolError):
        open_encoder("opus", 16_000, EncoderSettings(32_000, 11, fec=True, dtx=True))
