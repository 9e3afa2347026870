"""What each stage of the media path costs: processor time per frame of 20 ms, in a tight loop.

Pauses are encoded like speech. Caches are warm and nothing else runs in the process, so a worker
with many sessions takes more. Rounds of all stages take turns, so that a slow spell of the machine
hits all of them.
"""

import itertools
import random
import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Generic, TypeVar

from attrs import frozen

from bench.media.session import connect
from edge.audio.codecs import EncoderSettings
from edge.audio.opus import OpusDecoder, OpusEncoder, packet_ticks
from edge.backend.native import NativeDialect
from edge.backend.native_messages import SOUND, SOUND_HEADER
from edge.config.schema import MediaConfig
from edge.media.dialogue import HangUp, Notice, Play
from edge.media.frames import AudioFormat, AudioFrame, Encoding
from edge.media.inbound import Inbound
from edge.media.outbound import Outbound, PlayoutSettings
from edge.media.path import MediaPath
from edge.media.punctuality import Punctuality
from edge.rtp.jitter import JitterBuffer
from edge.rtp.packet import RtpPacket, encode_rtp
from edge.srtp.profile import SrtpKeying, SrtpProfile
from edge.srtp.session import SrtpSession
from tests.support.calls import CLIENT
from tests.support.listening.comparison import EAGER, STEADY
from tests.support.listening.stream import FRAME_BYTES, FRAME_TIME, OPUS_TYPE, PAYLOADS, make_stream

FRAMES = 400
"""Per stage and round."""
PCM = AudioFormat(Encoding.PCM16, 24_000)
OPUS = AudioFormat(Encoding.OPUS, 48_000)

ItemT = TypeVar("ItemT")


@frozen
class Stage:
    run: Callable[[], object]
    """Deals with one frame."""
    prepare: Callable[[], None] = lambda: None
    """Makes what a round needs."""


_config = MediaConfig()
_STREAM = make_stream(10.0, expected_loss=0.0)
_PAYLOADS = [sent.packet.payload for sent in _STREAM.packets]
_PCM_FRAMES = [
    _STREAM.voice[at : at + FRAME_BYTES] for at in range(0, len(_STREAM.voice), FRAME_BYTES)
]
_ITEM = "1.1"


def print_stages(rounds: int) -> dict[str, float]:
    """Print the table; return the medians in µs."""
    stages = make_stages()
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(rounds):
        for name, stage in stages.items():
            stage.prepare()
            run = stage.run
            began = time.process_time()
            for _ in range(FRAMES):
                run()
            times[name].append(1e6 * (time.process_time() - began) / FRAMES)
    print(f"Cost: CPU µs per frame of 20 ms, {rounds} rounds; {_config.bitrate_bps} bit/s")
    print(f"{'':44}{'median':>8}{'least':>8}{'greatest':>10}")
    for name, values in times.items():
        print(f"{name:44}{median(values):8.1f}{min(values):8.1f}{max(values):10.1f}")
    return {name: round(median(values), 1) for name, values in times.items()}


def make_stages() -> dict[str, Stage]:
    stages: dict[str, Stage] = {"Opus decode, 24 kHz": _decode()}
    stages["Opus conceal, 24 kHz"] = _conceal()
    for complexity in dict.fromkeys((_config.complexity, 0, 5, 9)):
        default = ", the default" if complexity == _config.complexity else ""
        stages[f"Opus encode, 24 kHz, complexity {complexity}{default}"] = _encode(complexity)
    stages["jitter buffer, eager"] = _buffer(steady=False)
    stages["jitter buffer, steady"] = _buffer(steady=True)
    stages["Inbound, Opus passed through"] = _inbound(OPUS)
    stages["Inbound, PCM 24 kHz"] = _inbound(PCM)
    stages["Outbound, Opus passed through"] = _outbound(OPUS)
    stages["Outbound, PCM 24 kHz"] = _outbound(PCM)
    stages["native dialect, both ways, PCM"] = _dialect()
    stages["SRTP, unprotect and protect"] = _srtp()
    stages["session both ways, Opus passed through"] = _session(OPUS)
    stages["session both ways, PCM 24 kHz"] = _session(PCM)
    return stages


def _decode() -> Stage:
    decoder, payloads = OpusDecoder(24_000), itertools.cycle(_PAYLOADS)
    return Stage(lambda: decoder.decode(next(payloads)))


def _conceal() -> Stage:
    decoder = OpusDecoder(24_000)
    for payload in _PAYLOADS[:50]:
        decoder.decode(payload)
    return Stage(lambda: decoder.conceal(480))


def _encode(complexity: int) -> Stage:
    encoder = OpusEncoder(
        24_000,
        bitrate_bps=_config.bitrate_bps,
        complexity=complexity,
        fec=_config.fec,
        dtx=False,
    )
    frames = itertools.cycle(_PCM_FRAMES)
    return Stage(lambda: encoder.encode(next(frames)))


class _Caller:
    """The client's packets without end, and the time at which each comes."""

    def __init__(self) -> None:
        self._payloads = itertools.cycle(_PAYLOADS)
        self._number = -1

    def next_packet(self) -> tuple[RtpPacket, float]:
        self._number = number = self._number + 1
        packet = RtpPacket(
            payload_type=OPUS_TYPE,
            marker=False,
            sequence_number=number & 0xFFFF,
            timestamp=number * 960 & 0xFFFF_FFFF,
            ssrc=1,
            payload=next(self._payloads),
        )
        return packet, number * FRAME_TIME


def _buffer(*, steady: bool) -> Stage:
    buffer, caller = JitterBuffer(48_000, STEADY if steady else EAGER), _Caller()

    def stage() -> None:
        packet, now = caller.next_packet()
        buffer.receive(packet, packet_ticks(packet.payload), now)
        while buffer.next_piece(now) is not None:
            pass
        buffer.next_timeout()

    return Stage(stage)


def _inbound(audio_format: AudioFormat) -> Stage:
    inbound, caller = Inbound(PAYLOADS, audio_format, EAGER), _Caller()

    def stage() -> None:
        packet, now = caller.next_packet()
        inbound.receive(packet, now)
        while inbound.next_frame(now) is not None:
            pass
        inbound.next_digit()
        inbound.next_timeout()

    return Stage(stage)


def _new_outbound(audio_format: AudioFormat) -> Outbound:
    settings = PlayoutSettings(
        EncoderSettings(_config.bitrate_bps, _config.complexity, _config.fec, dtx=False),
        "silence",
        _config.prebuffer,
        _config.playout_max,
    )
    entropy = random.Random(1).randbytes
    return Outbound(1, PAYLOADS, audio_format, settings, Punctuality(), entropy)


def _sounds(audio_format: AudioFormat) -> list[bytes]:
    return _PAYLOADS if audio_format is OPUS else _PCM_FRAMES


def _outbound(audio_format: AudioFormat) -> Stage:
    outbound, sounds = _new_outbound(audio_format), itertools.cycle(_sounds(audio_format))
    now = 0.0
    for _ in range(10):
        outbound.receive(Play(_ITEM, next(sounds)), now)

    def stage() -> None:
        nonlocal now
        outbound.receive(Play(_ITEM, next(sounds)), now)
        due = outbound.next_due()
        assert due is not None
        now = due
        assert outbound.next_packet(now) is not None
        while outbound.next_event() is not None:
            pass

    return Stage(stage)


class _Ear:
    """A listener that makes messages of what it hears and throws them away."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.dialect = NativeDialect(audio_format)

    def hear(self, frame: AudioFrame) -> None:
        self.dialect.hear(frame)

    def tell(self, notice: Notice) -> None:
        self.dialect.notify(notice)
        while self.dialect.next_message() is not None:
            pass


def _messages(audio_format: AudioFormat) -> "itertools.cycle[bytes]":
    header = SOUND_HEADER.pack(SOUND, 0, 1)
    return itertools.cycle([header + sound for sound in _sounds(audio_format)])


def _dialect() -> Stage:
    dialect, messages, inbound = NativeDialect(PCM), _messages(PCM), Inbound(PAYLOADS, PCM, EAGER)
    packet, now = _Caller().next_packet()
    inbound.receive(packet, now)
    frame = inbound.next_frame(now)
    assert frame is not None

    def stage() -> None:
        dialect.hear(frame)
        dialect.receive(next(messages))
        while dialect.next_command() is not None:
            pass

    return Stage(stage)


def _srtp() -> Stage:
    """Unprotect a packet of the client, protect it for the client."""
    first, second = bytes(range(28)), bytes(range(28, 56))
    ours = SrtpSession(SrtpKeying(SrtpProfile.AEAD_AES_128_GCM, local=first, remote=second))
    theirs = SrtpSession(SrtpKeying(SrtpProfile.AEAD_AES_128_GCM, local=second, remote=first))
    caller = _Caller()
    protected = _Ahead(lambda: theirs.protect_rtp(encode_rtp(caller.next_packet()[0])))
    return Stage(lambda: ours.protect_rtp(ours.unprotect_rtp(protected.take())), protected.fill)


def _session(audio_format: AudioFormat) -> Stage:
    """Take an SRTP packet and a message of the backend, make a message and an SRTP packet."""
    ear = _Ear(audio_format)
    inbound, outbound = Inbound(PAYLOADS, audio_format, EAGER), _new_outbound(audio_format)
    path = MediaPath(1, inbound, outbound, ear, 0.0)
    session, srtp, began_at = connect(path)
    caller, messages = _Caller(), _messages(audio_format)

    def protect() -> tuple[bytes, float]:
        packet, at = caller.next_packet()
        return srtp.protect_rtp(encode_rtp(packet)), began_at + at

    protected = _Ahead(protect)

    def stage() -> None:
        data, now = protected.take()
        session.answer_datagram(data, CLIENT, now)
        ear.dialect.receive(next(messages))
        while (command := ear.dialect.next_command()) is not None:
            assert not isinstance(command, HangUp)
            path.command(command, now)
        while (wake := session.next_media()) is not None and wake <= now:
            session.send_media(now)

    for sound in _sounds(audio_format)[:10]:
        path.command(Play(_ITEM, sound), began_at)
    return Stage(stage, protected.fill)


class _Ahead(Generic[ItemT]):
    """Things that are made before the time is taken."""

    def __init__(self, make: Callable[[], ItemT]) -> None:
        self._make = make
        self._made: deque[ItemT] = deque()

    def fill(self) -> None:
        self._made.extend(self._make() for _ in range(FRAMES))

    def take(self) -> ItemT:
        return self._made.popleft()
