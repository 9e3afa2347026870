"""A backend that costs little: one process, one epoll, ``edge.media.v1``.

``python -m bench.media.backend ENCODING`` prints its port. For every frame of sound that it gets it
sends 20 ms of a voice, and some more for the first one, so that the playout does not run dry; all
of it is made beforehand. The handshake is the library's, the frames are read by hand. For each line
of input it prints what it has received so far, as JSON.
"""

import os
import select
import socket
import sys
from typing import Literal, get_args

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from edge.backend.native_messages import SOUND, SOUND_HEADER, SUBPROTOCOL
from tests.support.listening.stream import FRAME_BYTES, make_stream

Format = Literal["pcm16", "opus"]

VOICE_SECONDS = 10.0
AHEAD = 10
"""Frames that are sent for the first one."""
_ITEM = 1
_RECEIVE_BYTES = 65_536
_PONG = 0x8A
_BINARY, _CLOSE, _PING = 2, 8, 9


class Received(msgspec.Struct, frozen=True):
    connections: int
    frames: int
    """Of sound."""
    unsent: int
    """Frames that the appliance's socket had no room for."""


class Call:
    """One connection."""

    def __init__(self, opened: socket.socket, sounds: list[bytes], start: int) -> None:
        self.socket = opened
        self.frames = 0
        self.unsent = 0
        self._sounds = sounds
        self._next = start
        self._data = b""
        self._handshake: ServerProtocol | None = ServerProtocol(
            subprotocols=[Subprotocol(SUBPROTOCOL)]
        )

    def read(self) -> bool:
        """Take what has come and answer it; return False when the connection is over."""
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not data:
            return False
        if self._handshake is not None:
            self._shake_hands(data, self._handshake)
            return True
        return self._take(self._data + data)

    def _shake_hands(self, data: bytes, protocol: ServerProtocol) -> None:
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
                self._handshake = None
        self.socket.sendall(b"".join(protocol.data_to_send()))

    def _take(self, data: bytes) -> bool:
        """Walk over the frames, which are masked; only their lengths matter."""
        at, end, frames = 0, len(data), 0
        while end - at >= 6:
            opcode, length, start = data[at] & 0x0F, data[at + 1] & 0x7F, at + 6
            if length >= 126:
                if end - at < 14:
                    break
                wide = 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : at + 2 + wide])
                start += wide
            if start + length > end:
                break
            if opcode == _BINARY:
                frames += 1
            elif opcode == _PING:
                self._pong(data[start - 4 : start], data[start : start + length])
            elif opcode == _CLOSE:
                return False
            at = start + length
        self._data = data[at:]
        if frames:
            self._speak(frames if self.frames else frames + AHEAD)
            self.frames += frames
        return True

    def _pong(self, mask: bytes, data: bytes) -> None:
        clear = bytes(byte ^ mask[index & 3] for index, byte in enumerate(data))
        self._send(bytes((_PONG, len(clear))) + clear)

    def _speak(self, count: int) -> None:
        sounds, at = self._sounds, self._next
        self._next = (at + count) % len(sounds)
        if not self._send(b"".join(sounds[(at + index) % len(sounds)] for index in range(count))):
            self.unsent += count

    def _send(self, data: bytes) -> bool:
        try:
            return self.socket.send(data) == len(data)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True  # it is read next, and over


def make_sounds(encoding: Format) -> list[bytes]:
    """Return WebSocket frames with 20 ms of sound each."""
    stream = make_stream(VOICE_SECONDS, expected_loss=0.0, seed=2)
    if encoding == "opus":
        sounds = [sent.packet.payload for sent in stream.packets]
    else:
        voice = stream.voice
        sounds = [voice[at : at + FRAME_BYTES] for at in range(0, len(voice), FRAME_BYTES)]
    header = SOUND_HEADER.pack(SOUND, 0, _ITEM)
    return [Frame(Opcode.BINARY, header + each).serialize(mask=False) for each in sounds]


def serve(encoding: Format) -> None:
    sounds = make_sounds(encoding)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.settimeout(0.0)
    epoll = select.epoll()
    epoll.register(listener.fileno(), select.EPOLLIN)
    epoll.register(sys.stdin.fileno(), select.EPOLLIN)
    calls: dict[int, Call] = {}
    frames_ended = unsent_ended = 0
    print(listener.getsockname()[1], flush=True)
    while True:
        for fd, _ in epoll.poll():
            call = calls.get(fd)
            if call is not None:
                if not call.read():
                    epoll.unregister(fd)
                    del calls[fd]
                    call.socket.close()
                    frames_ended += call.frames
                    unsent_ended += call.unsent
            elif fd == listener.fileno():
                opened, _ = listener.accept()
                opened.settimeout(0.0)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                start = len(calls) * 37 % len(sounds)
                calls[opened.fileno()] = Call(opened, sounds, start)
                epoll.register(opened.fileno(), select.EPOLLIN)
            else:
                if not os.read(fd, 4096):
                    return
                frames = frames_ended + sum(each.frames for each in calls.values())
                unsent = unsent_ended + sum(each.unsent for each in calls.values())
                received = Received(len(calls), frames, unsent)
                print(msgspec.json.encode(received).decode(), flush=True)


if __name__ == "__main__":
    wanted = sys.argv[1]
    for known in get_args(Format):
        if wanted == known:
            serve(known)
