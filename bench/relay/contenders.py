"""The relays that are compared, and how each is started."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from socket import socket

from attrs import frozen

from bench.relay.build import BUILD
from bench.relay.ours import CLUSTER, KEY, RECEIVE_BUFFER_BYTES, running_worker
from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.routing.ufrag import UfragIssuer
from edge.udp import open_udp_socket

STOP_TIMEOUT = 5.0


@frozen
class Contender:
    """One relay. ``command`` is a peer's; ours has none."""

    name: str
    title: str
    frames: bool
    """Sends batch frames; otherwise each datagram is one row."""
    command: tuple[str | Path, ...] = ()
    coalesce_us: int = 0


GO = Contender("go", "Go, published way", frames=False, command=(BUILD / "single",))
GO_BATCHED = Contender(
    "go_batched", "Go, recvmmsg/sendmmsg", frames=False, command=(BUILD / "batched",)
)
C_DATAGRAMS = Contender(
    "c", "C, recvmmsg/sendmmsg", frames=False, command=(BUILD / "relay", "datagrams")
)
C_FRAMES = Contender("c_frame", "C, batch frames", frames=True, command=(BUILD / "relay", "frames"))
TRIO = Contender(
    "trio",
    "Trio, recvfrom/sendto",
    frames=False,
    command=(sys.executable, "-m", "bench.relay.trio_relay"),
)
OURS = Contender("ours", "edge relay", frames=True)
OURS_COALESCING = Contender(
    "ours_coalescing", "edge relay, coalesce_us = 200", frames=True, coalesce_us=200
)
ALL = (GO, GO_BATCHED, C_DATAGRAMS, C_FRAMES, TRIO, OURS, OURS_COALESCING)


@frozen
class Running:
    """A started relay with the sockets that stand for its transceivers."""

    contender: Contender
    pid: int
    port: int
    sinks: tuple[socket, ...]

    def checks(self, flows: int) -> Sequence[bytes]:
        """Return a STUN request for each flow, the sinks in turn, as sessions of their own."""
        return _checks(flows, len(self.sinks), routed=not self.contender.command)


@contextmanager
def running(contender: Contender, transceivers: int, core: int) -> Iterator[Running]:
    """Start a relay, pinned to a core, in front of so many transceivers."""
    with ExitStack() as undo:
        sinks = [
            undo.enter_context(
                open_udp_socket(
                    "127.0.0.1", 0, receive_buffer_bytes=RECEIVE_BUFFER_BYTES, reuse_port=False
                )
            )
            for _ in range(transceivers)
        ]
        addresses = [("127.0.0.1", one.getsockname()[1]) for one in sinks]
        if contender.command:
            started = _running_peer(contender.command, addresses, core)
        else:
            started = running_worker(addresses, core, contender.coalesce_us)
        pid, port = undo.enter_context(started)
        yield Running(contender, pid, port, tuple(sinks))


@contextmanager
def _running_peer(
    command: Sequence[str | Path], transceivers: Sequence[tuple[str, int]], core: int
) -> Iterator[tuple[int, int]]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # inherited, so that Go counts one processor
    try:
        peer = subprocess.Popen(
            [*command, *(str(port) for _, port in transceivers)], stdout=subprocess.PIPE, text=True
        )
    finally:
        os.sched_setaffinity(0, cores)
    with peer:
        try:
            assert peer.stdout is not None
            word, port = peer.stdout.readline().split()
            assert word == "ready"
            yield peer.pid, int(port)
        finally:
            peer.kill()  # whatever the caller made of SIGTERM
            peer.wait(STOP_TIMEOUT)


@cache
def _checks(flows: int, transceivers: int, *, routed: bool) -> list[bytes]:
    """Return STUN requests with routed ufrags; peers read the number after the "t" instead."""
    issuers = [UfragIssuer(CLUSTER, index, KEY, os.urandom) for index in range(transceivers)]
    return [
        check_for(issuers[flow % transceivers].issue(0) if routed else f"t{flow % transceivers:03}")
        for flow in range(flows)
    ]


def check_for(ufrag: str) -> bytes:
    """Return a STUN request for a ufrag."""
    return stun.encode_request(
        local=Credentials("load", "p" * 24),
        remote=Credentials(ufrag, "p" * 24),
        priority=1,
        tie_breaker=1,
        use_candidate=False,
        transaction_id=os.urandom(12),
    )
