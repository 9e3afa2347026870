"""ICE short-term credentials: username fragment and password (RFC 8445 §5.3, RFC 8839 §5.4)."""

import re

from attrs import Attribute, field, frozen

from edge.errors import LocalProtocolError

_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")


def is_ufrag(text: str) -> bool:
    """Whether ``text`` is 4 to 256 ice-chars."""
    return _UFRAG.fullmatch(text) is not None


def is_password(text: str) -> bool:
    """Whether ``text`` is 22 to 256 ice-chars."""
    return _PASSWORD.fullmatch(text) is not None


@frozen
class Credentials:
    """One side's credentials. The password never shows in a repr.

    Raises:
        LocalProtocolError: a part is not in its grammar. Text from a peer is asked about with
            ``is_ufrag`` and ``is_password`` first.

    """

    ufrag: str = field()
    password: str = field(repr=False)

    @ufrag.validator
    def _check_ufrag(self, _: "Attribute[str]", value: str) -> None:
        if not is_ufrag(value):
            raise LocalProtocolError("a ufrag is 4 to 256 ice-chars")

    @password.validator
    def _check_password(self, _: "Attribute[str]", value: str) -> None:
        if not is_password(value):
            raise LocalProtocolError("an ICE password is 22 to 256 ice-chars")
