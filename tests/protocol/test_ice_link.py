"""A controlling agent and the lite agent over a network that loses, doubles, reorders and moves."""

import random

import pytest

from edge.ice.agent import ConsentLost, IceEvent, IceLiteAgent, PairSelected, PeerValidated
from edge.ice.credentials import Credentials
from edge.machine import Address
from tests.support.controlling_agent import (
    CheckRefused,
    CheckSucceeded,
    ControllingAgent,
)
from tests.support.link import Endpoint, Link, Path

LOCAL = Credentials("YbzzFnV+ByDtEbRvszE+6OYL", "localpasswordlocalpassword")
REMOTE = Credentials("h6vY", "remotepasswordremotepassword")
CLIENT = Address("192.0.2.1", 40000)
MOVED = Address("203.0.113.5", 1234)
SERVER = Address("198.51.100.1", 3478)
LIMIT = 30.0


class Pair:
    """Both agents, joined."""

    def __init__(
        self, *, password: str = LOCAL.password, seed: int = 1, path: Path | None = None
    ) -> None:
        self.lite = IceLiteAgent(LOCAL, silence_limit=LIMIT)
        self.full = ControllingAgent(
            REMOTE,
            Credentials(LOCAL.ufrag, password),
            SERVER,
            random.Random(seed).randbytes,
        )
        self.client: Endpoint[CheckSucceeded | CheckRefused] = Endpoint(self.full, CLIENT)
        self.server: Endpoint[IceEvent] = Endpoint(self.lite, SERVER)
        self.link = Link(self.client, self.server, seed=seed, forward=path, backward=path)
        self.full.start(0.0)

    def nominated(self) -> bool:
        return any(isinstance(one, CheckSucceeded) and one.nominated for one in self.client.events)


def tapped_pair() -> tuple[Pair, list[bytes]]:
    """Return a pair that has nominated, and the list that every check it sends is added to."""
    heard: list[bytes] = []

    def tap(data: bytes) -> list[bytes]:
        if data[:2] == b"\x00\x01":
            heard.append(data)
        return [data]

    pair = Pair(path=Path(alter=tap))
    assert pair.link.run(pair.nominated, deadline=1.0)
    return pair, heard


def test_the_pair_is_found_and_nominated() -> None:
    pair = Pair()
    assert pair.link.run(pair.nominated, deadline=1.0)
    assert pair.client.events[0] == CheckSucceeded(CLIENT, nominated=False)
    assert pair.server.events == [PeerValidated(CLIENT), PairSelected(CLIENT)]
    assert pair.lite.statistics().nominated


@pytest.mark.parametrize("seed", range(10))
def test_it_is_found_on_a_terrible_network(seed: int) -> None:
    path = Path(loss=0.4, delay=0.05, jitter=0.3, duplicate=0.2)
    pair = Pair(seed=seed, path=path)
    assert pair.link.run(pair.nominated, deadline=10.0)
    pair.link.run(lambda: False, deadline=20.0)
    assert pair.server.events == [PeerValidated(CLIENT), PairSelected(CLIENT)]


def test_a_client_that_moves_takes_its_media_along() -> None:
    pair = Pair()
    assert pair.link.run(pair.nominated, deadline=1.0)
    pair.client.address = MOVED
    assert pair.link.run(lambda: pair.lite.selected == MOVED, deadline=pair.link.now + 0.2)
    assert pair.server.events[2:] == [PeerValidated(MOVED), PairSelected(MOVED)]


def test_an_eavesdropper_who_replays_every_check_moves_nothing() -> None:
    pair, heard = tapped_pair()
    pair.link.run(lambda: False, deadline=5.05)
    answered = pair.lite.statistics().checks_answered
    for check in heard:
        pair.link.inject(check, MOVED, SERVER)
    pair.link.run(lambda: False, deadline=5.08)
    assert pair.lite.drops["replayed"] == len(heard) > 40
    assert pair.lite.statistics().checks_answered == answered
    assert pair.lite.selected == CLIENT
    assert not pair.lite.valid(MOVED)


def test_an_eavesdropper_who_overtakes_a_check_holds_media_until_the_next_one() -> None:
    pair, heard = tapped_pair()
    known = len(heard)
    assert pair.link.run(lambda: len(heard) > known, deadline=2.0)
    pair.link.inject(heard[-1], MOVED, SERVER)
    assert pair.link.run(lambda: pair.lite.selected == MOVED, deadline=pair.link.now)
    assert pair.link.run(lambda: pair.lite.selected == CLIENT, deadline=pair.link.now + 0.15)
    assert pair.lite.drops["replayed"] == 1


def test_without_the_password_there_is_only_silence() -> None:
    pair = Pair(password="p" * 24)
    assert not pair.link.run(lambda: bool(pair.client.events), deadline=3.0)
    assert not pair.server.events
    assert pair.lite.drops["bad-integrity"] >= 29
    assert pair.lite.next_timeout() is None


def test_a_client_that_vanishes_is_given_up_after_the_silence_limit() -> None:
    pair = Pair()
    assert pair.link.run(pair.nominated, deadline=1.0)
    pair.full.close(pair.link.now)
    last = pair.lite.statistics().last_check
    assert last is not None
    assert pair.link.run(lambda: ConsentLost() in pair.server.events, deadline=100.0)
    assert pair.link.now == last + LIMIT
