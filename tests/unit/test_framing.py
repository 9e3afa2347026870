"""Packets in a stream, and what becomes of those that nobody reads in time."""

from collections import Counter

import pytest

from edge.errors import FrameError
from edge.routing.framing import PacketReader, PacketWriter

MEDIA = b"\x80" + bytes(97)
DTLS = b"\x16" + bytes(97)
FRAMED_BYTES = 100


def packets(reader: PacketReader) -> list[bytes]:
    found: list[bytes] = []
    while (packet := reader.next_packet()) is not None:
        found.append(packet)
    return found


def test_the_layout_is_rfc_4571s() -> None:
    reader = PacketReader(1500)
    reader.receive(b"\x00\x03abc\x00\x01d")
    assert packets(reader) == [b"abc", b"d"]
    writer = PacketWriter(1000, 1.0, Counter())
    writer.push(b"abc", 0.0)
    assert writer.head(1000, 0.0) == b"\x00\x03abc"


def test_one_byte_at_a_time() -> None:
    reader = PacketReader(1500)
    found: list[bytes] = []
    for byte in b"\x00\x03abc\x00\x00\x00\x01d":
        reader.receive(bytes([byte]))
        found += packets(reader)
    assert found == [b"abc", b"d"], "the empty packet is none"


def test_a_packet_of_the_largest_size_and_one_beyond() -> None:
    reader = PacketReader(1500)
    reader.receive((1500).to_bytes(2) + bytes(1500))
    assert packets(reader) == [bytes(1500)]
    reader.receive(b"\x00\x01a" + (1501).to_bytes(2))
    assert reader.next_packet() == b"a", "what came before is whole"
    for _ in range(2):
        with pytest.raises(FrameError, match="tcp-packet-too-long"):
            reader.next_packet()


def test_a_reader_holds_two_packets() -> None:
    reader = PacketReader(100)
    assert reader.room == 204
    reader.receive((100).to_bytes(2) + bytes(99))
    assert packets(reader) == []
    assert reader.room == 103
    reader.receive(bytes(103))
    assert packets(reader) == [bytes(100)]
    with pytest.raises(AssertionError):
        reader.receive(bytes(205))


def make_writer() -> tuple[PacketWriter, Counter[str]]:
    drops: Counter[str] = Counter()
    return PacketWriter(5 * FRAMED_BYTES, 1.0, drops), drops


def numbered(kind: bytes, number: int) -> bytes:
    return kind[:-1] + bytes([number])


def waiting(writer: PacketWriter, now: float = 0.0) -> list[bytes]:
    data = writer.head(100_000, now)
    return [data[start + 2 : start + 100] for start in range(0, len(data), FRAMED_BYTES)]


def test_the_oldest_media_makes_room() -> None:
    writer, drops = make_writer()
    writer.push(DTLS, 0.0)
    for number in range(8):
        writer.push(numbered(MEDIA, number), 0.0)
    assert waiting(writer) == [DTLS, *(numbered(MEDIA, number) for number in range(4, 8))]
    assert drops == {"tcp-backlog-full": 4}
    assert len(writer) == 5 * FRAMED_BYTES


def test_without_media_the_oldest_of_all_makes_room() -> None:
    writer, drops = make_writer()
    for number in range(6):
        writer.push(numbered(DTLS, number), 0.0)
    assert waiting(writer) == [numbered(DTLS, number) for number in range(1, 6)]
    assert drops == {"tcp-backlog-full": 1}


def test_a_packet_that_is_begun_is_finished() -> None:
    writer, drops = make_writer()
    writer.push(numbered(MEDIA, 0), 0.0)
    writer.advance(1)
    for number in range(1, 8):
        writer.push(numbered(MEDIA, number), 0.0)
    assert len(writer) == 4 * FRAMED_BYTES + FRAMED_BYTES - 1
    head = writer.head(1, now=5.0)  # the rest of the first is all that is not too old
    assert head == (b"\x00\x62" + numbered(MEDIA, 0))[1:]
    assert drops == {"tcp-backlog-full": 3, "tcp-stale": 4}
    writer.advance(len(head))
    assert len(writer) == 0
    assert writer.head(1, 5.0) == b""


def test_what_is_larger_than_all_the_room_is_dropped_itself() -> None:
    writer, drops = make_writer()
    writer.push(bytes(600), 0.0)
    assert len(writer) == 0
    assert drops == {"tcp-backlog-full": 1}


def test_media_gets_old_and_nothing_else_does() -> None:
    writer, drops = make_writer()
    writer.push(numbered(MEDIA, 1), 0.0)
    writer.push(numbered(MEDIA, 2), 0.5)
    writer.push(numbered(DTLS, 3), 0.0)
    assert waiting(writer, 1.0) == [numbered(MEDIA, 1), numbered(MEDIA, 2), numbered(DTLS, 3)]
    assert waiting(writer, 1.2) == [numbered(MEDIA, 2), numbered(DTLS, 3)]
    assert waiting(writer, 9.0) == [numbered(DTLS, 3)]
    assert drops == {"tcp-stale": 2}
    assert len(writer) == FRAMED_BYTES


def test_a_head_is_about_as_long_as_asked_for() -> None:
    writer, _ = make_writer()
    for _ in range(5):
        writer.push(DTLS, 0.0)
    assert len(writer.head(150, 0.0)) == 200
    writer.advance(130)
    assert len(writer.head(1, 0.0)) == 70
    assert len(writer) == 370
