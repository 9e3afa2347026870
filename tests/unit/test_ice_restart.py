"""ICE restart of the lite agent: two sets of credentials, and which of them counts when."""

import itertools

import pytest

from edge.errors import LocalProtocolError
from edge.ice.agent import (
    OVERLAP,
    QUIET,
    RESTART_TIMEOUT,
    ConsentLost,
    CredentialsRetired,
    IceEvent,
    IceLiteAgent,
    PairSelected,
    PeerValidated,
)
from edge.ice.credentials import Credentials
from edge.ice.stun import Success, decode_response, encode_request
from edge.machine import Address

OLD = Credentials("oldufrag", "o" * 24)
NEW = Credentials("newufrag", "n" * 24)
NEWER = Credentials("newerufrag", "m" * 24)
REMOTE = Credentials("h6vY", "remotepasswordremotepassword")
A = Address("192.0.2.1", 4001)
B = Address("192.0.2.2", 4002)
C = Address("192.0.2.3", 4003)
LIMIT = 30.0
HIGH, LOW = 2000, 1000


class Peer:
    """An agent whose address A was nominated at 0.0, and the checks that its peer sends it."""

    def __init__(self) -> None:
        self.agent = IceLiteAgent(OLD, silence_limit=LIMIT)
        self._serial = itertools.count()
        assert self.check(OLD, A, 0.0, nominate=True) == [PeerValidated(A), PairSelected(A)]

    def check(
        self,
        local: Credentials,
        source: Address,
        now: float,
        *,
        nominate: bool = False,
        priority: int = HIGH,
    ) -> list[IceEvent]:
        """Send a fresh check, expect its answer, and return what the agent said of it."""
        self.send(local, source, now, nominate=nominate, priority=priority)
        transmit = self.agent.next_datagram()
        assert transmit is not None
        assert transmit.destination == source
        assert isinstance(decode_response(transmit.data, local), Success)
        return self.events()

    def send(
        self,
        local: Credentials,
        source: Address,
        now: float,
        *,
        nominate: bool = False,
        priority: int = HIGH,
    ) -> None:
        request = encode_request(
            local=REMOTE,
            remote=local,
            priority=priority,
            tie_breaker=1,
            use_candidate=nominate,
            transaction_id=next(self._serial).to_bytes(12),
        )
        self.agent.receive_datagram(request, source, now)

    def events(self) -> list[IceEvent]:
        return list(iter(self.agent.next_event, None))

    def is_silent_to(self, local: Credentials, source: Address, now: float) -> bool:
        dropped = self.agent.drops["unknown-username"]
        self.send(local, source, now)
        return (
            self.agent.next_datagram() is None
            and self.agent.drops["unknown-username"] == dropped + 1
        )


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_until_the_client_comes_with_them_new_credentials_change_nothing(peer: Peer) -> None:
    peer.agent.restart(NEW, 1.0)
    assert peer.events() == []
    assert peer.check(OLD, A, 1.1) == []
    assert peer.check(OLD, B, 1.2, nominate=True) == [PeerValidated(B), PairSelected(B)]
    assert peer.agent.local == OLD


def test_media_stays_where_it_is_until_the_new_credentials_nominate(peer: Peer) -> None:
    peer.agent.restart(NEW, 0.1)
    assert peer.check(NEW, B, 0.2) == [PeerValidated(B)]
    assert peer.check(NEW, C, 0.3) == [PeerValidated(C)]
    assert peer.agent.selected == A
    assert peer.check(NEW, B, 0.4, nominate=True, priority=LOW) == [PairSelected(B)]
    assert peer.agent.local == NEW
    assert peer.agent.statistics().restarts == 1
    assert peer.agent.statistics().nominated


def test_a_restart_on_the_same_address_moves_nothing(peer: Peer) -> None:
    peer.agent.restart(NEW, 0.1)
    assert peer.check(NEW, A, 0.2) == []
    assert peer.check(NEW, A, 0.3, nominate=True) == []
    assert (peer.agent.selected, peer.agent.local) == (A, NEW)
    peer.agent.handle_timeout(0.3 + OVERLAP)
    assert peer.events() == [CredentialsRetired(OLD.ufrag)]
    assert peer.agent.valid(A)


def test_a_dead_network_is_left_without_waiting_for_nomination(peer: Peer) -> None:
    peer.agent.restart(NEW, 5.0)
    assert peer.check(NEW, B, 5.0 + QUIET) == [PeerValidated(B), PairSelected(B)]
    assert peer.check(NEW, C, 6.1, nominate=True, priority=LOW) == [
        PeerValidated(C),
        PairSelected(C),
    ], "what is selected was not nominated"


def test_old_credentials_are_answered_for_a_while_and_mean_nothing(peer: Peer) -> None:
    peer.agent.restart(NEW, 0.1)
    peer.check(NEW, B, 0.2, nominate=True)
    assert peer.agent.next_timeout() == 0.2 + OVERLAP
    assert peer.check(OLD, A, 0.3, nominate=True) == []
    assert peer.check(OLD, C, 3.0, nominate=True) == []
    assert peer.agent.selected == B
    assert not peer.agent.valid(C)
    assert peer.agent.valid(A), "media that is under way is taken"
    peer.agent.note_liveness(A, 4.0)

    peer.agent.handle_timeout(0.2 + OVERLAP)
    assert peer.events() == [CredentialsRetired(OLD.ufrag)]
    assert peer.is_silent_to(OLD, A, 6.0)
    assert not peer.agent.valid(A)
    assert peer.agent.next_timeout() == 0.2 + LIMIT, "consent is the new pair's"


def test_a_replayed_old_check_is_dropped_also_while_it_is_answered(peer: Peer) -> None:
    peer.agent.restart(NEW, 0.1)
    peer.check(NEW, B, 0.2, nominate=True)
    request = encode_request(
        local=REMOTE,
        remote=OLD,
        priority=1,
        tie_breaker=1,
        use_candidate=True,
        transaction_id=b"x" * 12,
    )
    peer.agent.receive_datagram(request, A, 0.3)
    assert peer.agent.next_datagram() is not None
    peer.agent.receive_datagram(request, C, 0.4)
    assert peer.agent.next_datagram() is None
    assert peer.agent.drops == {"replayed": 1}


def test_a_restart_that_fails_leaves_the_old_pair_alone(peer: Peer) -> None:
    peer.agent.restart(NEW, 1.0)
    peer.check(OLD, A, 1.1)
    assert peer.check(NEW, B, 1.2) == [PeerValidated(B)]
    for when in range(2, int(RESTART_TIMEOUT) + 2, 5):
        assert peer.check(OLD, A, float(when)) == []
    peer.agent.handle_timeout(1.0 + RESTART_TIMEOUT)
    assert peer.events() == [CredentialsRetired(NEW.ufrag)]
    assert (peer.agent.selected, peer.agent.local) == (A, OLD)
    assert peer.agent.statistics().nominated
    assert peer.is_silent_to(NEW, B, 32.0)
    assert not peer.agent.valid(B)
    assert peer.check(OLD, A, 32.1) == []
    assert peer.agent.statistics().restarts == 0


def test_consent_lost_during_a_restart_ends_it_like_any_other(peer: Peer) -> None:
    peer.agent.restart(NEW, 10.0)
    peer.agent.handle_timeout(LIMIT)
    assert peer.events() == [ConsentLost()]
    assert peer.agent.next_timeout() is None
    peer.agent.restart(NEWER, LIMIT)
    peer.agent.handle_timeout(100.0)
    assert peer.events() == []


def test_checks_of_the_restart_renew_consent(peer: Peer) -> None:
    peer.agent.restart(NEW, 20.0)
    peer.check(NEW, B, 29.9)
    peer.agent.handle_timeout(LIMIT)
    assert ConsentLost() not in peer.events()


def test_a_second_restart_takes_the_place_of_one_under_way(peer: Peer) -> None:
    peer.agent.restart(NEW, 0.1)
    peer.agent.restart(NEWER, 0.2)
    assert peer.events() == [CredentialsRetired(NEW.ufrag)]
    assert peer.is_silent_to(NEW, B, 0.3)
    assert peer.check(NEWER, B, 0.4, nominate=True) == [PeerValidated(B), PairSelected(B)]


def test_a_second_restart_keeps_where_the_peer_has_moved(peer: Peer) -> None:
    """Chromium sends from an address once a check from there was answered."""
    peer.agent.restart(NEW, 0.1)
    peer.check(NEW, B, 0.2)
    peer.agent.restart(NEWER, 0.3)
    assert peer.agent.valid(B)
    peer.check(NEWER, C, 0.4, nominate=True)
    assert peer.agent.valid(B), "the peer moves when it has the answer"
    assert peer.agent.selected == C


def test_a_second_restart_that_comes_to_nothing_leaves_nothing(peer: Peer) -> None:
    peer.agent.restart(NEW, 0.1)
    peer.check(NEW, B, 0.2)
    peer.agent.restart(NEWER, 0.3)
    peer.check(OLD, A, 20.0)
    peer.agent.handle_timeout(0.3 + RESTART_TIMEOUT)
    assert not peer.agent.valid(B)
    assert peer.agent.valid(A)


def test_one_restart_after_another(peer: Peer) -> None:
    peer.agent.restart(NEW, 0.1)
    peer.check(NEW, B, 0.2, nominate=True)
    peer.agent.restart(NEWER, 0.3)
    assert peer.check(OLD, A, 0.4) == [], "three kinds of credentials are answered"
    assert peer.check(NEWER, C, 0.5, nominate=True) == [
        CredentialsRetired(OLD.ufrag),
        PeerValidated(C),
        PairSelected(C),
    ]
    assert not peer.agent.valid(A)
    assert peer.agent.valid(B)
    assert peer.is_silent_to(OLD, A, 0.6)


def test_a_restart_before_the_first_check() -> None:
    agent = IceLiteAgent(OLD, silence_limit=LIMIT)
    agent.restart(NEW, 0.0)
    assert agent.next_timeout() == RESTART_TIMEOUT
    request = encode_request(
        local=REMOTE,
        remote=NEW,
        priority=1,
        tie_breaker=1,
        use_candidate=False,
        transaction_id=bytes(12),
    )
    agent.receive_datagram(request, A, 1.0)
    assert agent.selected == A
    assert agent.local == NEW


@pytest.mark.parametrize("known", [OLD, NEW])
def test_only_new_credentials_restart(peer: Peer, known: Credentials) -> None:
    peer.agent.restart(NEW, 0.1)
    with pytest.raises(LocalProtocolError):
        peer.agent.restart(known, 0.2)


def test_a_wrong_password_is_counted_for_the_credentials_that_were_named(peer: Peer) -> None:
    peer.agent.restart(NEW, 0.1)
    peer.send(Credentials(NEW.ufrag, OLD.password), B, 0.2)
    peer.send(Credentials(OLD.ufrag, NEW.password), B, 0.3)
    assert peer.agent.drops == {"bad-integrity": 2}
    assert peer.agent.next_datagram() is None
