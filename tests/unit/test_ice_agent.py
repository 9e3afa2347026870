"""The ICE-lite agent, one rule at a time."""

import itertools

import pytest

from edge.ice.agent import (
    TRANSACTIONS_MAX,
    VALID_ADDRESSES_MAX,
    ConsentLost,
    IceEvent,
    IceLiteAgent,
    PairSelected,
    PeerValidated,
)
from edge.ice.credentials import Credentials
from edge.ice.stun import Refusal, Success, decode_response, encode_request
from edge.machine import Address
from tests.support.stun_messages import CONTROLLED, PRIORITY, seal

LOCAL = Credentials("YbzzFnV+ByDtEbRvszE+6OYL", "localpasswordlocalpassword")
REMOTE = Credentials("h6vY", "remotepasswordremotepassword")
A = Address("192.0.2.1", 4001)
B = Address("192.0.2.2", 4002)
C = Address("2001:db8::3", 4003)
LIMIT = 30.0
HIGH, LOW = 2000, 1000


class Peer:
    """An agent under test, and the checks that its peer sends it."""

    def __init__(self) -> None:
        self.agent = IceLiteAgent(LOCAL, silence_limit=LIMIT)
        self._serial = itertools.count()

    def make_check(self, *, nominate: bool = False, priority: int = HIGH) -> bytes:
        return encode_request(
            local=REMOTE,
            remote=LOCAL,
            priority=priority,
            tie_breaker=1,
            use_candidate=nominate,
            transaction_id=next(self._serial).to_bytes(12, "big"),
        )

    def check(
        self, source: Address, now: float, *, nominate: bool = False, priority: int = HIGH
    ) -> list[IceEvent]:
        """Send a fresh check, expect its answer, and return what the agent said of it."""
        self.agent.receive_datagram(
            self.make_check(nominate=nominate, priority=priority), source, now
        )
        assert isinstance(self.answer(source), Success)
        return self.events()

    def answer(self, source: Address) -> Success | Refusal:
        transmit = self.agent.next_datagram()
        assert transmit is not None
        assert transmit.destination == source
        assert self.agent.next_datagram() is None
        return decode_response(transmit.data, LOCAL)

    def events(self) -> list[IceEvent]:
        return list(iter(self.agent.next_event, None))


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.mark.parametrize("source", [A, C])
def test_the_answer_goes_back_with_the_source_in_it(peer: Peer, source: Address) -> None:
    peer.agent.receive_datagram(peer.make_check(), source, 0.0)
    assert peer.answer(source) == Success(bytes(12), source)


def test_the_first_check_validates_and_selects(peer: Peer) -> None:
    assert not peer.agent.valid(A)
    assert peer.check(A, 0.0) == [PeerValidated(A), PairSelected(A)]
    assert peer.agent.valid(A)
    assert peer.agent.selected == A
    assert peer.check(A, 1.0) == []


def test_media_goes_to_the_first_valid_address_until_one_is_nominated(peer: Peer) -> None:
    peer.check(A, 0.0)
    assert peer.check(B, 0.1) == [PeerValidated(B)]
    assert peer.check(B, 0.2, nominate=True, priority=LOW) == [PairSelected(B)]
    assert peer.check(A, 0.3) == []
    assert peer.agent.selected == B


def test_nominating_the_selected_address_changes_nothing_to_be_told(peer: Peer) -> None:
    peer.check(A, 0.0)
    assert not peer.agent.statistics().nominated
    assert peer.check(A, 0.1, nominate=True) == []
    assert peer.agent.statistics().nominated


def test_a_lesser_nominated_address_does_not_move_live_media(peer: Peer) -> None:
    peer.check(A, 0.0, nominate=True)
    assert peer.check(B, 0.9, nominate=True, priority=LOW) == [PeerValidated(B)]
    assert peer.agent.selected == A


@pytest.mark.parametrize("priority", [HIGH, HIGH + 1])
def test_an_equal_or_better_nominated_address_moves_media_at_once(
    peer: Peer, priority: int
) -> None:
    peer.check(A, 0.0, nominate=True)
    events = peer.check(B, 0.1, nominate=True, priority=priority)
    assert events == [PeerValidated(B), PairSelected(B)]


def test_a_quiet_selected_address_is_left_for_a_lesser_one(peer: Peer) -> None:
    peer.check(A, 0.0, nominate=True)
    assert peer.check(B, 1.0, nominate=True, priority=LOW) == [PeerValidated(B), PairSelected(B)]


def test_authentic_media_keeps_the_selected_address_from_being_quiet(peer: Peer) -> None:
    peer.check(A, 0.0, nominate=True)
    peer.agent.note_liveness(A, 0.5)
    assert peer.check(B, 1.4, nominate=True, priority=LOW) == [PeerValidated(B)]
    assert peer.check(B, 1.5, nominate=True, priority=LOW) == [PairSelected(B)]


def test_the_selected_pair_has_the_priority_of_its_latest_check(peer: Peer) -> None:
    peer.check(A, 0.0, nominate=True, priority=LOW)
    peer.check(A, 0.1, priority=HIGH)
    assert peer.check(B, 0.2, nominate=True, priority=LOW) == [PeerValidated(B)]


def test_an_address_without_consent_is_left_even_without_nomination(peer: Peer) -> None:
    peer.check(A, 0.0, nominate=True)
    assert peer.check(B, LIMIT - 0.1) == [PeerValidated(B)]
    assert peer.check(B, LIMIT) == [PairSelected(B)]


def test_media_alone_moves_nothing_and_validates_nothing(peer: Peer) -> None:
    peer.check(A, 0.0, nominate=True)
    for step in range(200):
        peer.agent.note_liveness(B, step * 0.02)
    assert peer.events() == []
    assert peer.agent.selected == A
    assert not peer.agent.valid(B)
    assert peer.agent.next_timeout() == LIMIT


def test_a_retransmission_is_answered_and_does_nothing_else(peer: Peer) -> None:
    nominating = peer.make_check(nominate=True)
    peer.agent.receive_datagram(nominating, A, 0.0)
    first = peer.answer(A)
    assert peer.events() == [PeerValidated(A), PairSelected(A)]
    peer.check(B, 0.1, nominate=True)
    assert peer.agent.selected == B

    peer.agent.receive_datagram(nominating, A, 5.0)
    assert peer.answer(A) == first
    assert peer.events() == []
    assert peer.agent.selected == B
    assert peer.agent.next_timeout() == 0.1 + LIMIT


@pytest.mark.parametrize("silence", [0.1, 20.0])
def test_a_replayed_check_from_another_address_is_dropped(peer: Peer, silence: float) -> None:
    stolen = peer.make_check(nominate=True)
    peer.agent.receive_datagram(stolen, A, 0.0)
    peer.answer(A)
    peer.events()

    peer.agent.receive_datagram(stolen, B, silence)
    assert peer.agent.next_datagram() is None
    assert peer.events() == []
    assert peer.agent.selected == A
    assert not peer.agent.valid(B)
    assert peer.agent.drops == {"replayed": 1}
    assert peer.agent.next_timeout() == LIMIT


def test_a_check_is_known_again_until_the_memory_is_full(peer: Peer) -> None:
    stolen = peer.make_check()
    peer.agent.receive_datagram(stolen, A, 0.0)
    peer.answer(A)
    for _ in range(TRANSACTIONS_MAX - 1):
        peer.check(A, 0.0)
    peer.agent.receive_datagram(stolen, B, 0.0)
    assert peer.agent.drops == {"replayed": 1}
    peer.check(A, 0.0)
    assert len(peer.agent._transactions) == TRANSACTIONS_MAX
    peer.agent.receive_datagram(stolen, B, 0.0)
    assert peer.agent.drops == {"replayed": 1}


def test_strangers_meet_silence_and_leave_no_trace(peer: Peer) -> None:
    username = (0x0006, f"{LOCAL.ufrag}:h6vY".encode())
    for data, reason in [
        (b"", "malformed"),
        (seal([username, PRIORITY], None), "missing-integrity"),
        (seal([username, PRIORITY], "guess"), "bad-integrity"),
        (seal([(0x0006, b"evtj:h6vY"), PRIORITY], LOCAL.password), "unknown-username"),
        (seal([], None, kind=0x0011), "indication"),
    ]:
        peer.agent.receive_datagram(data, A, 0.0)
        assert peer.agent.drops[reason] == 1
    assert peer.agent.next_datagram() is None
    assert peer.events() == []
    assert peer.agent.next_timeout() is None
    assert not peer.agent._pairs
    assert not peer.agent._transactions


def test_a_peer_that_takes_itself_for_controlled_is_told_and_not_validated(peer: Peer) -> None:
    username = (0x0006, f"{LOCAL.ufrag}:h6vY".encode())
    data = seal([username, PRIORITY, CONTROLLED], LOCAL.password)
    peer.agent.receive_datagram(data, A, 0.0)
    refusal = peer.answer(A)
    assert isinstance(refusal, Refusal)
    assert refusal.code == 487
    assert peer.events() == []
    assert not peer.agent.valid(A)
    assert peer.agent.statistics().checks_refused == 1


def test_the_table_of_valid_addresses_keeps_the_selected_and_the_latest(peer: Peer) -> None:
    peer.check(A, 0.0, nominate=True)
    others = [Address("198.51.100.1", 5000 + one) for one in range(VALID_ADDRESSES_MAX)]
    for when, source in enumerate(others[:-1]):
        peer.check(source, 1.0 + when)
    assert all(peer.agent.valid(one) for one in [A, *others[:-1]])

    peer.agent.note_liveness(others[0], 20.0)
    assert peer.check(others[-1], 20.0) == [PeerValidated(others[-1])]
    assert not peer.agent.valid(others[1])
    assert peer.agent.valid(others[0])
    assert peer.agent.selected == A
    assert peer.agent.valid(A)
    assert peer.agent.statistics().valid_addresses == VALID_ADDRESSES_MAX


def test_consent_is_lost_after_silence_and_ends_the_agent(peer: Peer) -> None:
    assert peer.agent.next_timeout() is None
    peer.check(A, 10.0)
    assert peer.agent.next_timeout() == 10.0 + LIMIT
    peer.agent.handle_timeout(39.9)
    assert peer.events() == []
    peer.agent.handle_timeout(40.0)
    assert peer.events() == [ConsentLost()]
    assert peer.agent.next_timeout() is None

    peer.agent.receive_datagram(peer.make_check(), A, 41.0)
    peer.agent.note_liveness(A, 41.0)
    peer.agent.handle_timeout(100.0)
    assert peer.agent.next_datagram() is None
    assert peer.events() == []
    assert peer.agent.next_timeout() is None


def test_checks_and_authentic_media_renew_consent(peer: Peer) -> None:
    peer.check(A, 0.0)
    peer.check(A, 10.0)
    assert peer.agent.next_timeout() == 10.0 + LIMIT
    peer.agent.note_liveness(A, 25.0)
    assert peer.agent.next_timeout() == 25.0 + LIMIT


def test_close_says_nothing_and_is_final(peer: Peer) -> None:
    peer.check(A, 0.0)
    peer.agent.close(1.0)
    peer.agent.close(2.0)
    peer.agent.receive_datagram(peer.make_check(), B, 3.0)
    assert peer.agent.next_datagram() is None
    assert peer.events() == []
    assert peer.agent.next_timeout() is None
    assert not peer.agent.valid(B)


def test_statistics(peer: Peer) -> None:
    fresh = peer.agent.statistics()
    assert (fresh.checks_answered, fresh.selected, fresh.last_check) == (0, None, None)
    peer.check(A, 1.0)
    peer.check(B, 2.0, nominate=True)
    statistics = peer.agent.statistics()
    assert statistics.checks_answered == 2
    assert statistics.checks_refused == 0
    assert statistics.valid_addresses == 2
    assert statistics.selected == B
    assert statistics.nominated
    assert statistics.last_check == 2.0
