#!/usr/bin/env python3
"""A backend for edge.media.v1 that says back what it hears. Put a model in place of ``answer``.

Start it with ``python echo_backend.py 8765`` for a route with the url ``ws://127.0.0.1:8765``.
"""

import json
import struct
import sys

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

HEARD = struct.Struct("<BBBBIqI")  # kind, label, flags, level, delay, media time, duration
SOUND = struct.Struct("<BBxxI")  # kind, flags, item


def answer(audio: bytes) -> bytes:
    """Turn 20 ms of what the client says into what the client hears: PCM16, little-endian."""
    return audio


async def serve_session(request: WebSocketRequest) -> None:
    ws = await request.accept(subprotocol="edge.media.v1")
    item = 1  # a new number for every answer
    try:
        while True:
            message = await ws.get_message()
            if isinstance(message, bytes):
                audio = answer(message[HEARD.size :])
                await ws.send_message(SOUND.pack(0x12, 0, item) + audio)
                continue
            event = json.loads(message)
            if event["type"] == "dtmf":  # a key interrupts
                await ws.send_message(json.dumps({"type": "clear"}))
                item += 1
    except ConnectionClosed:
        return


if __name__ == "__main__":
    trio.run(serve_websocket, serve_session, "127.0.0.1", int(sys.argv[1]), None)
