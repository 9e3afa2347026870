"""However a stream is cut, the same packets come out; what is written is what can be read."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FrameError
from edge.routing.framing import PacketReader, PacketWriter

PACKET_BYTES_MAX = 60


def read_all(stream: bytes, cuts: list[int]) -> tuple[list[bytes], bool]:
    """Feed a stream in pieces; return its packets, and whether it broke."""
    reader = PacketReader(PACKET_BYTES_MAX)
    found: list[bytes] = []
    at = 0
    for end in (*sorted(cuts), len(stream)):
        while at < end:
            assert reader.room > 0
            piece = stream[at : min(end, at + reader.room)]
            reader.receive(piece)
            at += len(piece)
            try:
                while (packet := reader.next_packet()) is not None:
                    found.append(packet)
            except FrameError:
                return found, True
    return found, False


def cuts_of(stream: bytes) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, len(stream)), max_size=20)


@given(st.data(), st.lists(st.binary(max_size=PACKET_BYTES_MAX), max_size=20))
def test_good_streams(data: st.DataObject, packets: list[bytes]) -> None:
    stream = b"".join(len(packet).to_bytes(2) + packet for packet in packets)
    expected = [packet for packet in packets if packet]
    assert read_all(stream, data.draw(cuts_of(stream))) == (expected, False)


@given(st.data(), st.binary(max_size=300))
def test_any_bytes(data: st.DataObject, stream: bytes) -> None:
    assert read_all(stream, data.draw(cuts_of(stream))) == read_all(stream, [])


@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=PACKET_BYTES_MAX),
            st.integers(0, 100),
        ),
        max_size=60,
    )
)
def test_a_slow_reader_gets_whole_packets_in_order(steps: list[bytes | int]) -> None:
    """Bytes are pushed, a number is how much the client takes then; each step is 0.1 s."""
    drops: Counter[str] = Counter()
    writer = PacketWriter(300, 1.0, drops)
    written = b""
    pushed: list[bytes] = []
    now = 0.0
    for number, step in enumerate(steps):
        now = number * 0.1
        if isinstance(step, bytes):
            pushed.append(step)
            writer.push(step, now)
            assert len(writer) <= 300
        else:
            count = min(step, len(writer.head(100, now)))
            written += writer.head(100, now)[:count]
            writer.advance(count)
    while head := writer.head(100, now):
        written += head
        writer.advance(len(head))
    got, broken = read_all(written, [])
    assert not broken
    assert len(got) + drops.total() == len(pushed)
    places = iter(pushed)
    assert all(packet in places for packet in got), "a subsequence of what was pushed"
