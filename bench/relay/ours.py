"""Our relay, the real worker, in a process started the way the supervisor starts it."""

import multiprocessing
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from edge import process, relay
from edge.control import messages
from edge.memory import HeldMemory
from edge.routing.shared import table_bytes
from edge.routing.ufrag import RoutingKey
from edge.trunk.settings import TrunkSettings
from edge.udp import open_udp_socket

CLUSTER = 1
KEY = RoutingKey(0, bytes(range(16)))
RECEIVE_BUFFER_BYTES = 4 << 20
FLOWS_MAX = 100_000
FLOW_GENERATION = 15.0
BOOT_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0


@contextmanager
def running_worker(
    transceivers: Sequence[tuple[str, int]],
    core: int,
    coalesce_us: int,
    trunk: TrunkSettings | None = None,
) -> Iterator[tuple[int, int]]:
    """Run one relay worker; yield its process id and its public port."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["edge.preload"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    flow_memory = HeldMemory.create("bench-flows", table_bytes(FLOWS_MAX))
    with ours, _udp() as public, _udp() as internal, closing(flow_memory):
        settings = relay.RelaySettings(
            index=0,
            cluster=CLUSTER,
            core=core,
            public=(public,),
            internal=internal,
            transceivers=tuple(transceivers),
            keys=(KEY,),
            flows_max=FLOWS_MAX,
            flow_generation=FLOW_GENERATION,
            flow_memory=flow_memory,
            coalesce=coalesce_us / 1e6,
            trunk=trunk,
        )
        with theirs:
            frame = process.Frame("relay-0", theirs, "info", journal=False)
            child = context.Process(target=relay.run, args=(frame, settings), daemon=True)
            child.start()
        ours.settimeout(BOOT_TIMEOUT)
        message = messages.decode_from_worker(ours.recv(messages.MESSAGE_BYTES_MAX))
        assert isinstance(message, messages.Ready), message
        assert child.pid is not None
        try:
            yield child.pid, public.getsockname()[1]
        finally:
            ours.send(messages.encode_message(messages.Stop(0.0)))
            child.join(STOP_TIMEOUT)
            assert child.exitcode == process.EX_OK, child.exitcode


def _udp() -> socket.socket:
    return open_udp_socket(
        "127.0.0.1", 0, receive_buffer_bytes=RECEIVE_BUFFER_BYTES, reuse_port=True
    )
