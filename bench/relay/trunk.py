"""The way between hosts against the way on one host: ``python -m bench.relay.trunk``.

One real relay worker, pinned to a core, and everything else in this process on another one: clients
that send and receive, and both a transceiver of the relay's host and one of another host. All
figures are processor time per packet of a client, so what waits for whom does not matter:

- *relay, in*: the relay worker takes packets from clients and sends them on in frames
- *relay, back*: the relay worker takes sealed frames and sends the packets to clients; on one host
  it has nothing to do with them
- *transceiver, in*: frames → rows. *transceiver, back*: rows → packets or frames, and sent

Each round measures both ways one right after the other. The table has medians and the range.
"""

import argparse
import os
import socket
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from bench.relay.contenders import check_for
from bench.relay.ours import CLUSTER, KEY, RECEIVE_BUFFER_BYTES, running_worker
from edge.fleet.map import Cluster, FleetKey, FleetMap, Member, Site
from edge.fleet.seal import HEADER, FrameOpener, FrameSealer, KeyRing, Place, entrance_id
from edge.routing import frames
from edge.routing.numbers import transceiver_number
from edge.routing.sockaddr import encode_sockaddr
from edge.routing.ufrag import UfragIssuer
from edge.trunk.answering import TransceiverTrunk, Way
from edge.trunk.settings import TrunkSettings
from edge.udp import ReceiveBatch, SendBatch, open_udp_socket

FLOWS = 100
PACKET_BYTES = 172
MEDIA = b"\x80" + bytes(PACKET_BYTES - 1)
RATE = 20_000
SECONDS = 1.0
ROUNDS = 7
TICK = 0.001
AT_ONCE = 2
"""Packets of one client, one right after the other."""
HERE, THERE = "127.0.0.2", "127.0.0.3"
FRAME_PORT, RELAY_PORT = 23_500, 23_600
ROWS_PER_FRAME = 20
"""What a busy transceiver answers at once."""
DECODED = 20_000
SITE = Site("site", "", 0.0, 0.0)
FLEET_KEY = FleetKey(1, bytes(range(32)))


@frozen
class Scene:
    """Everything around the relay worker."""

    relay_pid: int
    public: Place
    clients: Sequence[socket.socket]
    addresses: Sequence[bytes]
    internal: socket.socket
    """Of the transceiver on the relay's host."""
    trunk: TransceiverTrunk
    """Of the other one."""


def fleet() -> FleetMap:
    cluster, other = Cluster(CLUSTER, "here", SITE), Cluster(CLUSTER + 1, "there", SITE)
    here, there = Member("here", SITE, cluster, 0, HERE), Member("there", SITE, other, 0, THERE)
    return FleetMap(here, (here, there), (cluster, other), (SITE,), FRAME_PORT, RELAY_PORT, 1)


@contextmanager
def scene(core: int) -> Iterator[Scene]:
    with ExitStack() as undo:

        def udp(host: str, port: int = 0) -> socket.socket:
            return undo.enter_context(
                open_udp_socket(
                    host, port, receive_buffer_bytes=RECEIVE_BUFFER_BYTES, reuse_port=False
                )
            )

        internal, frames_in = udp("127.0.0.1"), udp(THERE, FRAME_PORT)
        relay_end = udp(HERE, RELAY_PORT)
        entrances = (entrance_id("203.0.113.5", 3478),)
        settings = TrunkSettings(relay_end, fleet(), (FLEET_KEY,), entrances)
        pid, port = undo.enter_context(running_worker([internal.getsockname()], core, 0, settings))
        clients = [udp("127.0.0.1") for _ in range(FLOWS)]
        trunk = TransceiverTrunk(TrunkSettings(frames_in, fleet(), (FLEET_KEY,), ()))
        yield Scene(
            pid,
            ("127.0.0.1", port),
            clients,
            [encode_sockaddr(*one.getsockname()) for one in clients],
            internal,
            trunk,
        )


def confirm(world: Scene, *, away: bool) -> Way | None:
    """Make flows of all clients to one of the transceivers; return the way back, if sealed."""
    cluster = CLUSTER + 1 if away else CLUSTER
    issuer = UfragIssuer(cluster, transceiver_number(0, 0), KEY, os.urandom)
    way = None
    for client, address in zip(world.clients, world.addresses, strict=True):
        client.sendto(check_for(issuer.issue(0)), world.public)
        if away:
            data, source = _receive(world.trunk.socket)
            arrival = world.trunk.open(memoryview(data), source)
            assert arrival is not None, world.trunk.drops
            way = arrival.way
            way.notify(frames.CONFIRM, [address])
            world.trunk.flush()
        else:
            _, source = _receive(world.internal)
            notice = frames.encode_frame(frames.CONFIRM, 0, 0, [frames.Row(address, 0, b"")])
            world.internal.sendto(notice, source)
    time.sleep(0.1)
    return way


def _receive(one: socket.socket) -> tuple[bytes, Place]:
    one.settimeout(5)
    data, source = one.recvfrom(65_536)
    one.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return data, source[:2]


def relay_in(world: Scene, rate: int, *, away: bool, back: Way | None = None) -> float:
    """Return the relay's µs per packet for what clients send.

    ``rate``: packets per second; 0: all that it takes. ``back``: a way by which as many come back
    meanwhile, whose cost is in the result.
    """
    outgoing = [SendBatch(one.fileno(), one.family) for one in world.clients]
    name = encode_sockaddr(*world.public)
    sink = Sink(world, away=away)
    sent = turn = 0
    start, used = time.perf_counter(), _used_ns(world.relay_pid)
    while (elapsed := time.perf_counter() - start) < SECONDS:
        while not rate or sent < elapsed * rate:
            for _ in range(AT_ONCE):
                outgoing[turn].add(MEDIA, name)
            outgoing[turn].flush()
            turn = (turn + 1) % FLOWS
            sent += AT_ONCE
            if back is not None:
                back.add(MEDIA, world.addresses[turn])
                back.add(MEDIA, world.addresses[turn])
            if not rate and turn == 0:
                break
        if back is not None:
            world.trunk.flush()
        sink.read()
        if rate:
            time.sleep(TICK)
    time.sleep(0.05)
    used = _used_ns(world.relay_pid) - used
    sink.read()
    return used / sink.rows / 1e3


class Sink:
    """Counts the rows that a relay sends on."""

    def __init__(self, world: Scene, *, away: bool) -> None:
        one = world.trunk.socket if away else world.internal
        self._batch = ReceiveBatch(one.fileno(), b"")
        self._head = HEADER.size if away else 0
        self.rows = 0

    def read(self) -> None:
        while count := self._batch.receive():
            for row in range(count):
                head = frames.HEADER.unpack_from(self._batch.payload(row), self._head)
                self.rows += head[4]


def relay_back(world: Scene, way: Way, rate: int) -> float:
    """Return the relay's µs per packet for what the transceiver elsewhere has for clients."""
    sent = turn = 0
    start, used = time.perf_counter(), _used_ns(world.relay_pid)
    while (elapsed := time.perf_counter() - start) < SECONDS:
        while sent < elapsed * rate:
            for _ in range(ROWS_PER_FRAME):
                way.add(MEDIA, world.addresses[turn])
                turn = (turn + 1) % FLOWS
            world.trunk.flush()
            sent += ROWS_PER_FRAME
        time.sleep(TICK)
    arrived = drain(world)
    used = _used_ns(world.relay_pid) - used
    if arrived < sent * 0.99:
        raise RuntimeError(f"{arrived} of {sent} packets came back")
    return used / sent / 1e3


def transceiver_in(*, away: bool) -> float:
    """Return µs per packet to take frames apart, which have as many rows as relays make."""
    ring, here, there = KeyRing((FLEET_KEY,)), (HERE, RELAY_PORT), (THERE, FRAME_PORT)
    rows = [frames.Row(bytes(28), 0, MEDIA)] * (6 if away else ROWS_PER_FRAME)
    frame = frames.encode_frame(frames.PACKETS, 0, 0, rows)
    count = DECODED // len(rows)
    if not away:
        view = memoryview(frame)
        return _timed(lambda: frames.decode_frame(view), count) / len(rows)
    sealer, opener = FrameSealer(ring, here, there), FrameOpener(ring, there)
    now = time.time()
    sealed = iter([memoryview(sealer.seal(bytes(6), (frame,), now)) for _ in range(count)])
    return _timed(
        lambda: frames.decode_frame(opener.open(next(sealed), here, now).frame), count
    ) / len(rows)


def transceiver_back(world: Scene, way: Way | None) -> float:
    """Return the transceiver's µs per packet to send what it has for clients."""
    if way is not None:

        def send() -> None:
            for address in world.addresses[:ROWS_PER_FRAME]:
                way.add(MEDIA, address)
            world.trunk.flush()
    else:
        out = SendBatch(world.internal.fileno(), world.internal.family)

        def send() -> None:
            for address in world.addresses[:ROWS_PER_FRAME]:
                out.add(MEDIA, address)
            out.flush()

    spent = _timed(send, 1000 // ROWS_PER_FRAME) / ROWS_PER_FRAME
    drain(world)
    return spent


def drain(world: Scene) -> int:
    """Read what has come to the clients; return how many packets."""
    time.sleep(0.1)
    arrived = 0
    for one in world.clients:
        batch = ReceiveBatch(one.fileno(), b"")
        while count := batch.receive():
            arrived += count
    return arrived


def _timed(verb: Callable[[], object], count: int) -> float:
    """Return the µs of processor time that one call takes."""
    start = time.process_time()
    for _ in range(count):
        verb()
    return (time.process_time() - start) / count * 1e6


def _used_ns(pid: int) -> int:
    schedule = Path(f"/proc/{pid}/schedstat").read_text()
    return int(schedule.split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.relay.trunk")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench.relay.trunk: needs two cores, one for the relay and one for the rest")
    os.sched_setaffinity(0, {cores[0]})
    found: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for away in (False, True) if number % 2 else (True, False):
            measure(cores[-1], found, away=away)
    print(f"{'µs of processor time per packet':45}{'one host':>22}{'two hosts':>22}{'ratio':>8}")
    for name in dict.fromkeys(name for name, _ in found):
        here, there = found[name, False], found[name, True]
        ratio = f"{statistics.median(there) / statistics.median(here):8.2f}" if here else ""
        print(f"{name:45}{_range(here):>22}{_range(there):>22}{ratio}")


def measure(core: int, found: dict[tuple[str, bool], list[float]], *, away: bool) -> None:
    """Measure everything of one way on a fresh relay."""
    with scene(core) as world:
        way = confirm(world, away=away)
        for rate, title in ((RATE, f"{RATE // 1000}k packets/s"), (0, "saturation")):
            found[f"relay, in, {title}", away].append(relay_in(world, rate, away=away))
        if way is not None:
            title = f"relay, back, {RATE // 1000}k packets/s"
            found[title, away].append(relay_back(world, way, RATE))
            drain(world)
        title = f"relay, in and back, {RATE // 1000}k packets/s each"
        found[title, away].append(relay_in(world, RATE, away=away, back=way))
        drain(world)
        found["transceiver, in", away].append(transceiver_in(away=away))
        found["transceiver, back", away].append(transceiver_back(world, way))


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
