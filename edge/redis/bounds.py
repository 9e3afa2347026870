"""How large a reply may be, and whether what a server sends keeps to it. A core: it does no I/O.

A parser makes a list as long as an array's header says, before one element has come, and lists
within lists: twelve bytes, a few times, are enough to stop a worker for minutes. So what comes is
followed here first, item by item, as far as headers and lengths go. What is beyond the bounds, and
what is not RESP2, which is all that we ask for, never reaches the parser.
"""

import re
from typing import Final

from edge.errors import StoreError

REPLY_BYTES_MAX: Final = 1_048_576
"""Of one reply: what a server sends beyond it would stop the worker for too long."""
ELEMENTS_MAX: Final = 8_192
"""Of all arrays in one reply. The names of all registered hosts are the most that is asked for."""
DEPTH_MAX: Final = 3
"""Arrays in arrays: a master says its ROLE so, with a list of replicas that are lists."""
LINE_BYTES_MAX: Final = 8_192
"""Of a line with its end: a simple string, an error, a number, or a header."""

_TYPES: Final = frozenset(b"+-:$*")
_ARRAY, _STRING = b"*$"
_SIZE: Final = re.compile(rb"-1|0|[1-9][0-9]{0,18}")
"""As strict as the parser: no sign, no zeros before it. -1 is for null."""


class Bounds:
    """Follows one connection's replies."""

    def __init__(self) -> None:
        self._line = b""
        """The part that has come of a line."""
        self._string_left = 0
        """Bytes of a string, and of its line end, that have not come."""
        self._open: list[int] = []
        """Of each array around the next item: how many elements are left."""
        self._elements = 0
        self._bytes = 0
        """Of the reply, with all that its headers have announced."""

    def check(self, data: bytes) -> None:
        """Follow what came next; the parser may have it then.

        Raises:
            StoreError: it is not RESP2, or a reply is too long; the connection is of no use.

        """
        at = self._string_left
        received = self._line + data if self._line else data
        while at < len(received):
            if received[at] not in _TYPES:
                raise StoreError("redis-protocol", "not a Redis server: no such type in RESP2")
            end = received.find(b"\r\n", at, at + LINE_BYTES_MAX) + 2
            if end < 2:
                break
            at = end + self._begin_item(received, at, end)
        self._string_left = max(0, at - len(received))
        self._line = received[at:]
        if len(self._line) >= LINE_BYTES_MAX:
            raise StoreError("redis-reply-too-long", "an endless line")

    def _begin_item(self, received: bytes, at: int, end: int) -> int:
        """Count the item with this first line; return how many bytes follow that belong to it."""
        while self._open and not self._open[-1]:
            self._open.pop()
        if self._open:
            self._open[-1] -= 1
        else:
            self._elements = self._bytes = 0
        kind, following = received[at], 0
        if kind == _STRING:
            size = _decode_size(received[at + 1 : end - 2])
            following = size + 2 if size >= 0 else 0
        elif kind == _ARRAY:
            self._open_array(_decode_size(received[at + 1 : end - 2]))
        self._bytes += end - at + following
        if self._bytes > REPLY_BYTES_MAX:
            raise StoreError("redis-reply-too-long", f"more than {REPLY_BYTES_MAX} bytes")
        return following

    def _open_array(self, size: int) -> None:
        if size <= 0:
            return
        self._open.append(size)
        self._elements += size
        if self._elements > ELEMENTS_MAX:
            raise StoreError("redis-reply-too-long", f"more than {ELEMENTS_MAX} elements")
        if len(self._open) > DEPTH_MAX:
            raise StoreError("redis-protocol", f"arrays nested deeper than {DEPTH_MAX}")


def _decode_size(text: bytes) -> int:
    if _SIZE.fullmatch(text) is None:
        raise StoreError("redis-protocol", "not a Redis server: a length that is none")
    return int(text)
