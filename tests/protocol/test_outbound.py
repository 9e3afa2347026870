"""Slots: when packets leave, what their headers say, and what fills the gaps."""

from itertools import pairwise

import pytest

from edge.audio.g711 import decode_ulaw
from edge.audio.opus import OpusDecoder, packet_ticks
from edge.errors import LocalProtocolError
from edge.media.dialogue import Clear, EndItem, Pause, Play, Resume, SoundDropped
from edge.media.frames import Encoding
from edge.media.outbound import TRAIL_FRAMES
from edge.media.payloads import Codec
from tests.support.playing import SILENCE, SSRC, START, Stage, sound

QUIET = bytes((SILENCE,)) * 160


def bytes_of(stage: Stage, first: int = 0) -> bytes:
    return b"".join(packet.payload for packet in stage.packets[first:])


def test_nothing_is_due_before_the_first_sound() -> None:
    stage = Stage()
    assert stage.outbound.next_due() is None
    assert stage.call() is None
    stage.command(Pause(), Resume(), Clear(), EndItem("unknown"))
    assert stage.outbound.next_due() is None
    assert stage.outbound.drops == {"unknown-item": 1}


def test_sound_leaves_at_once_and_then_every_20_ms() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 100)))
    assert stage.outbound.next_due() == START
    stage.run(0.099)
    assert stage.sent_at == pytest.approx([START + 0.02 * n for n in range(5)])
    assert [packet.payload for packet in stage.packets] == [bytes((1,)) * 160] * 5
    assert {packet.ssrc for packet in stage.packets} == {SSRC}
    assert {packet.payload_type for packet in stage.packets} == {0}
    assert [packet.marker for packet in stage.packets] == [True, False, False, False, False]
    first = stage.packets[0].sequence_number
    assert first < 0x8000
    assert [packet.sequence_number - first for packet in stage.packets] == [0, 1, 2, 3, 4]


def test_deadlines_do_not_drift_over_an_hour() -> None:
    stage = Stage(codec=Codec.OPUS, encoding=Encoding.OPUS, rate_hz=48_000)
    for _ in range(3600 * 50):
        stage.command(Play("a", b"\xf8\xff\xfe"))
        due = stage.outbound.next_due()
        assert due is not None
        stage.now = due + 0.003
        stage.outbound.next_packet(stage.now)
    assert stage.outbound.next_due() == pytest.approx(START + 3600, abs=1e-6)


def test_an_early_call_changes_nothing() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 60)))
    stage.call()
    due = stage.outbound.next_due()
    for _ in range(3):
        stage.now += 0.005
        assert stage.call() is None
    assert stage.outbound.next_due() == due


@pytest.mark.parametrize("late", [0.001, 0.0199])
def test_a_late_call_keeps_the_grid(late: float) -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 200)))
    stage.run(0.02)
    due = stage.outbound.next_due()
    assert due is not None
    stage.now = due + late
    stage.call()
    assert stage.outbound.next_due() == pytest.approx(due + 0.02)
    assert stage.slot_times()[-1] == pytest.approx(due - START)
    assert stage.outbound.statistics().skipped == 0


@pytest.mark.parametrize(("stall", "skipped"), [(0.0201, 1), (0.05, 2), (1.0101, 50), (10.01, 500)])
def test_after_a_stall_slots_are_skipped_and_there_is_no_burst(stall: float, skipped: int) -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 60) + sound(2, 60)))
    stage.run(0.05)
    due = stage.outbound.next_due()
    assert due is not None
    stage.now = due + stall
    stage.call()
    assert stage.call() is None
    stage.run(0.2)
    assert stage.outbound.statistics().skipped == skipped
    assert stage.punctuality.statistics().skipped == skipped
    assert bytes_of(stage)[:960] == bytes((1,)) * 480 + bytes((2,)) * 480  # moved, not lost
    assert stage.slot_times()[3] == pytest.approx(0.06 + 0.02 * skipped)
    assert [packet.marker for packet in stage.packets[:5]] == [True, False, False, True, False]
    for slot, sent_at in zip(stage.slot_times(), stage.sent_at, strict=True):
        assert 0 <= sent_at - START - slot + 1e-9 < 0.02


def test_a_gap_has_a_trail_of_silence_then_a_sign_every_400_ms() -> None:
    stage = Stage(comfort_noise=13)
    stage.command(Play("a", sound(1, 20)), EndItem("a"))
    stage.run(1.0)
    trail, signs = stage.packets[1 : 1 + TRAIL_FRAMES], stage.packets[1 + TRAIL_FRAMES :]
    assert [packet.payload for packet in trail] == [QUIET] * TRAIL_FRAMES
    assert [(packet.payload_type, packet.payload) for packet in signs] == [(13, b"\x7f")] * 3
    assert stage.slot_times()[1 + TRAIL_FRAMES :] == pytest.approx([0.12, 0.52, 0.92])
    assert not any(packet.marker for packet in stage.packets[1:])


def test_g711_without_comfort_noise_refreshes_with_silence() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 20)))
    stage.run(1.0)
    assert [packet.payload for packet in stage.packets[1:]] == [QUIET] * (TRAIL_FRAMES + 3)


def test_silence_fills_every_slot_if_asked() -> None:
    stage = Stage(gaps="silence", comfort_noise=13)
    stage.command(Play("a", sound(1, 20)))
    stage.run(1.0)
    stage.command(Play("b", sound(2, 20)))
    stage.run(0.1)
    assert stage.slot_times() == pytest.approx([0.02 * n for n in range(56)])
    assert [n for n, packet in enumerate(stage.packets) if packet.payload != QUIET] == [0, 51]
    assert [packet.marker for packet in stage.packets] == [True] + [False] * 55


def test_a_talkspurt_after_rest_begins_at_once_with_a_marker_and_its_true_time() -> None:
    stage = Stage(comfort_noise=13)
    stage.command(Play("a", sound(1, 20)))
    stage.run(0.7777)
    stage.command(Play("b", sound(2, 40)))
    assert stage.outbound.next_due() == pytest.approx(stage.now, abs=1 / 8000)
    before = len(stage.packets)
    stage.run(0.03)
    assert [packet.marker for packet in stage.packets[before:]] == [True, False]
    assert stage.slot_times()[before] == pytest.approx(0.7777, abs=1 / 8000)
    assert stage.packets[before].sequence_number == stage.packets[before - 1].sequence_number + 1


def test_sound_during_the_trail_takes_the_next_slot_without_a_marker() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 20)))
    stage.run(0.05)
    stage.command(Play("b", sound(2, 20)))
    (packet,) = stage.run(0.015)
    assert (packet.payload, packet.marker) == (bytes((2,)) * 160, False)


@pytest.mark.parametrize(
    ("ms", "ended", "wait"), [(20, False, 0.06), (60, False, 0.0), (20, True, 0.0)]
)
def test_prebuffer_waits_for_sound_time_or_the_end(ms: int, ended: bool, wait: float) -> None:
    stage = Stage(prebuffer=0.06)
    stage.command(Play("a", sound(1, ms)))
    if ended:
        stage.command(EndItem("a"))
    assert stage.outbound.next_due() == pytest.approx(START + wait)
    stage.run(wait)
    assert len(stage.packets) == 1


def test_sound_that_follows_does_not_prolong_the_prebuffer() -> None:
    stage = Stage(prebuffer=0.06)
    for _ in range(3):
        stage.command(Play("a", sound(1, 5)))
        assert stage.outbound.next_due() == pytest.approx(START + 0.06)
        stage.run(0.01)


def test_a_late_sign_of_silence_has_its_true_time_and_no_slots_were_missed() -> None:
    stage = Stage(comfort_noise=13)
    stage.command(Play("a", sound(1, 20)))
    stage.run(0.3)
    stage.now = START + 2.0
    assert stage.call() is not None
    assert stage.slot_times()[-1] == pytest.approx(2.0, abs=1 / 8000)
    assert stage.outbound.statistics().skipped == 0
    assert stage.punctuality.statistics().skipped == 0
    assert stage.outbound.next_due() == pytest.approx(START + 2.4, abs=1 / 8000)


def test_pause_keeps_the_queue_and_resume_goes_on_at_once() -> None:
    stage = Stage(comfort_noise=13)
    stage.command(Play("a", sound(1, 40) + sound(2, 40)))
    stage.run(0.03)
    stage.command(Pause())
    paused = stage.run(0.9)
    assert [packet.payload for packet in paused[1:TRAIL_FRAMES]] == [QUIET] * (TRAIL_FRAMES - 1)
    assert [packet.payload_type for packet in paused[TRAIL_FRAMES:]] == [13] * 2
    stage.command(Resume())
    assert stage.outbound.next_due() == pytest.approx(stage.now, abs=1 / 8000)
    resumed = stage.run(0.039)
    assert [packet.payload for packet in resumed] == [bytes((2,)) * 160] * 2
    assert resumed[0].marker


def test_a_pause_taken_back_within_the_frame_costs_nothing() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 20) + sound(2, 20)))
    stage.run(0.01)
    stage.command(Pause(), Resume())
    stage.run(0.02)
    assert bytes_of(stage) == bytes((1,)) * 160 + bytes((2,)) * 160


def test_clear_is_silent_from_the_next_slot_on_and_fades() -> None:
    stage = Stage()
    stage.command(Play("a", sound(0x80, 1000)))  # the loudest
    stage.run(0.03)
    stage.command(Clear())
    first, second = stage.run(0.03)
    level = decode_ulaw(first.payload)
    samples = [int.from_bytes(level[n : n + 2], "little", signed=True) for n in range(0, 320, 2)]
    assert samples[0] > 30_000
    assert samples[:40] == sorted(samples[:40], reverse=True)
    assert not any(samples[40:])
    assert second.payload == QUIET
    assert stage.outbound.statistics().queued == 0


def test_sound_after_a_clear_while_paused_waits_for_resume() -> None:
    stage = Stage(comfort_noise=13)
    stage.command(Play("a", sound(1, 100)), Pause(), Clear())
    stage.command(Resume())
    assert stage.outbound.next_due() is None
    stage.command(Pause(), Play("b", sound(2, 20)))
    assert stage.run(1.0) == []
    stage.command(Resume())
    assert [packet.payload for packet in stage.run(0.0)] == [bytes((2,)) * 160]


def test_too_much_sound_drops_the_oldest() -> None:
    stage = Stage(queue_max=1.0)
    stage.command(Play("a", sound(1, 600) + sound(2, 600)), Play("a", sound(3, 300)))
    assert stage.notices == [SoundDropped(0.2), SoundDropped(0.3)]
    stage.run(1.0)
    spoken = bytes((1,)) * 800 + bytes((2,)) * 4800 + bytes((3,)) * 2400
    assert bytes_of(stage)[:8000] == spoken
    assert stage.outbound.statistics().dropped == pytest.approx(0.5)


def test_opus_gaps_are_dtx_packets_that_a_decoder_hears_as_silence() -> None:
    stage = Stage(codec=Codec.OPUS, rate_hz=24_000)
    stage.command(Play("a", bytes(range(1, 241)) * 40))  # 200 ms of noise
    stage.run(1.45)
    sizes = [len(packet.payload) for packet in stage.packets]
    assert min(sizes[: 10 + TRAIL_FRAMES]) > 2
    assert sizes[10 + TRAIL_FRAMES :] == [1] * 3
    decoder = OpusDecoder(24_000)
    for packet in stage.packets[: 10 + TRAIL_FRAMES]:
        heard = decoder.decode(packet.payload)
    assert packet_ticks(stage.packets[-1].payload) == 960
    heard = decoder.decode(stage.packets[10 + TRAIL_FRAMES].payload) + decoder.conceal(480)
    assert max(abs(sample) for sample in memoryview(heard).cast("h")) < 32_768 / 100


def test_encoder_dtx_leaves_slots_of_a_silent_item_empty() -> None:
    stage = Stage(codec=Codec.OPUS, rate_hz=24_000, encoder_dtx=True)
    stage.command(Play("a", bytes(range(1, 241)) * 40 + bytes(2 * 24_000 * 2)), EndItem("a"))
    stage.run(4.0)
    sizes = [len(packet.payload) for packet in stage.packets]
    times = stage.slot_times()
    assert len(times) < 40  # of 110 frames
    assert all(later - earlier < 0.421 for earlier, later in pairwise(times))
    assert 1 in sizes
    assert stage.outbound.statistics().frames_sent == 110


def test_opus_packets_pass_as_they_are_with_their_own_duration() -> None:
    stage = Stage(codec=Codec.OPUS, encoding=Encoding.OPUS, rate_hz=48_000)
    packets = [b"\xe0abc", b"\x18def", b"\xf8ghi"]  # 2.5, 60 and 20 ms
    for packet in packets:
        stage.command(Play("a", packet))
    stage.command(Play("a", b""), Play("a", b"\xf8" * 1201))
    stage.run(1.0)
    assert [packet.payload for packet in stage.packets[:3]] == packets
    assert stage.slot_times()[:4] == pytest.approx([0, 0.0025, 0.0625, 0.0825])
    trail = [packet.payload for packet in stage.packets[3:]]
    assert trail == [b"\xf8\xff\xfe"] * TRAIL_FRAMES + [b"\xf8"] * 3
    assert stage.outbound.drops == {"opus-malformed": 1, "opus-too-long": 1}


def test_opus_packets_need_a_client_that_speaks_opus() -> None:
    with pytest.raises(LocalProtocolError):
        Stage(codec=Codec.PCMU, encoding=Encoding.OPUS, rate_hz=48_000)


def test_a_slow_backend_hears_of_gaps_as_underruns() -> None:
    stage = Stage()
    stage.command(Play("a", sound(1, 15)))
    stage.run(0.01)
    for _ in range(49):  # 15 ms of sound every 20 ms
        stage.command(Play("a", sound(1, 15)))
        stage.run(0.02)
    stage.command(EndItem("a"))
    stage.run(0.2)
    assert bytes_of(stage).count(1) == 50 * 120
    assert stage.outbound.statistics().underruns == 49


def test_an_even_backend_of_small_pieces_has_no_gaps_behind_the_prebuffer() -> None:
    stage = Stage(prebuffer=0.03)
    for piece in range(400):  # 5 ms each, halves of samples included
        pcm = sound(1 + piece % 100, 5)
        stage.command(Play("a", pcm[:7]), Play("a", pcm[7:]))
        stage.run(0.005)
    stage.command(EndItem("a"))
    stage.run(0.04)
    expected = b"".join(bytes((1 + piece % 100,)) * 40 for piece in range(400))
    assert bytes_of(stage)[: len(expected)] == expected
    assert stage.outbound.statistics().underruns == 0


def test_reports_set_the_encoders_loss_up_at_once_and_down_slowly() -> None:
    stage = Stage(codec=Codec.OPUS, rate_hz=16_000)
    stage.command(Play("a", bytes(32_000)))
    stage.run(1.0)
    losses = []
    for index, fraction in ((10, 0.2), (20, 0.0), (30, 0.4), (30, 0.0), (5000, 0.9)):
        highest = stage.packets[0].sequence_number + index
        stage.outbound.note_report(highest, fraction, stage.now)
        losses.append(stage.outbound.statistics().expected_loss)
    assert losses == pytest.approx([0.2, 0.15, 0.4, 0.4, 0.4])
    assert stage.outbound.drops == {"stale-report": 2}
