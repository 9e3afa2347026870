"""The appliance, and callers of it, on the hosts of a network of the test's own."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from edge.control.statistics import RelayStatistics, TransceiverStatistics
from edge.control.status import Status
from tests.support.appliance import Appliance, attended, write_config
from tests.support.caller import LiveCall, attribute, new_credentials, offer, peer_for_answer
from tests.support.netns import Namespace


@asynccontextmanager
async def appliance_on(host: Namespace, directory: Path, **config: Any) -> AsyncIterator[Appliance]:
    """Run an appliance on a host, for media and signaling at the host's address."""
    path = write_config(directory, host=host.address, **config)
    text = path.read_text().replace("127.0.0.1:0", f"{host.address}:0")
    path.write_text(text if "[access]" in text else f'{text}\n[access]\nopen = "on"\n')
    process = await trio.lowlevel.open_process(
        host.python("-m", "edge", "run", "--config", str(path)), stderr=subprocess.PIPE
    )
    async with attended(process, directory) as appliance:
        yield appliance


def relays_of(status: Status) -> list[RelayStatistics]:
    found = (worker.statistics for worker in status.workers)
    return [one for one in found if isinstance(one, RelayStatistics)]


def transceivers_of(status: Status) -> list[TransceiverStatistics]:
    found = (worker.statistics for worker in status.workers)
    return [one for one in found if isinstance(one, TransceiverStatistics)]


def owner_of(call: LiveCall) -> int:
    """Return the index of the transceiver worker that has a call."""
    return int(call.session.split(".")[1])


@asynccontextmanager
async def signaling_from(host: Namespace, origin: str) -> AsyncIterator[WebSocketConnection]:
    """Connect a host to the signaling endpoint at ``origin``."""
    address, _, port = origin.rpartition(":")
    tcp = host.open(trio.socket.AF_INET, trio.socket.SOCK_STREAM)
    with tcp:
        tcp.connect((address, int(port)))
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(tcp))
        async with trio.open_nursery() as nursery:
            with trio.fail_after(10):
                websocket = await wrap_client_stream(
                    nursery, stream, origin, "/v1/session", subprotocols=["edge.v1"]
                )
            yield websocket
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def session_from(
    host: Namespace, origin: str, *, setup: str = "actpass", **options: Any
) -> AsyncIterator[LiveCall]:
    """Open a session and stop there: no packet is sent. ``options`` are those of ``Peer``."""
    local = new_credentials()
    async with signaling_from(host, origin) as websocket:
        answer = await offer(websocket, local, setup)
        assert answer["type"] == "answer", answer
        call = LiveCall(
            peer_for_answer(answer["sdp"], local, **options),
            _open_udp(host),
            websocket,
            answer["session"],
            attribute(answer["sdp"], "ice-ufrag"),
            trio.current_time(),
            secret=answer["secret"],
            sdp=answer["sdp"],
        )
        try:
            yield call
        finally:
            call.udp.close()


def move(call: LiveCall, host: Namespace) -> None:
    """Go on from another port, and check from there at once."""
    old, call.udp = call.udp, _open_udp(host)
    old.close()
    call.peer.check(trio.current_time())


@asynccontextmanager
async def running(call: LiveCall) -> AsyncIterator[LiveCall]:
    """Start the client of a session; say goodbye afterwards."""
    call.peer.start(trio.current_time())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run_signaling)
        nursery.start_soon(call.run_media)
        yield call
        call.peer.close(trio.current_time())
        await call.flush()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def calling_from(host: Namespace, origin: str, **options: Any) -> AsyncIterator[LiveCall]:
    """Open a session from a host and start its client."""
    async with session_from(host, origin, **options) as call, running(call):
        yield call


def _open_udp(host: Namespace) -> trio.socket.SocketType:
    return trio.socket.from_stdlib_socket(host.udp())
