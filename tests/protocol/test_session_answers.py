"""The hot path of a session: media answered at once, without the queue of datagrams."""

from collections.abc import Iterator

import pytest

from edge.machine import Transmit
from edge.transceiver.session import Layer, LayerUp
from tests.support.calls import CLIENT, Call, make_call
from tests.support.peer import Connected


@pytest.fixture
def call() -> Iterator[Call]:
    """A call with keys on both sides, whose client has not sent media yet."""
    made = make_call(frames=0)
    made.peer.start(0.0)
    made.link.run(lambda: Connected() in made.link.left.events, deadline=5.0)
    made.link.run(lambda: False, deadline=made.link.now + 0.2)
    yield made
    assert made.session.drops.total() == 0


def next_packet(call: Call) -> bytes:
    call.peer.send_frame(call.link.now)
    transmit = call.peer.next_datagram()
    assert transmit is not None
    return transmit.data


def drain(call: Call) -> list[object]:
    events: list[object] = []
    while (event := call.session.next_event()) is not None:
        events.append(event)
    return events


def test_the_first_packet_of_media_leaves_something_to_drain(call: Call) -> None:
    assert not call.session.pending
    assert call.session.answer_datagram(next_packet(call), CLIENT, call.link.now) is not None
    assert call.session.pending
    events = drain(call)
    assert [event.layer for event in events if isinstance(event, LayerUp)] == [Layer.MEDIA]
    assert call.session.next_datagram() is None


def test_an_answer_is_all_that_later_packets_cause(call: Call) -> None:
    call.session.answer_datagram(next_packet(call), CLIENT, call.link.now)
    drain(call)
    for _ in range(10):
        timeout = call.session.next_timeout()
        assert timeout is not None
        answer = call.session.answer_datagram(next_packet(call), CLIENT, call.link.now)
        assert answer is not None
        assert not call.session.pending
        assert call.session.next_timeout() == timeout
        echoed = call.peer.record.echoed
        call.peer.receive_datagram(answer, call.peer.server, call.link.now)
        assert call.peer.record.echoed == echoed + 1
    assert call.session.destination == CLIENT


def test_through_the_queue_the_same_answer_comes(call: Call) -> None:
    call.session.receive_datagram(next_packet(call), CLIENT, call.link.now)
    transmit = call.session.next_datagram()
    assert isinstance(transmit, Transmit)
    assert transmit.destination == CLIENT
    call.peer.receive_datagram(transmit.data, call.peer.server, call.link.now)
    assert call.peer.record.echoed == 1


def test_a_check_is_answered_through_the_queue(call: Call) -> None:
    call.peer.check(call.link.now)
    request = call.peer.next_datagram()
    assert request is not None
    assert call.session.answer_datagram(request.data, CLIENT, call.link.now) is None
    assert call.session.pending
    assert call.session.next_datagram() is not None


def test_after_the_end_nothing_is_answered(call: Call) -> None:
    packet = next_packet(call)
    call.session.close(call.link.now)
    assert call.session.answer_datagram(packet, CLIENT, call.link.now) is None
