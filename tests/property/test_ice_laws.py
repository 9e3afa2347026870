"""The ICE-lite agent keeps the laws of every machine, and moves media only by its own rules."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.ice.agent import TRANSACTIONS_MAX, VALID_ADDRESSES_MAX, ConsentLost, IceLiteAgent
from edge.ice.credentials import Credentials
from edge.ice.stun import encode_request
from edge.machine import Address
from tests.support.machine_laws import Call, Datagram, Step, Wait, check_machine_laws
from tests.support.stun_messages import CONTROLLED, PRIORITY, seal

LOCAL = Credentials("YbzzFnV+ByDtEbRvszE+6OYL", "localpasswordlocalpassword")
REMOTE = Credentials("h6vY", "remotepasswordremotepassword")
FRESH = [Credentials(f"fresh{number}", "n" * 24) for number in range(3)]
"""Of restarts."""
USERNAME = (0x0006, f"{LOCAL.ufrag}:{REMOTE.ufrag}".encode())


def make_agent() -> IceLiteAgent:
    return IceLiteAgent(LOCAL, silence_limit=30.0)


def make_check(serial: int, priority: int, nominated: bool, local: Credentials = LOCAL) -> bytes:
    return encode_request(
        local=REMOTE,
        remote=local,
        priority=priority,
        tie_breaker=7,
        use_candidate=nominated,
        transaction_id=serial.to_bytes(12, "big"),
    )


def note_liveness(address: Address) -> Call[IceLiteAgent]:
    return Call(lambda agent, now: agent.note_liveness(address, now))


def restart(local: Credentials) -> Call[IceLiteAgent]:
    """With these credentials, unless they are in use."""
    return Call(lambda agent, now: None if agent.answers(local) else agent.restart(local, now))


def bounded(agent: IceLiteAgent) -> None:
    """Tables within their caps, and the selected address among the valid ones."""
    assert len(agent._pairs) <= VALID_ADDRESSES_MAX
    assert len(agent._transactions) <= TRANSACTIONS_MAX
    assert agent.selected is None or agent.valid(agent.selected)
    assert (agent.selected is None) == (not agent._pairs)
    assert agent.selected is None or agent._pairs[agent.selected].local == agent.local
    assert len(agent.drops) <= 20


addresses = st.builds(Address, st.just("192.0.2.1"), st.integers(1, 20))
serials = st.one_of(st.integers(0, 3), st.integers(0, 2**90))
checks = st.builds(make_check, serials, st.integers(0, 3), st.booleans())
fresh_checks = st.builds(
    make_check, serials, st.integers(0, 3), st.booleans(), st.sampled_from(FRESH)
)
refused = st.sampled_from(
    [
        seal([USERNAME, PRIORITY, CONTROLLED], LOCAL.password),
        seal([USERNAME, (0x7FFF, b"")], LOCAL.password),
    ]
)
junk = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            seal([USERNAME, PRIORITY], None),
            seal([USERNAME, PRIORITY], "guess"),
            seal([(0x0006, b"evtj:h6vY"), PRIORITY], LOCAL.password),
            seal([], None, kind=0x0011),
            seal([USERNAME, PRIORITY], LOCAL.password, fingerprint=False),
        ]
    ),
)
steps: st.SearchStrategy[Step[IceLiteAgent]] = st.one_of(
    st.builds(Datagram, st.one_of(checks, refused), addresses),
    st.builds(Datagram, junk, addresses, st.just(True)),
    st.builds(Wait, st.floats(0, 40), st.booleans()),
    st.builds(note_liveness, addresses),
)
restarting: st.SearchStrategy[Step[IceLiteAgent]] = st.one_of(
    steps,
    st.builds(Datagram, fresh_checks, addresses),
    st.builds(restart, st.sampled_from(FRESH)),
)


@given(st.lists(steps, max_size=25))
@settings(max_examples=100, deadline=None)
def test_machine_laws(inputs: list[Step[IceLiteAgent]]) -> None:
    check_machine_laws(make_agent, inputs, invariant=bounded, final_events=(ConsentLost,))


@given(st.lists(restarting, max_size=25))
@settings(max_examples=200, deadline=None)
def test_machine_laws_while_ice_restarts(inputs: list[Step[IceLiteAgent]]) -> None:
    check_machine_laws(make_agent, inputs, invariant=bounded, final_events=(ConsentLost,))


@given(st.lists(st.tuples(checks, addresses), min_size=1, max_size=30), addresses)
@settings(max_examples=100)
def test_replaying_all_that_was_heard_moves_nothing(
    heard: list[tuple[bytes, Address]], thief: Address
) -> None:
    thief = thief._replace(host="203.0.113.66")
    agent = make_agent()
    for data, source in heard:
        agent.receive_datagram(data, source, 0.0)
    selected = agent.selected
    before = len(agent._transmits)
    for now, (data, _) in enumerate(heard):
        agent.receive_datagram(data, thief, float(now))
    assert agent.selected == selected
    assert not agent.valid(thief)
    assert len(agent._transmits) == before
