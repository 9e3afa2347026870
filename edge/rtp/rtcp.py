"""RTCP compound packets (RFC 3550 §6), reduced-size ones included (RFC 5506).

Every packet in a compound begins with the same four bytes, followed by its body.

| bytes | content |
| --- | --- |
| 0 | version 2 (2 bits), padding (1), count (5) |
| 1 | packet type |
| 2..3 | length of the body in 32-bit words |
"""

from collections.abc import Sequence
from struct import Struct, error
from typing import Final, TypeAlias

from attrs import frozen

from edge.errors import LocalProtocolError, RtpError

COMPOUND_MAX: Final = 16
"""Packets that we read in one compound; the clients we know send five at most."""
COUNT_MAX: Final = 31
"""Report blocks, chunks or sources in one packet: what the five count bits can say."""

_HEADER = Struct("!BBH")
_SSRC = Struct("!I")
_SENDER = Struct("!IQIII")  # SSRC, NTP timestamp, RTP timestamp, packet count, octet count
_BLOCK = Struct("!IIIIII")  # SSRC, fraction (8 bits) and lost (24), highest, jitter, LSR, DLSR

_SENDER_REPORT = 200
_RECEIVER_REPORT = 201
_SOURCE_DESCRIPTION = 202
_GOODBYE = 203
_CNAME = 1


@frozen
class ReportBlock:
    """How one source is received (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Share of packets lost since the previous report, in 1/256."""
    packets_lost: int
    """Since the beginning, signed 24 bits: duplicates and late packets can make it negative."""
    highest_sequence: int
    """Cycles (16 bits) and highest sequence number received (16 bits)."""
    jitter: int
    """Interarrival jitter, in ticks of the media clock."""
    last_sender_report: int
    """LSR: compact NTP timestamp of the last sender report from the source, 0 if none came."""
    delay_since_last: int
    """DLSR: time from that sender report to this block, in 1/65536 s."""


@frozen
class SenderReport:
    """SR: what the sender has sent, and how it receives others."""

    ssrc: int
    ntp_timestamp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    """Payload octets, without headers and padding."""
    blocks: tuple[ReportBlock, ...] = ()


@frozen
class ReceiverReport:
    """RR: how somebody who sends nothing receives others."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@frozen
class SourceDescription:
    """SDES: pairs of SSRC and CNAME. Chunks without a CNAME and all other items are left out."""

    cnames: tuple[tuple[int, bytes], ...]


@frozen
class Goodbye:
    """BYE: these sources leave."""

    ssrcs: tuple[int, ...]
    reason: bytes = b""


@frozen
class OtherPacket:
    """A packet of a type that is none of the above (feedback, APP, XR …), undecoded."""

    packet_type: int
    count: int
    """The five bits whose meaning depends on the type."""
    body: bytes


RtcpPacket: TypeAlias = SenderReport | ReceiverReport | SourceDescription | Goodbye | OtherPacket


def decode_rtcp(data: bytes) -> tuple[RtcpPacket, ...]:
    """Return the packets of a compound, at least one; any type may come first (RFC 5506).

    Raises:
        RtpError: ``rtcp-truncated``, ``rtcp-version``, ``rtcp-padding``, ``rtcp-report``,
            ``rtcp-description``, ``rtcp-goodbye``: the first part that does not fit; or
            ``rtcp-packet-count``, more than ``COMPOUND_MAX`` packets.

    """
    if not data:
        raise RtpError("rtcp-truncated")
    packets: list[RtcpPacket] = []
    start = 0
    while start < len(data):
        if len(packets) == COMPOUND_MAX:
            raise RtpError("rtcp-packet-count")
        if start + 4 > len(data):
            raise RtpError("rtcp-truncated")
        first, packet_type, words = _HEADER.unpack_from(data, start)
        if first >> 6 != 2:
            raise RtpError("rtcp-version")
        end = start + 4 + 4 * words
        if end > len(data):
            raise RtpError("rtcp-truncated")
        body = data[start + 4 : end]
        if first & 0x20:
            body = _remove_padding(body, last=end == len(data))
        packets.append(_decode_packet(packet_type, first & 0x1F, body))
        start = end
    return tuple(packets)


def encode_rtcp(packets: Sequence[RtcpPacket]) -> bytes:
    """Return ``packets`` as one compound, without padding.

    Raises:
        LocalProtocolError: more than 31 blocks, chunks or sources in a packet, a text of more than
            255 bytes, an integer out of range, or a body that is not a whole number of words.

    """
    return b"".join(_encode_packet(packet) for packet in packets)


def _remove_padding(body: bytes, *, last: bool) -> bytes:
    """Return ``body`` without its padding, which only a compound's last packet has (§6.4.1)."""
    padding = body[-1] if body else 0
    if not last or not padding or padding % 4 or padding > len(body):
        raise RtpError("rtcp-padding")
    return body[:-padding]


def _decode_packet(packet_type: int, count: int, body: bytes) -> RtcpPacket:
    if packet_type == _SENDER_REPORT:
        blocks = _decode_blocks(body, _SENDER.size, count)
        ssrc, ntp, rtp, packet_count, octet_count = _SENDER.unpack_from(body)
        return SenderReport(ssrc, ntp, rtp, packet_count, octet_count, blocks)
    if packet_type == _RECEIVER_REPORT:
        blocks = _decode_blocks(body, _SSRC.size, count)
        (ssrc,) = _SSRC.unpack_from(body)
        return ReceiverReport(ssrc, blocks)
    if packet_type == _SOURCE_DESCRIPTION:
        return _decode_description(body, count)
    if packet_type == _GOODBYE:
        return _decode_goodbye(body, count)
    return OtherPacket(packet_type, count, body)


def _decode_blocks(body: bytes, start: int, count: int) -> tuple[ReportBlock, ...]:
    """Return the blocks from ``start``; what follows them is a profile's own and ignored."""
    if len(body) < start + count * _BLOCK.size:
        raise RtpError("rtcp-report")
    blocks = []
    for index in range(count):
        ssrc, losses, highest, jitter, lsr, dlsr = _BLOCK.unpack_from(
            body, start + index * _BLOCK.size
        )
        lost = ((losses & 0xFF_FFFF) ^ 0x80_0000) - 0x80_0000
        blocks.append(ReportBlock(ssrc, losses >> 24, lost, highest, jitter, lsr, dlsr))
    return tuple(blocks)


def _decode_description(body: bytes, count: int) -> SourceDescription:
    """Read ``count`` chunks: SSRC, items (type, length, text), a zero byte, zeros up to a word."""
    cnames = []
    at = 0
    for _ in range(count):
        if at + 4 > len(body):
            raise RtpError("rtcp-description")
        (ssrc,) = _SSRC.unpack_from(body, at)
        at += 4
        while at < len(body) and body[at]:
            if at + 2 > len(body) or at + 2 + body[at + 1] > len(body):
                raise RtpError("rtcp-description")
            end = at + 2 + body[at + 1]
            if body[at] == _CNAME:
                cnames.append((ssrc, body[at + 2 : end]))
            at = end
        if at >= len(body):
            raise RtpError("rtcp-description")
        at += 4 - at % 4
    return SourceDescription(tuple(cnames))


def _decode_goodbye(body: bytes, count: int) -> Goodbye:
    end = 4 * count
    if end > len(body):
        raise RtpError("rtcp-goodbye")
    ssrcs = tuple(ssrc for (ssrc,) in _SSRC.iter_unpack(body[:end]))
    if end == len(body):
        return Goodbye(ssrcs)
    length = body[end]
    if end + 1 + length > len(body):
        raise RtpError("rtcp-goodbye")
    return Goodbye(ssrcs, body[end + 1 : end + 1 + length])


def _encode_packet(packet: RtcpPacket) -> bytes:
    try:
        packet_type, count, body = _encode_body(packet)
        header = _HEADER.pack(0x80 | count, packet_type, len(body) // 4)
    except (error, OverflowError, ValueError) as exc:
        raise LocalProtocolError(f"RTCP field out of range: {exc}") from exc
    if count > COUNT_MAX or len(body) % 4:
        raise LocalProtocolError(f"RTCP packet with count {count}, body of {len(body)} bytes")
    return header + body


def _encode_body(packet: RtcpPacket) -> tuple[int, int, bytes]:
    """Return packet type, count and body."""
    match packet:
        case SenderReport(ssrc, ntp, rtp, packet_count, octet_count, blocks):
            sender = _SENDER.pack(ssrc, ntp, rtp, packet_count, octet_count)
            return _SENDER_REPORT, len(blocks), sender + _encode_blocks(blocks)
        case ReceiverReport(ssrc, blocks):
            return _RECEIVER_REPORT, len(blocks), _SSRC.pack(ssrc) + _encode_blocks(blocks)
        case SourceDescription(cnames):
            chunks = b"".join(_encode_chunk(ssrc, cname) for ssrc, cname in cnames)
            return _SOURCE_DESCRIPTION, len(cnames), chunks
        case Goodbye(ssrcs, reason):
            text = bytes((len(reason),)) + reason if reason else b""
            body = b"".join(map(_SSRC.pack, ssrcs)) + text
            return _GOODBYE, len(ssrcs), body + bytes(-len(body) % 4)
        case OtherPacket(packet_type, count, body):
            return packet_type, count, body


def _encode_blocks(blocks: Sequence[ReportBlock]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            block.ssrc,
            int.from_bytes(
                bytes((block.fraction_lost,)) + block.packets_lost.to_bytes(3, "big", signed=True)
            ),
            block.highest_sequence,
            block.jitter,
            block.last_sender_report,
            block.delay_since_last,
        )
        for block in blocks
    )


def _encode_chunk(ssrc: int, cname: bytes) -> bytes:
    chunk = _SSRC.pack(ssrc) + bytes((_CNAME, len(cname))) + cname
    return chunk + bytes(4 - len(chunk) % 4)
