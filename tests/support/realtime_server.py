"""A server that speaks the OpenAI Realtime protocol, for tests and for trying the appliance.

Run it with ``python -m tests.support.realtime_server --port 8090``.
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from attrs import define, field
from trio_websocket import WebSocketRequest, serve_websocket

from tests.support.realtime_conversation import APPEND_BYTES_MAX, FakeConversation, FakeSettings


@define
class RealtimeServer:
    settings: FakeSettings
    port: int = 0
    conversations: list[FakeConversation] = field(factory=list)
    _opened: trio.Event = field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/realtime"

    async def wait_conversation(self, count: int = 1) -> FakeConversation:
        """Wait for the ``count``-th connection."""
        while len(self.conversations) < count:
            self._opened = trio.Event()
            await self._opened.wait()
        return self.conversations[count - 1]

    async def handle(self, request: WebSocketRequest) -> None:
        status = self.settings.refuse
        key = dict(request.headers).get(b"authorization", b"").decode("latin-1")
        if self.settings.key is not None and key != f"Bearer {self.settings.key}":
            status = 401
        if not request.path.startswith("/v1/realtime?") or "model=" not in request.path:
            status = 404
        if status is not None:
            await request.reject(status)
            return
        ws = await request.accept()
        conversation = FakeConversation(ws, request.path, self.settings)
        self.conversations.append(conversation)
        self._opened.set()
        await conversation.run()


@asynccontextmanager
async def open_realtime_server(
    settings: FakeSettings | None = None, *, port: int = 0
) -> AsyncIterator[RealtimeServer]:
    """Serve on the loopback interface until the block ends."""
    server = RealtimeServer(settings or FakeSettings())
    async with trio.open_nursery() as nursery:
        listening = await nursery.start(
            lambda task_status: serve_websocket(
                server.handle,
                "127.0.0.1",
                port,
                None,
                max_message_size=2 * APPEND_BYTES_MAX,
                task_status=task_status,
            )
        )
        server.port = listening.port
        yield server
        nursery.cancel_scope.cancel()


async def _main() -> None:
    parser = argparse.ArgumentParser(description="a fake Realtime server")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--key")
    parser.add_argument("--tone", type=float, default=3.0, help="seconds of each answer")
    arguments = parser.parse_args()
    settings = FakeSettings(key=arguments.key, tone=arguments.tone)
    async with open_realtime_server(settings, port=arguments.port) as server:
        print(server.url, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(_main)
