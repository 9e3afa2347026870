"""examples/echo_backend.py, run as a person would, against our side of edge.media.v1."""

import json
import sys
from pathlib import Path

import trio
from trio_websocket import WebSocketConnection, connect_websocket_url, open_websocket_url

from edge.backend.dialect import SessionFacts
from edge.backend.native import NativeDialect
from edge.backend.native_messages import SUBPROTOCOL
from edge.media.dialogue import Clear, Command, Digit, Play
from edge.media.frames import AudioFormat, AudioFrame, Encoding, Label
from edge.media.payloads import Codec

EXAMPLE = Path(__file__).parents[2] / "examples" / "echo_backend.py"
FACTS = SessionFacts("session", "default", Codec.OPUS)


async def free_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return int(listener.socket.getsockname()[1])


async def wait_listening(url: str) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            try:
                ws = await connect_websocket_url(nursery, url, subprotocols=[SUBPROTOCOL])
            except OSError:
                await trio.sleep(0.05)
                continue
            assert ws.subprotocol == SUBPROTOCOL
            await ws.aclose()
            return


async def exchange(ws: WebSocketConnection, dialect: NativeDialect) -> Command:
    """Receive until the backend has said something that is a command."""
    while (command := dialect.next_command()) is None:
        dialect.receive(await ws.get_message())
    return command


async def test_the_example_echoes_and_clears() -> None:
    port = await free_port()
    url = f"ws://127.0.0.1:{port}"
    dialect = NativeDialect(AudioFormat(Encoding.PCM16, 24000))
    async with trio.open_nursery() as nursery:
        process = await nursery.start(trio.run_process, [sys.executable, EXAMPLE, str(port)])
        with trio.fail_after(20):
            await wait_listening(url)
            async with open_websocket_url(url, subprotocols=[SUBPROTOCOL]) as ws:
                dialect.open(FACTS, again=False)
                items = []
                for spoken in (b"\1\2" * 480, b"\3\4" * 480):
                    await send_all(ws, dialect)
                    frame = dialect.hear(AudioFrame(Label.RECEIVED, 0.0, 0.02, 0.0, spoken, None))
                    assert frame is not None
                    await ws.send_message(frame)
                    play = await exchange(ws, dialect)
                    assert isinstance(play, Play)
                    assert play.audio == spoken
                    items.append(play.item)
                    dialect.notify(Digit("5", 0.02))
                    await send_all(ws, dialect)
                    assert await exchange(ws, dialect) == Clear()
                assert items[0] != items[1]
                dialect.close("hang-up")
                await send_all(ws, dialect)
        assert dialect.drops == {}
        assert process.returncode is None  # it goes on serving others
        nursery.cancel_scope.cancel()


async def send_all(ws: WebSocketConnection, dialect: NativeDialect) -> None:
    while (message := dialect.next_message()) is not None:
        assert isinstance(message, str)
        assert json.loads(message)["type"] in {"start", "dtmf", "stop"}
        await ws.send_message(message)
