"""A client that says what it is told to and keeps what it hears.

``Peer`` sends numbered frames, which only an echo sends back. A ``Talker`` sends real payloads, and
reports on what it receives as browsers do, only more often.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from attrs import frozen

from edge.audio import g711
from edge.audio.codecs import open_decoder
from edge.audio.opus import OpusEncoder
from edge.errors import RtpError, SrtpError
from edge.rtp.packet import RtpPacket, decode_rtp, encode_rtp
from edge.rtp.rtcp import ReceiverReport, ReportBlock, encode_rtcp
from tests.support.caller import OPUS, LiveCall, calling
from tests.support.peer import PAYLOAD_TYPE, Peer

FRAMES_PER_SECOND = 50
REPORT_INTERVAL = 0.25
SILENT_BYTES_MAX = 2
"""Of an Opus packet that says there is silence."""
LOUD = 1_000
"""Of 32,768: more than any silence, less than any speech of ours."""
LEVEL_EXTENSION = "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
CODECS: Mapping[str, Mapping[int, str]] = {
    "opus": OPUS,
    "PCMU": {0: "PCMU/8000"},
    "PCMA": {8: "PCMA/8000"},
}


class Said(NamedTuple):
    """One packet."""

    payload: bytes
    payload_type: int = PAYLOAD_TYPE
    marker: bool = False
    timestamp: int | None = None
    """Ticks since the first slot; None: those of its own slot."""
    extension: tuple[int, bytes] | None = None
    lost: bool = False
    """It takes a sequence number and never arrives."""


class Arrival(NamedTuple):
    packet: RtpPacket
    at: float


Slots = Sequence[Sequence[Said]]
"""What is sent in each 20 ms, from the moment there are keys."""


class Talker(Peer):
    """One client. ``clock_rate_hz`` is its codec's."""

    def __init__(
        self,
        *arguments: Any,
        slots: Slots = (),
        repeat: bool = False,
        clock_rate_hz: int = 48_000,
        reports: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, frames=None if repeat else len(slots), **options)
        self.arrivals: list[Arrival] = []
        self.started_at: float | None = None
        """When the first slot was sent."""
        self.late = 0.0
        """Seconds that a slot was sent too late at worst: how busy this machine is."""
        self.slots = slots
        self._clock_rate_hz = clock_rate_hz
        self._sequence = 0
        self._report_at: float | None = None if reports else float("inf")

    @property
    def packets(self) -> list[RtpPacket]:
        return [each.packet for each in self.arrivals]

    def send_frame(self, now: float) -> None:
        number = self.record.sent
        if self.started_at is None:
            self.started_at = now
        self.late = max(self.late, now - self.started_at - number / FRAMES_PER_SECOND)
        for said in self.slots[number % len(self.slots)]:
            self.say(said, number * self._clock_rate_hz // FRAMES_PER_SECOND)
        self.record.sent += 1

    def say(self, said: Said, slot_ticks: int) -> None:
        """Send one packet whose slot begins so many ticks after the first one's."""
        assert self.srtp is not None
        ticks = slot_ticks if said.timestamp is None else said.timestamp
        packet = RtpPacket(
            said.payload_type,
            said.marker,
            self._sequence & 0xFFFF,
            ticks & 0xFFFF_FFFF,
            self.ssrc,
            said.payload,
            said.extension,
        )
        self._sequence += 1
        if not said.lost:
            self._transmit(self.srtp.protect_rtp(encode_rtp(packet)), self.server)

    def handle_timeout(self, now: float) -> None:
        super().handle_timeout(now)
        if self.arrivals and self._report_at is None:
            self._report_at = now + REPORT_INTERVAL
        if self._report_at is not None and now >= self._report_at and self.srtp is not None:
            self._report_at = now + REPORT_INTERVAL
            self._transmit(self.srtp.protect_rtcp(encode_rtcp([self._report()])), self.server)

    def next_timeout(self) -> float | None:
        earlier = super().next_timeout()
        if earlier is None or self._report_at is None:
            return earlier
        return min(earlier, self._report_at)

    def sound(self, codec: str, rate_hz: int, since: int = 0) -> bytes:
        """Return what was heard from packet ``since`` on, as PCM16, silent where nothing came."""
        decoder = open_decoder(codec, rate_hz)
        packets = self.packets[since:]
        pcm = bytearray()
        for packet in packets:
            ticks = (packet.timestamp - packets[0].timestamp) & 0xFFFF_FFFF
            start = 2 * (ticks * rate_hz // self._clock_rate_hz)
            pcm.extend(bytes(max(0, start - len(pcm))))
            if codec != "opus" or len(packet.payload) > SILENT_BYTES_MAX:
                pcm[start:] = decoder.decode(packet.payload)
        return bytes(pcm)

    def played(self, codec: str, rate_hz: int, count: int) -> bytes:
        """Return what the first packets carry, without the pauses between them."""
        decoder = open_decoder(codec, rate_hz)
        return b"".join(decoder.decode(each.payload) for each in self.packets[:count])

    def loud(self, codec: str = "opus") -> list[Arrival]:
        """Return the packets that carry more than silence."""
        decoder = open_decoder(codec, 8_000)
        found = []
        for arrival in self.arrivals:
            payload = arrival.packet.payload
            if codec == "opus" and len(payload) <= SILENT_BYTES_MAX:
                continue
            samples = memoryview(decoder.decode(payload)).cast("h")
            if max(map(abs, samples), default=0) > LOUD:
                found.append(arrival)
        return found

    def _report(self) -> ReceiverReport:
        numbers = [packet.sequence_number for packet in self.packets]
        highest, lost = max(numbers), max(numbers) - min(numbers) + 1 - len(set(numbers))
        ssrc = self.arrivals[0].packet.ssrc
        return ReceiverReport(self.ssrc, (ReportBlock(ssrc, 0, lost, highest, 0, 0, 0),))

    def _receive_rtp(self, data: bytes, now: float) -> None:
        if self.srtp is None:
            self.drops["media-before-keys"] += 1
            return
        try:
            self.arrivals.append(Arrival(decode_rtp(self.srtp.unprotect_rtp(data)), now))
        except (SrtpError, RtpError) as exc:
            self.drops[exc.reason] += 1


@frozen
class Conversation:
    """A call whose client is a talker."""

    call: LiveCall
    talker: Talker

    async def wait(self, predicate: Callable[[], bool], timeout: float = 10.0) -> None:
        await self.call.wait(predicate, timeout)

    async def wait_heard(self, packets: int = 1, timeout: float = 10.0) -> None:
        await self.wait(lambda: len(self.talker.arrivals) >= packets, timeout)

    async def wait_said(self, timeout: float = 60.0) -> None:
        """Wait until every slot has been sent."""
        await self.wait(lambda: self.talker.record.sent >= len(self.talker.slots), timeout)

    async def wait_state(self, layer: str, state: str = "connected") -> dict[str, Any]:
        return await self.call.wait_message(type="state", layer=layer, state=state)

    async def wait_bye(self, timeout: float = 10.0) -> str:
        return str((await self.call.wait_message(type="bye", timeout=timeout))["reason"])


def opus_payloads(pcm: bytes, rate_hz: int, *, fec: bool = False, dtx: bool = False) -> list[bytes]:
    """Encode whole frames of ``pcm`` as a browser would; with FEC, for a lossy network."""
    encoder = OpusEncoder(rate_hz, bitrate_bps=32_000, complexity=5, fec=fec, dtx=dtx)
    if fec:
        encoder.expect_loss(0.2)
    size = 2 * rate_hz // FRAMES_PER_SECOND
    return [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]


def g711_payloads(pcm: bytes, codec: str) -> list[bytes]:
    """Encode 8 kHz sound."""
    encode = g711.encode_ulaw if codec == "PCMU" else g711.encode_alaw
    return [encode(pcm[at : at + 320]) for at in range(0, len(pcm) - 319, 320)]


def said(
    payloads: Sequence[bytes],
    *,
    payload_type: int = PAYLOAD_TYPE,
    lost: frozenset[int] = frozenset(),
) -> Slots:
    """Return one packet per slot."""
    return [
        [Said(payload, payload_type, number == 0, lost=number in lost)]
        for number, payload in enumerate(payloads)
    ]


@asynccontextmanager
async def talking(
    origin: str,
    slots: Slots = (),
    *,
    codec: str = "opus",
    formats: Mapping[int, str] | None = None,
    route: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    drop: Callable[[bytes], bool] | None = None,
    **options: Any,
) -> AsyncIterator[Conversation]:
    """Open a session at ``origin`` that offers ``formats`` and audio levels, and talk.

    ``options`` are ``Talker``'s.
    """
    async with calling(
        origin,
        formats=formats or CODECS[codec],
        attributes=LEVEL_EXTENSION,
        route=route,
        metadata=metadata,
        drop=drop,
        kind=Talker,
        slots=slots,
        clock_rate_hz=48_000 if codec == "opus" else 8_000,
        **options,
    ) as call:
        assert isinstance(call.peer, Talker)
        yield Conversation(call, call.peer)
