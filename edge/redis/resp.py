"""Redis' protocol (RESP2): commands to bytes, bytes to replies.

An error reply is a value like others, a ``StoreError``, because it belongs to one command and says
nothing of the connection.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast

import hiredis

from edge.errors import StoreError
from edge.redis.bounds import Bounds

Reply: TypeAlias = "int | bytes | StoreError | Sequence[Reply] | None"
"""A simple string is bytes, like a bulk string."""
Argument = bytes | str | int

_REASONS: Final = {
    "DENIED": "redis-denied",
    "LOADING": "redis-loading",
    "MASTERDOWN": "redis-loading",
    "NOAUTH": "redis-denied",
    "NOPERM": "redis-denied",
    "OOM": "redis-out-of-memory",
    "READONLY": "redis-read-only",
    "WRONGPASS": "redis-denied",
    "WRONGTYPE": "redis-wrong-type",
}
_TEXT_MAX: Final = 200


def encode_command(*arguments: Argument) -> bytes:
    """Return a command as it travels."""
    packed: bytes = hiredis.pack_command(cast("Any", arguments))  # its stub is too narrow
    return packed


class Replies:
    """Cuts what a server sends into replies."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(
            protocolError=_ProtocolError, replyError=_reply_error, notEnoughData=_MORE
        )
        self._bounds = Bounds()

    def receive(self, data: bytes) -> list[Reply]:
        """Take bytes; return the replies that are complete now.

        Raises:
            StoreError: what came is not RESP2, or one reply is too long.

        """
        self._bounds.check(data)
        replies: list[Reply] = []
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                replies.append(reply)
        except _ProtocolError as exc:
            raise StoreError("redis-protocol", f"not a Redis server: {exc}") from exc
        return replies


class _More:
    """Stands for a reply that is not complete."""


_MORE: Final = _More()


class _ProtocolError(Exception):
    """What the parser raises."""


def _reply_error(text: str) -> StoreError:
    code = text.partition(" ")[0].removesuffix(":")
    return StoreError(_REASONS.get(code, "redis-refused"), text[:_TEXT_MAX])
