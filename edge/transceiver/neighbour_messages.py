"""What transceiver workers tell each other about sessions, as bytes on a stream.

One worker, the *accepting* one, has the client's signaling, another one owns the session. A
connection goes from the former to the latter. Requests are numbered by the accepting worker, each
``Open`` and ``Attach`` also names by its number the attachment that it makes: what is said about it
later, and what the session reports to it, carries that number. Messages are MessagePack. Between
the workers of a host they stand behind their length, four bytes in network order; between hosts
they are sealed (edge/fleet/secure.py). The two ends may be of different versions: fields that one
does not know are ignored, and those that it misses have defaults.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from edge.errors import LocalProtocolError
from edge.fleet.states import HostState
from edge.signal.host import SessionRequest, StateReport
from edge.signal.messages import ByeReason

MESSAGE_BYTES_MAX = 262_144
"""An offer has 64 KiB at most, an answer hardly more."""

_LENGTH_BYTES = 4


class Open(Struct, frozen=True, tag="open"):
    """Open a session."""

    number: int
    request: SessionRequest


class Attach(Struct, frozen=True, tag="attach"):
    """Attach to a session that lives."""

    number: int
    session: str
    secret: str | None
    """None: the accepting worker vouches for the client."""
    reports: bool
    """False: it is a visit, which takes the session from nobody."""

    def __repr__(self) -> str:
        return f"Attach(number={self.number}, session={self.session!r})"


class Restart(Struct, frozen=True, tag="restart"):
    """Answer a later offer."""

    number: int
    attachment: int
    sdp: str


class Close(Struct, frozen=True, tag="close"):
    """End the session. The attachment is over."""

    attachment: int
    reason: ByeReason


class Detach(Struct, frozen=True, tag="detach"):
    """Leave the session. The attachment is over."""

    attachment: int


class Opened(Struct, frozen=True, tag="opened"):
    """To ``Open`` and ``Attach``: done."""

    number: int
    session: str
    secret: str
    answer_sdp: str

    def __repr__(self) -> str:
        return f"Opened(number={self.number}, session={self.session!r})"


class Answered(Struct, frozen=True, tag="answered"):
    """To ``Restart``: done."""

    number: int
    answer_sdp: str


class Refused(Struct, frozen=True, tag="refused"):
    """To any request: the error that the session's owner raised."""

    number: int
    error: Literal["sdp", "signal", "access"]
    reason: str
    message: str
    retry_after: float | None = None


class Told(Struct, frozen=True, tag="told"):
    """A report of the session to an attachment: a Bye or an Error is the last."""

    attachment: int
    report: StateReport


Request = Open | Attach | Restart
ToOwner = Open | Attach | Restart | Close | Detach
ToHost = ToOwner | HostState
Reply = Opened | Answered | Refused
ToAccepting = Opened | Answered | Refused | Told

_encoder = msgspec.msgpack.Encoder()
_to_owner: msgspec.msgpack.Decoder[ToOwner] = msgspec.msgpack.Decoder(ToOwner)
_to_host: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)
_to_accepting: msgspec.msgpack.Decoder[ToAccepting] = msgspec.msgpack.Decoder(ToAccepting)


class LengthFraming:
    """Puts lengths before messages, and cuts a stream into messages again.

    It holds one incomplete message at most.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def frame(self, message: bytes) -> bytes:
        return len(message).to_bytes(_LENGTH_BYTES) + message

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the messages that they complete.

        Raises:
            LocalProtocolError: a message is too long: our two ends disagree.

        """
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            start = at + _LENGTH_BYTES
            size = int.from_bytes(buffer[at:start])
            if size > MESSAGE_BYTES_MAX:
                raise LocalProtocolError(f"a message of {size} bytes between workers")
            if len(buffer) - start < size:
                break
            at = start + size
            messages.append(bytes(buffer[start:at]))
        del buffer[:at]
        return messages


def encode_neighbour_message(message: ToOwner | ToAccepting) -> bytes:
    """Encode a message, without its length.

    Raises:
        LocalProtocolError: it is too long, or has text that is none.

    """
    try:
        body = _encoder.encode(message)
    except UnicodeEncodeError as exc:
        raise LocalProtocolError("a message between workers with a lone surrogate") from exc
    if len(body) > MESSAGE_BYTES_MAX:
        raise LocalProtocolError(f"a message of {len(body)} bytes between workers")
    return body


def decode_to_owner(data: bytes) -> ToOwner | None:
    """Decode a message. None: it is one that only the other end's version knows."""
    try:
        return _to_owner.decode(data)
    except msgspec.DecodeError:
        return None


def decode_to_host(data: bytes) -> ToHost | None:
    """Decode what another host asks or tells. None: as ``decode_to_owner``."""
    try:
        return _to_host.decode(data)
    except msgspec.DecodeError:
        return None


def decode_to_accepting(data: bytes) -> ToAccepting | None:
    """Decode a message. None: as ``decode_to_owner``."""
    try:
        return _to_accepting.decode(data)
    except msgspec.DecodeError:
        return None
