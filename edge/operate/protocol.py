"""The control socket's language: one JSON document per line, a request and its reply in turn.

``do`` names a request and ``is`` a reply. Unknown fields are ignored on both sides and new fields
have defaults, so that the commands of one version can ask a supervisor of another; ``version``
changes only when that is not enough. docs/operating.md has the words for other programs.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from edge.control.inspection import SessionDetails, SessionLine
from edge.control.status import Status
from edge.errors import EdgeError

PROTOCOL_VERSION = 1
REQUEST_BYTES_MAX = 4096
REPLY_BYTES_MAX = 4 * 1024 * 1024
SESSIONS_SHOWN = 100
SESSIONS_SHOWN_MAX = 5000
"""Of one list: 1.5 MB of JSON."""
DEADLINE_MAX = 7 * 24 * 3600.0

SessionId = Annotated[str, Meta(min_length=1, max_length=128)]


class _Request(Struct, frozen=True, kw_only=True, tag_field="do"):
    version: int = PROTOCOL_VERSION
    is_order: ClassVar[bool] = False
    """It changes something, so that it is worth a line in the log."""


class AskStatus(_Request, frozen=True, kw_only=True, tag="status"):
    """Answered with ``TheStatus``."""


class AskSessions(_Request, frozen=True, kw_only=True, tag="sessions"):
    """Answered with ``TheSessions``: the first ``limit`` of all."""

    limit: Annotated[int, Meta(ge=1, le=SESSIONS_SHOWN_MAX)] = SESSIONS_SHOWN


class AskSession(_Request, frozen=True, kw_only=True, tag="session"):
    """Answered with ``TheSession``."""

    session: SessionId


class OrderEnd(_Request, frozen=True, kw_only=True, tag="end"):
    """End one session; its client is told ``going-away``."""

    session: SessionId
    is_order: ClassVar[bool] = True


class OrderDrain(_Request, frozen=True, kw_only=True, tag="drain"):
    """Take no new sessions; end those that are left after ``deadline`` seconds, if there is one."""

    deadline: Annotated[float, Meta(ge=0, le=DEADLINE_MAX)] | None = None
    is_order: ClassVar[bool] = True


class OrderUndrain(_Request, frozen=True, kw_only=True, tag="undrain"):
    """Take new sessions again."""

    is_order: ClassVar[bool] = True


class OrderReload(_Request, frozen=True, kw_only=True, tag="reload"):
    """Read the configuration again. What comes of it is in the log."""

    is_order: ClassVar[bool] = True


class OrderUpgrade(_Request, frozen=True, kw_only=True, tag="upgrade"):
    """Go on as the version that is installed now. What comes of it is in the log."""

    is_order: ClassVar[bool] = True


Request = (
    AskStatus
    | AskSessions
    | AskSession
    | OrderEnd
    | OrderDrain
    | OrderUndrain
    | OrderReload
    | OrderUpgrade
)


class TheStatus(Struct, frozen=True, kw_only=True, tag_field="is", tag="status"):
    status: Status


class TheSessions(Struct, frozen=True, kw_only=True, tag_field="is", tag="sessions"):
    sessions: list[SessionLine]
    total: int
    """How many there are, as the latest heartbeats tell."""
    silent: list[str]
    """Workers that did not answer in time."""


class TheSession(Struct, frozen=True, kw_only=True, tag_field="is", tag="session"):
    session: SessionDetails


class Agreed(Struct, frozen=True, kw_only=True, tag_field="is", tag="agreed"):
    """An order is carried out, or has begun to be."""

    message: str


class RefusalCode(StrEnum):
    BAD_REQUEST = "bad-request"
    VERSION = "version"
    """The protocol's is another."""
    BUSY = "busy"
    """Too many clients."""
    UNKNOWN_SESSION = "unknown-session"
    TIMEOUT = "timeout"
    """A worker does not answer."""
    NOT_NOW = "not-now"
    """The appliance is in no state for it."""
    FAULT = "fault"
    """A defect of the appliance, which its log describes."""


class Refused(Struct, frozen=True, kw_only=True, tag_field="is", tag="refused"):
    code: RefusalCode
    message: str


Reply = TheStatus | TheSessions | TheSession | Agreed | Refused


class OperatorError(EdgeError):
    """A request that is not carried out; the text is for the operator."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class _AnyVersion(Struct, frozen=True):
    version: int = PROTOCOL_VERSION


_encoder = msgspec.json.Encoder()
_version: msgspec.json.Decoder[_AnyVersion] = msgspec.json.Decoder(_AnyVersion)
_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_reply: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode_line(message: Request | Reply) -> bytes:
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read one line.

    Raises:
        OperatorError: ``bad-request``, or ``version``.

    """
    try:
        version = _version.decode(line).version
        if version != PROTOCOL_VERSION:
            text = f"this appliance speaks version {PROTOCOL_VERSION} of the control protocol"
            raise OperatorError(RefusalCode.VERSION, text)
        return _request.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise OperatorError(RefusalCode.BAD_REQUEST, str(exc)) from exc
    except RecursionError as exc:
        raise OperatorError(RefusalCode.BAD_REQUEST, "it is nested too deep") from exc


def decode_reply(line: bytes) -> Reply:
    """Read one line.

    Raises:
        ValueError: it is of another version of edge, or of something else.

    """
    try:
        return _reply.decode(line)
    except RecursionError as exc:
        raise ValueError("it is nested too deep") from exc
