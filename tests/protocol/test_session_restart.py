"""ICE restart and mobility of a whole session: the call goes on, whatever ICE does."""

import itertools

import pytest

from edge.dtls.keying import Role
from edge.ice.agent import OVERLAP, RESTART_TIMEOUT
from edge.ice.credentials import Credentials
from edge.machine import Address
from edge.rtp.rtcp import SenderReport
from edge.transceiver.session import AddressValidated, Ended, Layer, LayerUp, UfragRetired
from tests.support.calls import CLIENT, Call, make_call
from tests.support.link import Path
from tests.support.peer import CHECK_INTERVAL, FRAME_TIME

FRESH = Credentials("freshserverufrag", "f" * 32)
FRESH_CLIENT = Credentials("freshclient", "g" * 32)
MOVED = Address("203.0.113.5", 1234)


def run_for(call: Call, seconds: float) -> None:
    call.link.run(lambda: False, deadline=call.link.now + seconds)


def in_call(**options: object) -> Call:
    call = make_call(**options)  # type: ignore[arg-type]
    call.peer.start(0.0)
    assert call.link.run(lambda: call.peer.record.echoed >= 50, deadline=10.0)
    return call


def restarts(call: Call) -> int:
    return call.session.statistics().ice.restarts


@pytest.mark.parametrize("role", Role)
def test_not_one_frame_is_lost(role: Role) -> None:
    call = in_call(role=role, frames=300)
    srtp, rtp = call.session._srtp, call.session._media.ssrc
    call.session.restart_ice(FRESH, call.link.now)
    run_for(call, 0.1)  # the answer is on its way
    call.peer.restart(FRESH_CLIENT, FRESH, call.link.now)
    call.link.run(lambda: call.peer.record.echoed == 300, deadline=20.0)

    record = call.peer.record
    assert record.echoed == record.sent == 300
    numbers = [(b - a) & 0xFFFF for a, b in itertools.pairwise(record.sequence_numbers)]
    assert set(numbers) == {1}, "the stream goes on without a seam"
    assert record.longest_gap == pytest.approx(FRAME_TIME, abs=0.005)
    assert record.ssrcs == {rtp}
    assert call.session._srtp is srtp
    assert restarts(call) == 1
    layers = [each.layer for each in call.link.right.events if isinstance(each, LayerUp)]
    assert layers == [Layer.ICE, Layer.DTLS, Layer.MEDIA], "nothing came up a second time"


def test_reports_go_on_over_a_restart() -> None:
    call = in_call()
    run_for(call, 3.0)
    before = [each for each in call.peer.record.rtcp if isinstance(each, SenderReport)][-1]
    call.session.restart_ice(FRESH, call.link.now)
    call.peer.restart(FRESH_CLIENT, FRESH, call.link.now)
    run_for(call, 5.0)
    after = [each for each in call.peer.record.rtcp if isinstance(each, SenderReport)][-1]
    assert after.ssrc == before.ssrc
    assert after.packet_count > before.packet_count + 150
    assert all(block.packets_lost == 0 for block in after.blocks)


def test_the_old_ufrag_is_retired_after_the_overlap() -> None:
    call = in_call()
    call.session.restart_ice(FRESH, call.link.now)
    call.peer.restart(FRESH_CLIENT, FRESH, call.link.now)
    restarted_at = call.link.now
    retired = UfragRetired("serverufrag")
    assert call.link.run(lambda: retired in call.link.right.events, deadline=60.0)
    assert call.link.now == pytest.approx(restarted_at + OVERLAP, abs=0.2)


def test_a_client_that_never_comes_keeps_its_call() -> None:
    call = in_call()
    call.session.restart_ice(FRESH, call.link.now)
    asked_at = call.link.now
    call.peer.record.longest_gap = 0.0
    retired = UfragRetired(FRESH.ufrag)
    assert call.link.run(lambda: retired in call.link.right.events, deadline=60.0)
    assert call.link.now == pytest.approx(asked_at + RESTART_TIMEOUT)
    run_for(call, 1.0)
    assert call.peer.record.longest_gap < 2 * FRAME_TIME
    assert not any(isinstance(each, Ended) for each in call.link.right.events)
    assert restarts(call) == 0


def test_a_client_that_restarts_because_it_has_moved() -> None:
    """Its new network is there at once: the gap is that of signaling, not of a check interval."""
    call = in_call(path=Path(delay=0.02))
    run_for(call, 3.0)
    call.link.left.address = MOVED
    moved_at = call.link.now
    call.peer.record.longest_gap = 0.0
    run_for(call, 0.1)
    call.session.restart_ice(FRESH, call.link.now)
    run_for(call, 0.05)
    call.peer.restart(FRESH_CLIENT, FRESH, call.link.now)
    echoed = call.peer.record.echoed
    assert call.link.run(lambda: call.peer.record.echoed > echoed, deadline=moved_at + 10.0)
    assert AddressValidated(MOVED) in call.link.right.events
    assert call.session.destination == MOVED
    assert call.peer.record.longest_gap < 0.4


def test_a_lossy_network_delays_a_restart_and_no_more() -> None:
    call = in_call(path=Path(loss=0.25, delay=0.02, jitter=0.01), seed=3)
    for number in range(5):
        fresh = Credentials(f"freshserverufrag{number}", "f" * 32)
        call.session.restart_ice(fresh, call.link.now)
        call.peer.restart(FRESH_CLIENT, fresh, call.link.now)
        assert call.link.run(lambda n=number: restarts(call) == n + 1, deadline=call.link.now + 6)  # type: ignore[misc]
    assert call.session.destination == CLIENT


@pytest.mark.parametrize("since_check", [0.1, 1.2, 2.4])
def test_without_signaling_the_gap_is_at_most_one_check_interval(since_check: float) -> None:
    """A client that appears from a new address with a nominated check keeps its call."""
    call = in_call()
    checked_at = call.session.statistics().ice.last_check
    assert checked_at is not None
    call.link.run(
        lambda: call.session.statistics().ice.last_check != checked_at, deadline=call.link.now + 3
    )
    run_for(call, since_check)
    call.link.left.address = MOVED
    call.peer.record.longest_gap = 0.0
    echoed, moved_at = call.peer.record.echoed, call.link.now
    assert call.link.run(lambda: call.peer.record.echoed > echoed, deadline=moved_at + 10.0)
    assert call.session.destination == MOVED
    gap = call.peer.record.longest_gap
    assert gap <= CHECK_INTERVAL - since_check + 3 * FRAME_TIME
    assert restarts(call) == 0


def test_a_closed_session_does_not_restart() -> None:
    call = in_call()
    call.session.close(call.link.now)
    call.session.restart_ice(FRESH, call.link.now)
    assert call.session.next_timeout() is None


def test_a_client_that_wants_no_more_media_gets_none() -> None:
    call = in_call()
    call.session.redirect(may_send=False, may_receive=True)
    run_for(call, 0.1)
    echoed = call.peer.record.echoed
    run_for(call, 1.0)
    assert call.peer.record.echoed == echoed
    call.session.redirect(may_send=True, may_receive=True)
    run_for(call, 1.0)
    assert call.peer.record.echoed >= echoed + 45
