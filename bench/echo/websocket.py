"""A blocking WebSocket client around wsproto, small enough to have hundreds of."""

import socket
from typing import Any

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request, TextMessage

TIMEOUT = 10.0


class WebSocket:
    """One signaling connection. Messages are JSON objects."""

    def __init__(self, origin: str) -> None:
        host, _, port = origin.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), TIMEOUT)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._messages: list[dict[str, Any]] = []
        self._text = ""
        self._accepted = False
        request = Request(host=origin, target="/v1/session", subprotocols=["edge.v1"])
        self._socket.sendall(self._protocol.send(request))
        while not self._accepted:
            self.read()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: dict[str, Any]) -> None:
        text = msgspec.json.encode(message).decode()
        self._socket.sendall(self._protocol.send(TextMessage(data=text)))

    def receive(self) -> dict[str, Any]:
        """Wait for the next message."""
        while not self._messages:
            self.read()
        return self._messages.pop(0)

    def read(self) -> None:
        """Take in what has come, waiting for it if need be, and answer pings.

        Raises:
            ConnectionError: the server has closed the connection.

        """
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("the server has closed a signaling connection")
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            match event:
                case AcceptConnection():
                    self._accepted = True
                case Ping():
                    self._socket.sendall(self._protocol.send(event.response()))
                case TextMessage():
                    self._text += event.data
                    if event.message_finished:
                        self._messages.append(msgspec.json.decode(self._text))
                        self._text = ""
                case _:
                    raise ConnectionError(f"signaling ended: {event}")

    def close(self) -> None:
        self._socket.close()
