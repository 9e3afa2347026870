"""What a worker answers when an operator asks for its sessions.

A list comes in pages, one question each, so that the worker's loop is held for a millisecond at
most: packets go on in between. What begins or ends meanwhile is in the list or not.
"""

from collections.abc import Callable

import attrs

from edge.control.inspection import PacingFigures, SessionDetails, SessionLine
from edge.control.messages import (
    Answer,
    DescribeSession,
    EndSession,
    ListSessions,
    Question,
    SessionEnded,
    SessionFound,
    SessionPage,
)
from edge.machine import Address
from edge.routing.frames import SOCKETS_MAX
from edge.transceiver.driven import Driven
from edge.transceiver.driver import Driver
from edge.transceiver.figures import ice_figures, rtp_figures
from edge.transceiver.residents import Residents
from edge.transceiver.verdict import judge, sentence
from edge.transceiver.vocabulary import EndReason, Layer, SessionStatistics

PAGE_SESSIONS = 32
"""Sessions of one page: its message has 16 KiB at most."""

_LAYERS = (Layer.MEDIA, Layer.DTLS, Layer.ICE)


class Inspector:
    """Knows the sessions of one worker. ``udp_sockets`` is how many public ones there are."""

    def __init__(
        self,
        worker: str,
        driver: Driver,
        residents: Residents,
        udp_sockets: int,
        clock: Callable[[], float],
    ) -> None:
        self._worker = worker
        self._driver = driver
        self._residents = residents
        self._udp_sockets = udp_sockets
        self._clock = clock

    def answer(self, question: Question) -> Answer:
        now = self._clock()
        match question:
            case ListSessions(sequence, after):
                return self._page(sequence, after, now)
            case DescribeSession(sequence, session):
                driven = self._find(session)
                found = None if driven is None else self._describe(driven, now)
                return SessionFound(sequence, found)
            case EndSession(sequence, session):
                driven = self._find(session)
                if driven is not None:
                    self._driver.end(driven, EndReason.GOING_AWAY, now)
                return SessionEnded(sequence, driven is not None)

    def _page(self, sequence: int, after: int, now: float) -> SessionPage:
        lines: list[SessionLine] = []
        for driven in self._driver.sessions():
            if driven.number > after:
                lines.append(self._line(driven, driven.session.statistics(), now))
                after = driven.number
                if len(lines) == PAGE_SESSIONS:
                    break
        return SessionPage(sequence, lines, after)

    def _find(self, session: str) -> Driven | None:
        return next((one for one in self._driver.sessions() if one.id == session), None)

    def _line(self, driven: Driven, statistics: SessionStatistics, now: float) -> SessionLine:
        about, rtp = driven.description, statistics.rtp
        selected = statistics.ice.selected
        up = next((layer.value for layer in _LAYERS if layer in statistics.layers), "")
        return SessionLine(
            id=driven.id,
            worker=self._worker,
            up=up,
            attached=self._residents.is_attached(driven.id),
            age=now - about.made_at,
            route=about.route,
            codec=about.codec,
            client=None if selected is None else _text(selected),
            over_tcp=selected is not None and self._udp_sockets <= selected.socket < SOCKETS_MAX,
            round_trip_ms=rtp.round_trip_ms,
            jitter_ms=rtp.jitter_ms,
            packets_received=rtp.packets_received,
            packets_lost=rtp.packets_lost,
        )

    def _describe(self, driven: Driven, now: float) -> SessionDetails:
        statistics = driven.session.statistics()
        line = self._line(driven, statistics, now)
        verdict = judge(EndReason.CLIENT_BYE, attrs.evolve(statistics, duration=line.age))
        layers = {layer.value: elapsed for layer, elapsed in statistics.layers.items()}
        if driven.backend_up is not None:
            layers[Layer.BACKEND.value] = driven.backend_up
        return SessionDetails(
            line=line,
            verdict=verdict.value,
            meaning=sentence(verdict),
            layers=layers,
            addresses=[_text(address) for address in driven.addresses],
            ice=ice_figures(statistics.ice, now),
            rtp=rtp_figures(statistics.rtp),
            pacing=PacingFigures(
                packets=driven.paced,
                mean_lateness_ms=driven.lateness_sum / max(driven.paced, 1) * 1000,
                max_lateness_ms=driven.lateness_max * 1000,
            ),
            drops=statistics.drops,
            media=driven.description.media(),
        )


def _text(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"
