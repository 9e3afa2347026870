"""The relay workers of this host, as a transceiver hears them and tells them of its clients.

Only they may send frames to the internal socket, and nobody speaks for another relay's TCP clients.
They are told which clients have authenticated, where they have asked, and which are nobody's here
any more.
"""

import socket
from collections import Counter
from collections.abc import Iterable, Sequence

from edge.errors import FrameError
from edge.routing import frames
from edge.trunk.answering import Way

Relay = tuple[str, int] | Way
"""Who gets a notice: a relay worker of this host by its internal address, or one elsewhere."""

_OF_TCP = frozenset({frames.PACKETS, frames.CLOSED})


class Relays:
    """All that there are. ``udp_sockets``: how many public sockets the host has."""

    def __init__(self, internal: socket.socket, udp_sockets: int, drops: Counter[str]) -> None:
        self._internal = internal
        self._udp_sockets = udp_sockets
        self._drops = drops
        self._trusted: frozenset[tuple[str, int]] = frozenset()
        self.places: list[tuple[str, int]] = []
        """Internal addresses, by index: relay i has the TCP clients of socket udp_sockets + i."""

    def trust(self, relays: Iterable[tuple[str, int]]) -> None:
        """Take frames from these internal addresses only. The order is that of their indices."""
        known = tuple(relays)
        self._trusted = frozenset(known)
        nameable = known[: frames.SOCKETS_MAX - self._udp_sockets]
        self.places[: len(nameable)] = nameable

    def open(self, data: memoryview, source: tuple[str, int]) -> frames.Frame | None:
        """Return a frame that a relay may send; count it if it may not."""
        if source not in self._trusted:
            self._drops["frame-from-stranger"] += 1
            return None
        try:
            frame = frames.decode_frame(data)
        except FrameError as exc:
            self._drops[exc.reason] += 1
            return None
        if frame.socket < self._udp_sockets:
            expected = frame.kind == frames.PACKETS
        else:
            expected = frame.kind in _OF_TCP and source in self._having(frame.socket)
        if not expected:
            self._drops["unexpected-frame"] += 1
            return None
        return frame

    def release(self, public_socket: int, way: Way | None, clients: Sequence[bytes]) -> None:
        """Tell all who may have flows of these clients that they are nobody's here any more.

        ``way``: how to reach the clients if they are behind another host's relay.
        """
        for relay in self._having(public_socket):
            self.notify(frames.RELEASE, public_socket, relay, clients)
        if way is not None:
            way.notify(frames.RELEASE, clients)

    def notify(self, kind: int, public_socket: int, relay: Relay, clients: Sequence[bytes]) -> None:
        """Tell one relay something about clients."""
        if isinstance(relay, Way):
            relay.notify(kind, clients)
            return
        for start in range(0, len(clients), frames.NOTICE_ROWS_MAX):
            part = clients[start : start + frames.NOTICE_ROWS_MAX]
            rows = (frames.Row(client, 0, b"") for client in part)
            notice = frames.encode_frame(kind, public_socket, 0, rows)
            try:
                self._internal.sendto(notice, socket.MSG_DONTWAIT, relay)
            except OSError:
                self._drops["notice-not-taken"] += 1

    def _having(self, public_socket: int) -> frozenset[tuple[str, int]]:
        """Return the relays that may have flows of a public socket."""
        if public_socket < self._udp_sockets:
            return self._trusted
        index = public_socket - self._udp_sockets
        return frozenset(self.places[index : index + 1])
