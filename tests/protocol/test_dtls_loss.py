"""Handshakes over terrible networks: all of them complete, by DtlsTransport's own repetitions."""

import statistics

import pytest

from edge.dtls.transport import HandshakeCompleted
from tests.protocol.test_dtls_handshake import both_told, dtls_link, keys
from tests.support.link import Link, Path

SEEDS = range(100)


def connect(seed: int, path: Path) -> Link:
    link = dtls_link(seed=seed, forward=path, backward=path)
    assert link.run(lambda: both_told(link), deadline=14.0), f"seed {seed}: {link.counts}"
    keys(link)
    return link


@pytest.mark.parametrize(
    ("loss", "median", "worst"), [(0.0, 0.041, 0.041), (0.1, 0.15, 1.0), (0.25, 0.4, 8.0)]
)
def test_loss_delays_and_never_prevents(loss: float, median: float, worst: float) -> None:
    times = [connect(seed, Path(loss=loss)).now for seed in SEEDS]
    assert statistics.median(times) <= median
    assert max(times) <= worst


def test_reordered_and_duplicated_datagrams_do_no_harm() -> None:
    path = Path(jitter=0.2, duplicate=0.5)
    duplicated = sum(connect(seed, path).counts["duplicated"] for seed in SEEDS)
    assert duplicated > len(SEEDS)


def test_everything_at_once() -> None:
    for seed in SEEDS:
        connect(seed, Path(loss=0.2, jitter=0.1, duplicate=0.2, delay=0.08))


def split(datagram: bytes) -> list[bytes]:
    """Split a datagram into one per record."""
    records, start = [], 0
    while start < len(datagram):
        end = start + 13 + int.from_bytes(datagram[start + 11 : start + 13])
        records.append(datagram[start:end])
        start = end
    return records


def backwards(datagram: bytes) -> list[bytes]:
    """Split it, plaintext handshake messages last one first, then the rest."""
    records = split(datagram)
    plain = [record for record in records if record[0] == 22 and record[3:5] == b"\0\0"]
    return plain[::-1] + [record for record in records if record not in plain]


def test_messages_in_datagrams_of_their_own() -> None:
    for seed in range(20):
        connect(seed, Path(alter=split, loss=0.1))


def test_messages_backwards() -> None:
    for seed in range(20):
        connect(seed, Path(alter=backwards, loss=0.1))


def test_lost_final_flight_is_sent_again_when_the_peer_repeats_its_own() -> None:
    link = dtls_link()
    assert link.run(lambda: bool(link.right.events), deadline=1.0)
    link._flying.clear()  # it was on its way
    assert link.run(lambda: bool(link.left.events), deadline=0.2)
    assert isinstance(link.left.events[0], HandshakeCompleted)


def test_lost_final_flight_is_sent_again_long_after_the_server_is_done() -> None:
    link = dtls_link()
    assert link.run(lambda: bool(link.right.events), deadline=1.0)
    link._flying.clear()
    link._backward = Path(loss=1.0)  # for longer than the server repeats it unasked
    assert not link.run(lambda: bool(link.left.events), deadline=1.0)
    link._backward = Path()
    assert link.run(lambda: bool(link.left.events), deadline=1.6)
    keys(link)


def test_final_flight_is_repeated_unasked_a_few_times() -> None:
    # An OpenSSL peer repeats its own flight only after a second, and never byte for byte.
    link = dtls_link()
    assert link.run(lambda: both_told(link), deadline=1.0)
    sent = link.counts["sent"]
    link.run(lambda: False, deadline=10.0)
    assert link.counts["sent"] == sent + 3
    assert link.left.machine.next_timeout() is None
    assert link.right.machine.next_timeout() is None


def test_answers_to_a_repeating_peer_are_limited() -> None:
    link = dtls_link()
    flights: list[bytes] = []

    def overhear(datagram: bytes) -> list[bytes]:
        flights.append(datagram)
        return [datagram]

    link._forward = Path(alter=overhear)
    assert link.run(lambda: both_told(link), deadline=1.0)
    link.run(lambda: False, deadline=5.0)
    sent = link.counts["sent"]
    for _ in range(100):
        link.inject(flights[-1], link.left.address, link.right.address)
    link.run(lambda: False, deadline=5.01)
    assert link.counts["sent"] == sent + 1
