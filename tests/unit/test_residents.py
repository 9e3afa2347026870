"""What clients hear of when the sessions of a worker will end."""

import pytest

from edge.signal.host import Report, SessionRequest
from edge.signal.messages import Bye, GoingAway, Layer, State, Staying
from edge.transceiver.attachment import Attachment
from edge.transceiver.residents import Residents
from edge.transceiver.session import EndReason
from tests.support.hosts import Client, Owned

GRACE = 20.0


class Place:
    """The residents of one worker, whose clock a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sessions: dict[str, Owned] = {}
        self.residents = Residents(
            self._make, lambda _: None, GRACE, lambda: self.now, lambda _: None
        )

    def open(self) -> tuple[Attachment, Client]:
        client = Client()
        attachment = self.residents.open(SessionRequest("offer"), client)
        attachment.begin()
        return attachment, client

    def resume(self, attachment: Attachment) -> Client:
        client = Client()
        self.residents.attach(attachment.id, attachment.secret, client).begin()
        return client

    def _make(self, _request: SessionRequest, report: Report) -> Owned:
        session = Owned(f"1.0.{len(self.sessions)}", report)
        self.sessions[session.id] = session
        return session


@pytest.fixture
def place() -> Place:
    return Place()


def heard(client: Client) -> list[float | str]:
    """Return what a client was told of its end: seconds, ``stays`` or the reason of a bye."""
    words: list[float | str] = []
    for report in client.reports:
        match report:
            case GoingAway(deadline=deadline):
                words.append(deadline)
            case Staying():
                words.append("stays")
            case Bye(reason=reason):
                words.append(reason.value)
    client.reports.clear()
    return words


def test_a_drain_with_a_deadline_is_told_and_so_is_another_deadline(place: Place) -> None:
    _, client = place.open()
    place.residents.drain(1600.0)
    assert heard(client) == [600.0]
    place.now += 100
    place.residents.drain(1600.0)
    assert heard(client) == [], "nothing new"
    place.residents.drain(1160.0)
    assert heard(client) == [60.0]
    place.residents.drain(2100.0)
    assert heard(client) == [1000.0]


def test_who_resumes_is_told_what_is_left(place: Place) -> None:
    attachment, _ = place.open()
    place.sessions[attachment.id].come_up(Layer.ICE)
    place.residents.drain(1600.0)
    place.now += 599
    client = place.resume(attachment)
    assert [type(each) for each in client.reports] == [State, GoingAway]
    assert heard(client) == [1.0]
    place.now += 2
    assert heard(place.resume(attachment)) == [0.0]


def test_a_session_that_is_opened_nevertheless_is_told(place: Place) -> None:
    place.residents.drain(1600.0)
    _, client = place.open()
    assert heard(client) == [600.0]


def test_a_drain_without_a_deadline_is_no_news(place: Place) -> None:
    attachment, client = place.open()
    place.residents.drain(None)
    assert heard(client) == []
    assert heard(place.resume(attachment)) == []


def test_a_deadline_that_is_taken_back_is_told_to_who_has_heard_of_it(place: Place) -> None:
    attachment, client = place.open()
    away, gone = place.open()
    place.residents.drain(1600.0)
    away.detach()
    place.residents.drain(None)
    assert heard(client) == [600.0, "stays"]
    _, late = place.open()
    assert heard(late) == []
    assert heard(gone) == [600.0]
    assert heard(place.resume(away)) == ["stays"], "it has missed that"
    assert heard(place.resume(away)) == [], "it has heard that"
    place.residents.drain(1100.0)
    assert heard(place.resume(attachment)) == [100.0]


def test_who_resumes_for_the_first_time_after_a_deadline_that_it_never_heard_of(
    place: Place,
) -> None:
    attachment, client = place.open()
    attachment.detach()
    place.residents.drain(1600.0)
    place.residents.drain(None)
    assert heard(place.resume(attachment)) == []
    assert heard(client) == []


@pytest.mark.parametrize(
    ("handover", "drain", "told"), [(1060.0, 1600.0, [60.0]), (1600.0, 1060.0, [600.0, 60.0])]
)
def test_of_a_handover_and_a_drain_the_earlier_end_is_told(
    place: Place, handover: float, drain: float, told: list[float]
) -> None:
    attachment, client = place.open()
    place.residents.leave(handover)
    place.residents.drain(drain)
    assert heard(client) == told
    assert heard(place.resume(attachment)) == [60.0]


def test_a_handover_stays_when_a_drain_is_taken_back(place: Place) -> None:
    _, client = place.open()
    place.residents.drain(1060.0)
    place.residents.leave(1600.0)
    place.residents.drain(None)
    assert heard(client) == [60.0, 600.0]


def test_a_handover_is_not_put_off(place: Place) -> None:
    _, client = place.open()
    place.residents.leave(1600.0)
    place.residents.leave(1010.0)
    place.residents.leave(1600.0)
    assert heard(client) == [600.0, 10.0]


def test_the_end_itself_is_told_by_the_bye(place: Place) -> None:
    attachment, client = place.open()
    place.residents.drain(1060.0)
    place.sessions[attachment.id].end(EndReason.GOING_AWAY)
    place.residents.drain(None)
    assert heard(client) == [60.0, "going-away"]
