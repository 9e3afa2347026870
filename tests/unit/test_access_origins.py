"""Which pages may call."""

import pytest

from edge.access.origins import AllowedOrigins, OriginPattern


def allows(*patterns: str) -> AllowedOrigins:
    return AllowedOrigins(OriginPattern.parse(text) for text in patterns)


def test_without_an_origin_it_is_no_page() -> None:
    assert allows().allows(None)


@pytest.mark.parametrize(
    ("pattern", "origin", "allowed"),
    [
        ("https://app.example.com", "https://app.example.com", True),
        ("https://app.example.com", "HTTPS://App.Example.COM", True),
        ("https://app.example.com:443", "https://app.example.com", True),
        ("https://app.example.com:8443", "https://app.example.com:8443", True),
        ("https://app.example.com", "https://app.example.com:8443", False),
        ("https://app.example.com", "http://app.example.com", False),
        ("https://app.example.com", "https://app.example.com.evil.org", False),
        ("https://app.example.com", "https://app.example.com/", False),
        ("https://app.example.com", "https://app-example.com", False),
        ("https://app.example.com", "null", False),
        ("https://app.example.com", "", False),
        ("https://app.example.com", "https://app.example.com https://evil.org", False),
        ("https://*.example.com", "https://app.example.com", True),
        ("https://*.example.com", "https://a-1.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://.example.com", False),
        ("https://*.example.com", "https://a.b.example.com", False),
        ("https://*.example.com", "https://evil.org#.example.com", False),
        ("https://*.example.com", "https://evil.org/.example.com", False),
        ("https://*.example.com", "https://a@b.example.com", False),
        ("https://*.example.com", "https://appxexample.com", False),
        ("https://*.example.com", "https://app.example.com\n", False),
        ("https://*.example.com", "http://app.example.com", False),
        ("https://*.example.com:8443", "https://app.example.com:8443", True),
        ("https://*.example.com:8443", "https://app.example.com", False),
        ("null", "null", True),
        ("null", "https://app.example.com", False),
        ("*", "https://anything.example", True),
        ("*", "null", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080", True),
        ("loopback", "http://localhost", True),
        ("loopback", "http://localhost:8080", True),
        ("loopback", "https://127.0.0.1:8443", True),
        ("loopback", "http://127.9.9.9", True),
        ("loopback", "http://[::1]:8080", True),
        ("loopback", "http://localhost.evil.org", False),
        ("loopback", "http://127.0.0.1.evil.org", False),
        ("loopback", "http://192.0.2.1", False),
        ("loopback", "http://evil.org:80", False),
        ("loopback", "http://localhost@evil.org", False),
        ("loopback", "http://localhost:80:80", False),
        ("loopback", "http://[::1", False),
        ("loopback", "ftp://localhost", False),
        ("loopback", "null", False),
    ],
)
def test_one_pattern(pattern: str, origin: str, allowed: bool) -> None:
    assert allows(pattern).allows(origin) == allowed


def test_any_pattern_of_a_list_is_enough() -> None:
    origins = allows("https://a.example.com", "null")
    assert origins.allows("https://a.example.com")
    assert origins.allows("null")
    assert not origins.allows("https://b.example.com")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "https://",
        "https://app.example.com/",
        "https://app.example.com/page",
        "https://user@example.com",
        "https://*",
        "https://*.com",
        "https://*.com.",
        "https://a.*.example.com",
        "https://*.*.example.com",
        "https://*app.example.com",
        "*.example.com",
        "https://exämple.com",
        "https://app.example.com:",
        "https://app.example.com:123456",
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not like|strangers"):
        OriginPattern.parse(text)
