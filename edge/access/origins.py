"""Which web pages may call: the ``Origin`` header (RFC 6454) that browsers send and pages cannot.

A request without one does not come from a browser's page, so there is nobody to protect from the
page, and the client secret alone decides.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from attrs import frozen

ANY = "*"
LOOPBACK = "loopback"
OPAQUE = "null"

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_SCHEME_AND_HOST = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?P<wild>\*\.)?(?P<host>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?P<port>:[0-9]{1,5})?"
)
_LABEL = r"[a-z0-9_-]+"


@frozen
class OriginPattern:
    """One entry of the list of allowed origins."""

    text: str
    """``https://app.example.com``, ``https://*.example.com`` for one label in place of the star,
    ``loopback`` for pages of this machine, ``null`` for pages without an origin, ``*`` for all."""

    @classmethod
    def parse(cls, text: str) -> "OriginPattern":
        """Parse what an operator wrote.

        Raises:
            ValueError: not one of the above.

        """
        lowered = text.lower()
        if lowered in {ANY, LOOPBACK, OPAQUE}:
            return cls(lowered)
        match = _SCHEME_AND_HOST.fullmatch(lowered)
        if match is None:
            raise ValueError(
                f'{text!r} is not like "https://app.example.com" or "https://*.example.com" '
                f'(no path), "{LOOPBACK}", "{OPAQUE}" or "{ANY}"'
            )
        if match["wild"] and "." not in match["host"].strip("."):
            raise ValueError(f"{text!r} would allow strangers: the star stands for any site")
        if match["port"] and match["port"] == _DEFAULT_PORTS.get(match["scheme"]):
            lowered = lowered.removesuffix(match["port"])  # browsers leave it out
        return cls(lowered)

    def matches(self, origin: str) -> bool:
        """Return whether an origin, in lower case, is meant."""
        if self.text == ANY:
            return True
        if self.text == LOOPBACK:
            return _is_loopback(origin)
        if "://*." not in self.text:
            return origin == self.text
        before, after = self.text.split("*")
        return re.fullmatch(re.escape(before) + _LABEL + re.escape(after), origin) is not None


class AllowedOrigins:
    """The origins whose pages may call."""

    def __init__(self, patterns: Iterable[OriginPattern]) -> None:
        self._patterns = tuple(patterns)

    def allows(self, origin: str | None) -> bool:
        """Return whether a request with this ``Origin`` header, None without one, is welcome."""
        if origin is None:
            return True
        lowered = origin.lower()
        return any(pattern.matches(lowered) for pattern in self._patterns)


def _is_loopback(origin: str) -> bool:
    if _SCHEME_AND_HOST.fullmatch(origin) is None:
        return False
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
        if parts.scheme not in _DEFAULT_PORTS:
            return False
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
