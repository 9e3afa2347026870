"""The receive path: packets of real codecs over bad networks, frames and digits out."""

import functools
import math
from collections import Counter
from itertools import pairwise

import pytest

from edge.audio.codecs import EncoderSettings, open_encoder
from edge.audio.opus import has_fec, is_dtx
from edge.errors import LocalProtocolError
from edge.media.dialogue import Digit
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.inbound import Inbound
from edge.media.payloads import Codec, PayloadTypes
from edge.rtp.extensions import AudioLevel, encode_extensions
from edge.rtp.jitter import JitterLimits
from edge.rtp.packet import RtpPacket
from tests.support.rtp_trace import DELAY, START, Arrival, Network, Sent, listen, talk, travel
from tests.support.speech import aligned, log_spectral_distance, speech

LIMITS = JitterLimits(delay_min=0.02, delay_max=0.2, steady=False)
OPUS = PayloadTypes(Codec.OPUS, audio=111, redundancy=63, telephone_event=126, level_extension=1)
PCMU = PayloadTypes(Codec.PCMU, audio=0, telephone_event=101, comfort_noise=13)
PCM_24 = AudioFormat(Encoding.PCM16, 24_000)
PCM_8 = AudioFormat(Encoding.PCM16, 8_000)
PASSED = AudioFormat(Encoding.OPUS, 48_000)
FRAMES = 500
Timed = list[tuple[float, AudioFrame]]


class Feeder:
    def __init__(
        self,
        payloads: PayloadTypes = OPUS,
        audio_format: AudioFormat = PCM_24,
        limits: JitterLimits = LIMITS,
    ) -> None:
        self.inbound = Inbound(payloads, audio_format, limits)
        self.digits: list[Digit] = []

    def feed(self, packet: RtpPacket, now: float) -> None:
        self.inbound.receive(packet, now)
        self.digits += iter(self.inbound.next_digit, None)

    def pull(self, now: float) -> AudioFrame | None:
        return self.inbound.next_frame(now)

    def due(self) -> float | None:
        return self.inbound.next_timeout()


def run(feeder: Feeder, arrivals: list[Arrival]) -> Timed:
    """Listen, and check that media time is one line of frames with as much sound as they say."""
    out = listen(feeder, arrivals, arrivals[-1].at)
    jumped = 0.0
    for (_, frame), (_, following) in pairwise(out):
        step = following.media_time - frame.media_time - frame.duration
        assert step > -1e-9
        jumped += step
    statistics = feeder.inbound.statistics()
    assert math.isclose(jumped, statistics.jumped, abs_tol=1e-6)
    assert statistics.frames == Counter(frame.label for _, frame in out)
    return out


def labels(out: Timed) -> list[Label]:
    return [frame.label for _, frame in out]


def sound(out: Timed) -> bytes:
    return b"".join(frame.audio for _, frame in out)


@functools.cache
def opus_packets(*, fec: bool = False, dtx: bool = False) -> list[bytes]:
    settings = EncoderSettings(bitrate_bps=32_000, complexity=3, fec=fec, dtx=dtx)
    encoder = open_encoder("opus", 24_000, settings)
    encoder.expect_loss(0.2 if fec else 0.0)
    pcm = spoken()
    if dtx:  # two seconds of speech, two of nothing
        pcm = (pcm[: 48_000 * 2] + bytes(48_000 * 2)) * 3
        pcm = pcm[: 960 * FRAMES]
    return [encoder.encode(pcm[at : at + 960]) for at in range(0, len(pcm), 960)]


@functools.cache
def spoken() -> bytes:
    return speech(FRAMES / 50, 24_000, 7)


def opus_talk(*, fec: bool = False) -> list[Sent]:
    packets = opus_packets(fec=fec)
    return talk(FRAMES, payload=packets.__getitem__)


def redundant(sent: list[Sent], *distances: int) -> list[Sent]:
    """Wrap each packet with those that many before it, as RFC 2198 does; with the one before."""
    wrapped = []
    for number, (at, packet) in enumerate(sent):
        headers = blocks = b""
        for distance in distances or (1,):
            if distance <= number:
                old = sent[number - distance].packet
                offset = (packet.timestamp - old.timestamp) & 0xFFFF_FFFF
                headers += bytes((0x80 | packet.payload_type,))
                headers += (offset << 10 | len(old.payload)).to_bytes(3)
                blocks += old.payload
        payload = headers + bytes((packet.payload_type,)) + blocks + packet.payload
        wrapped.append(Sent(at, packet._replace(payload_type=63, payload=payload)))
    return wrapped


def test_good_network() -> None:
    out = run(Feeder(), travel(opus_talk(), Network()))
    assert labels(out) == [Label.RECEIVED] * FRAMES
    assert all(len(frame.audio) == 960 and frame.duration == 0.02 for _, frame in out)
    assert [frame.media_time for _, frame in out] == pytest.approx(
        [n * 0.02 for n in range(FRAMES)]
    )
    assert log_spectral_distance(spoken(), aligned(spoken(), sound(out), 24_000), 24_000) < 5


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_rates(rate_hz: int) -> None:
    feeder = Feeder(audio_format=AudioFormat(Encoding.PCM16, rate_hz))
    out = run(feeder, travel(opus_talk()[:50], Network(loss=0.1)))
    assert {len(frame.audio) for _, frame in out} == {2 * rate_hz // 50}


@pytest.mark.parametrize("at", [100, 101, 250])
@pytest.mark.parametrize("copies", ["fec", "redundancy", "none"])
@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_one_lost_packet_is_one_frame(at: int, copies: str, jitter: float) -> None:
    sent = opus_talk(fec=copies == "fec")
    if copies == "fec":  # pauses have no copies
        at = next(n for n in range(at, FRAMES) if has_fec(sent[n + 1].packet.payload))
    elif copies == "redundancy":
        sent = redundant(sent)
    arrivals = travel(sent, Network(jitter=jitter, ordered=True), seed=4)
    feeder = Feeder()
    out = run(feeder, arrivals[:at] + arrivals[at + 1 :])
    expected = [Label.RECEIVED] * FRAMES
    expected[at] = Label.CONCEALED if copies == "none" else Label.FEC
    assert labels(out) == expected
    assert all(len(frame.audio) == 960 for _, frame in out)
    assert feeder.inbound.statistics().jumps == 0
    late = [when - arrival.at for (when, _), arrival in zip(out, arrivals, strict=True)]
    assert max(late[:at] + late[at + 3 :]) == 0


def test_copies_sound_better_than_concealment() -> None:
    """5 % of loss, single packets: what is heard, against the original."""
    distances = {}
    for copies in ("fec", "redundancy", "none"):
        sent = opus_talk(fec=copies == "fec")
        arrivals = travel(redundant(sent) if copies == "redundancy" else sent, Network())
        arrivals = [each for number, each in enumerate(arrivals) if number % 10 != 5]
        out = run(Feeder(), arrivals)
        heard = aligned(spoken(), sound(out), 24_000)
        distances[copies] = log_spectral_distance(spoken(), heard, 24_000)
    assert distances["redundancy"] < distances["none"]
    assert distances["fec"] < distances["none"]


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("jitter", [0.0, 0.03, 0.08])
def test_redundancy_over_loss_and_jitter(loss: float, jitter: float) -> None:
    arrivals = travel(redundant(opus_talk()), Network(loss=loss, jitter=jitter), seed=6)
    feeder = Feeder()
    out = run(feeder, arrivals)
    counts = Counter(labels(out))
    lost = FRAMES - len(arrivals)
    assert counts[Label.CONCEALED] <= 0.2 * lost + 0.02 * FRAMES
    assert counts[Label.DTX] == 0
    assert abs(len(out) - FRAMES) <= 5


@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_dtx(jitter: float) -> None:
    packets = opus_packets(dtx=True)
    # As libwebrtc does: after the first quiet packet, no other before sound comes again.
    silent = {n for n in range(1, FRAMES) if is_dtx(packets[n]) and is_dtx(packets[n - 1])}
    assert len(silent) > 100
    sent = talk(FRAMES, payload=packets.__getitem__, silent=silent.__contains__)
    feeder = Feeder()
    out = run(feeder, travel(sent, Network(jitter=jitter, ordered=True), 2))
    counts = Counter(labels(out))
    assert counts[Label.CONCEALED] == counts[Label.FEC] == 0
    assert counts[Label.RECEIVED] == sum(not is_dtx(packets[n]) for n in range(FRAMES))
    assert counts[Label.DTX] == pytest.approx(len(silent), abs=30)
    assert feeder.inbound.statistics().jumps == 0
    assert max(at - before for (before, _), (at, _) in pairwise(out)) < 0.065


def test_a_stall_is_delivered() -> None:
    begin = START + DELAY + 2.001
    arrivals = travel(opus_talk(), Network(ordered=True, stalls=[(begin, begin + 0.3)]))
    feeder = Feeder()
    out = run(feeder, arrivals)
    assert Counter(labels(out)) == {Label.RECEIVED: FRAMES}
    assert feeder.inbound.statistics().late == 0


def test_opus_is_passed_on_as_it_is() -> None:
    sent = opus_talk(fec=True)
    arrivals = travel(sent, Network())
    out = run(Feeder(audio_format=PASSED), arrivals[:100] + arrivals[101:])
    expected = [each.packet.payload for each in sent]
    expected[100] = b""
    assert [frame.audio for _, frame in out] == expected
    assert labels(out)[99:102] == [Label.RECEIVED, Label.CONCEALED, Label.RECEIVED]


def test_copies_are_passed_on() -> None:
    sent = opus_talk()
    arrivals = travel(redundant(sent), Network())
    out = run(Feeder(audio_format=PASSED), arrivals[:100] + arrivals[101:])
    assert [frame.audio for _, frame in out] == [each.packet.payload for each in sent]
    assert labels(out)[99:102] == [Label.RECEIVED, Label.FEC, Label.RECEIVED]


def test_two_copies_fill_two_holes() -> None:
    sent = opus_talk()
    arrivals = travel(redundant(sent, 2, 1), Network())
    tardy = [each._replace(at=arrivals[104].at + 0.001) for each in arrivals[100:102]]
    patient = JitterLimits(delay_min=0.03, delay_max=0.2, steady=False)
    feeder = Feeder(audio_format=PASSED, limits=patient)
    out = run(feeder, sorted(arrivals[:100] + arrivals[102:] + tardy))
    assert [frame.audio for _, frame in out] == [each.packet.payload for each in sent]
    assert labels(out)[99:103] == [Label.RECEIVED, Label.FEC, Label.FEC, Label.RECEIVED]
    assert feeder.inbound.drops == {"jitter-duplicate": 2}


def test_g711_has_no_packets_to_pass_on() -> None:
    with pytest.raises(LocalProtocolError):
        Inbound(PCMU, PASSED, LIMITS)


@pytest.mark.parametrize("audio_format", [PCM_8, PCM_24])
def test_pcmu(audio_format: AudioFormat) -> None:
    encoder = open_encoder("PCMU", 24_000, EncoderSettings(0, 0, fec=False, dtx=False))
    pcm = spoken()
    packets = [encoder.encode(pcm[at : at + 960]) for at in range(0, len(pcm), 960)]
    sent = talk(FRAMES, clock_rate_hz=8_000, payload=packets.__getitem__, payload_type=0)
    arrivals = travel(sent, Network(jitter=0.01, ordered=True))
    out = run(Feeder(PCMU, audio_format), arrivals[:200] + arrivals[201:])
    expected = [Label.RECEIVED] * FRAMES
    expected[200] = Label.CONCEALED
    assert labels(out) == expected
    rate_hz = audio_format.rate_hz
    reference = speech(FRAMES / 50, rate_hz, 7)
    assert len(sound(out)) == pytest.approx(len(reference), abs=rate_hz // 25)
    heard = aligned(reference, sound(out), rate_hz)
    assert log_spectral_distance(speech(10, 8_000, 7), heard, 8_000) < 6 or rate_hz != 8_000


def test_comfort_noise_is_silence() -> None:
    sent = talk(150, clock_rate_hz=8_000, payload=lambda _: b"\xd5" * 160, payload_type=0)
    noise = sent[50].packet._replace(payload_type=13, payload=b"\x40")
    arrivals = travel([*sent[:50], Sent(sent[50].at, noise)], Network())
    later = [
        Sent(at, packet._replace(sequence_number=packet.sequence_number - 49))
        for at, packet in sent[100:]
    ]
    out = run(Feeder(PCMU, PCM_24), arrivals + travel(later, Network()))
    assert labels(out) == [Label.RECEIVED] * 50 + [Label.DTX] * 50 + [Label.RECEIVED] * 50
    assert {frame.audio for _, frame in out[50:100]} == {bytes(960)}


def test_audio_level() -> None:
    profile_and_words = encode_extensions({1: b"\x85", 4: b"0"})
    [(at, packet)] = opus_talk()[:1]
    out = run(Feeder(), [Arrival(at, packet._replace(extension=profile_and_words))])
    assert out[0][1].level == AudioLevel(voice=True, level=5)
    feeder = Feeder()
    out = run(feeder, [Arrival(at, packet._replace(extension=(0xBEDE, b"\x11\x00\x00\x00")))])
    assert out[0][1].level is None
    assert feeder.inbound.drops == {"rtp-audio-level": 1}


def event(packet: RtpPacket, first: RtpPacket, code: int, *, end: bool) -> RtpPacket:
    duration = (packet.timestamp - first.timestamp + 960) & 0xFFFF
    payload = bytes((code, 0x80 * end | 10)) + duration.to_bytes(2)
    return packet._replace(payload_type=126, payload=payload, timestamp=first.timestamp)


def test_digits() -> None:
    """As libwebrtc sends them: in place of sound, with the timestamp of their begin."""
    sent = opus_talk()[:200]
    for begin, code in ((50, 1), (100, 11)):
        first = sent[begin].packet
        for number in range(begin, begin + 12):
            at, packet = sent[number]
            sent[number] = Sent(at, event(packet, first, code, end=number >= begin + 9))
    feeder = Feeder()
    out = run(feeder, travel(sent, Network(loss=0.1), seed=3))
    assert feeder.digits == [Digit("1", 1.0), Digit("#", 2.0)]
    assert set(labels(out)[50:62]) == {Label.DTX}


def test_digits_are_bounded() -> None:
    inbound = Inbound(OPUS, PCM_24, LIMITS)
    [(at, packet)] = opus_talk()[:1]
    for number in range(50):
        first = packet._replace(sequence_number=number, timestamp=number * 9600)
        inbound.receive(event(first, first, 5, end=True), at)
    assert len(list(iter(inbound.next_digit, None))) == 32
    assert inbound.drops["digit-queue-full"] == 18


def test_garbage_is_counted_and_concealed() -> None:
    sent = opus_talk()[:60]
    bad = {
        20: sent[20].packet._replace(payload=b"\xff"),  # code 3 without its frame count
        30: sent[30].packet._replace(payload_type=63, payload=b"\xff"),
        40: sent[40].packet._replace(payload_type=99),
    }
    sent = [Sent(at, bad.get(n, packet)) for n, (at, packet) in enumerate(sent)]
    feeder = Feeder()
    out = run(feeder, travel(sent, Network()))
    assert feeder.inbound.drops == {
        "opus-malformed": 1,
        "redundancy-truncated": 1,
        "payload-type": 1,
    }
    assert [n for n, label in enumerate(labels(out)) if label is Label.CONCEALED] == [20, 30, 40]
