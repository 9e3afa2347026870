"""The whole session keeps the laws of edge.machine, fresh or in the middle of a call.

Law 5 has OpenSSL as its known exception. The session's own ``drops`` do not count what its parts
drop, so junk is not marked as such here: the parts' own law tests do that.
"""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.dtls.keying import Role
from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.machine import Address
from edge.transceiver.session import Ended, EndReason, Session, SessionLimits
from tests.support.calls import CLIENT, make_call, make_session
from tests.support.machine_laws import START, Call, Close, Datagram, Step, Wait, check_machine_laws

SERVER_CREDENTIALS = Credentials("serverufrag", "s" * 32)
CLIENT_CREDENTIALS = Credentials("clientufrag", "c" * 32)
LIMITS = SessionLimits(setup_timeout=5.0, consent_timeout=10.0)


def check(number: int) -> bytes:
    return stun.encode_request(
        local=CLIENT_CREDENTIALS,
        remote=SERVER_CREDENTIALS,
        priority=number,
        tie_breaker=1,
        use_candidate=number % 2 == 0,
        transaction_id=number.to_bytes(12),
    )


ADDRESSES = st.sampled_from([CLIENT, Address("2001:db8::7", 7, 1), Address("192.0.2.9", 9)])
FIRST_BYTES = st.sampled_from([0, 1, 20, 22, 23, 63, 64, 128, 144, 191, 255])
NOISE = st.binary(max_size=60) | st.builds(
    lambda first, rest: bytes([first]) + rest, FIRST_BYTES, st.binary(max_size=100)
)
STEPS: st.SearchStrategy[Step[Session]] = st.one_of(
    st.builds(Datagram, st.integers(1, 40).map(check), ADDRESSES),
    st.builds(Datagram, NOISE, ADDRESSES),
    st.builds(Wait, st.sampled_from([0.0, 0.02, 0.3, 2.0, 40.0]), st.booleans()),
    st.just(Call[Session](lambda session, now: session.end(EndReason.CLIENT_BYE, now))),
    st.just(Close()),
)


def fresh(role: Role) -> Session:
    return make_session(role, random.Random(1).randbytes, LIMITS, START)[0]


def in_call() -> Session:
    call = make_call(frames=3)
    call.peer.start(0.0)
    assert call.link.run(lambda: call.peer.record.echoed == 3, deadline=5.0)
    return call.session


def within_bounds(session: Session) -> None:
    assert len(session._sources) <= 8
    assert len(session._ice._pairs) <= 16


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(Role), st.lists(STEPS, max_size=25))
def test_fresh_session(role: Role, steps: list[Step[Session]]) -> None:
    check_machine_laws(
        lambda: fresh(role),
        steps,
        invariant=within_bounds,
        final_events=(Ended,),
        deterministic=False,
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_session_in_a_call(steps: list[Step[Session]]) -> None:
    check_machine_laws(
        in_call, steps, invariant=within_bounds, final_events=(Ended,), deterministic=False
    )
