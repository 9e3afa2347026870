"""When a link tries again, when it gives up, and what it does not show."""

import pytest

from edge.backend.endpoint import Endpoint
from edge.backend.policy import Failure, LinkEnd, LinkSettings, Retries, end_after
from edge.errors import BackendError, ConfigError

SETTINGS = LinkSettings("ws://backend.example/", attempts=4, backoff=0.2, backoff_max=0.5)
LOST = BackendError(Failure.LOST)


def test_delays_double_up_to_the_limit() -> None:
    retries = Retries(SETTINGS, again=False, now=0.0)
    assert [retries.next_delay(LOST, 0.0, 0.0) for _ in range(4)] == [0.2, 0.4, 0.5, None]


def test_chance_takes_up_to_half_of_a_delay() -> None:
    retries = Retries(SETTINGS, again=False, now=0.0)
    assert retries.next_delay(LOST, 1.0, 0.0) == 0.1


def test_a_lost_connection_is_replaced_until_the_time_is_over() -> None:
    retries = Retries(SETTINGS, again=True, now=100.0)
    assert retries.next_delay(LOST, 0.0, 129.7) == 0.2
    assert retries.next_delay(LOST, 0.0, 129.7) is None
    assert retries.end(LOST) is LinkEnd.LOST


def test_many_failures_do_not_overflow() -> None:
    retries = Retries(SETTINGS, again=True, now=0.0)
    assert [retries.next_delay(LOST, 0.0, 1.0) for _ in range(5000)][-1] == 0.5


@pytest.mark.parametrize(
    ("failure", "end"),
    [
        (Failure.CLOSED, LinkEnd.HUNG_UP),
        (Failure.REFUSED, LinkEnd.REFUSED),
        (Failure.UNTRUSTED, LinkEnd.REFUSED),
        (Failure.PROTOCOL, LinkEnd.PROTOCOL),
        (Failure.LOST, None),
        (Failure.TIMEOUT, None),
        (Failure.UNAVAILABLE, None),
        (Failure.UNREACHABLE, None),
    ],
)
def test_some_failures_are_final(failure: Failure, end: LinkEnd | None) -> None:
    error = BackendError(failure)
    assert end_after(error) is end
    retries = Retries(SETTINGS, again=False, now=0.0)
    assert (retries.next_delay(error, 0.0, 0.0) is None) == (end is not None)
    assert retries.end(error) is (end or LinkEnd.UNREACHABLE)


def test_keys_are_in_no_repr() -> None:
    settings = LinkSettings(
        "wss://u:SECRET@backend.example/a?key=SECRET", headers=(("Authorization", "SECRET"),)
    )
    endpoint = Endpoint.parse(settings.url, settings.headers)
    assert "SECRET" not in repr(settings) + repr(endpoint) + str(endpoint)
    assert str(endpoint) == "wss://backend.example:443"


def test_an_ipv6_address_is_shown_with_its_brackets() -> None:
    assert str(Endpoint.parse("ws://[2001:db8::1]:81/")) == "ws://[2001:db8::1]:81"


@pytest.mark.parametrize(
    "url", ["http://a/", "ws:///x", "ws://a:99999/", "ws://a/#f", "ws://user@a/", "", "ws://[::1/"]
)
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ConfigError) as info:
        Endpoint.parse(url)
    assert not url or url not in str(info.value)
