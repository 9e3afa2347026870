"""ICE credentials: the grammar, and no password in a repr."""

import pytest

from edge.errors import LocalProtocolError
from edge.ice.credentials import Credentials, is_password, is_ufrag


@pytest.mark.parametrize("text", ["abcd", "A+/9", "x" * 256])
def test_ufrags(text: str) -> None:
    assert is_ufrag(text)
    assert Credentials(text, "p" * 22).ufrag == text


@pytest.mark.parametrize("text", ["", "abc", "x" * 257, "ab-d", "ab:d", "abcd\n", "abcé", "ab=="])
def test_what_is_no_ufrag(text: str) -> None:
    assert not is_ufrag(text)
    with pytest.raises(LocalProtocolError, match="ufrag"):
        Credentials(text, "p" * 22)


@pytest.mark.parametrize("text", ["", "p" * 21, "p" * 257, "p" * 21 + " ", "p" * 22 + "\n"])
def test_what_is_no_password(text: str) -> None:
    assert not is_password(text)
    with pytest.raises(LocalProtocolError, match="password"):
        Credentials("abcd", text)


def test_the_password_does_not_show_itself() -> None:
    assert repr(Credentials("abcd", "secret" * 4)) == "Credentials(ufrag='abcd')"
