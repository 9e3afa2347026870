"""Forms with several parts, as browsers and HTTP libraries post them (RFC 7578).

The whole body is there already and bounded, so this is a matter of cutting it up.
"""

import re

from edge.errors import SignalError
from edge.signal.messages import ErrorCode

PARTS_MAX = 16
PART_HEAD_BYTES_MAX = 1_024

_BOUNDARY = re.compile(
    r';\s*boundary=(?:"(?P<quoted>[^"\\]{1,70})"|(?P<token>[\w!#$%&\'*+.^`|~-]{1,70}))\s*(?:;|$)',
    re.ASCII | re.IGNORECASE,
)
_NAME = re.compile(
    rb'^content-disposition:\s*form-data\s*;(?:[^\r\n]*;)?\s*name="?(?P<name>[\w-]{1,64})"?'
    rb"\s*(?:;|$)",
    re.IGNORECASE | re.MULTILINE,
)


def decode_form(body: bytes, content_type: str) -> dict[str, bytes]:
    """Return the parts of a form by their names. Of two with one name the first counts.

    Raises:
        SignalError: ``malformed-message``.

    """
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise _malformed("its Content-Type has no boundary")
    boundary = (match["quoted"] or match["token"]).encode("latin-1")
    # The line break before a boundary belongs to it (RFC 2046 section 5.1.1).
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, PARTS_MAX + 1)
    if not pieces[-1].startswith(b"--"):
        raise _malformed(f"it does not end, or has more than {PARTS_MAX} parts")
    parts: dict[str, bytes] = {}
    for piece in pieces[1:-1]:
        padding, _, rest = piece.partition(b"\r\n")
        head, separator, content = rest.partition(b"\r\n\r\n")
        name = _NAME.search(head[:PART_HEAD_BYTES_MAX].replace(b"\r\n", b"\n"))
        if padding.strip() or not separator or name is None:
            raise _malformed("a part of it has no name")
        parts.setdefault(name["name"].decode(), content)
    return parts


def _malformed(why: str) -> SignalError:
    return SignalError(ErrorCode.MALFORMED_MESSAGE, f"This is not a form that can be read: {why}.")
