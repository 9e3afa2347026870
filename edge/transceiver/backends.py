"""What a route stands for: makes the media endpoint of a session, and its link if it has one."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio
from attrs import evolve, frozen

from edge.backend.dialect import Dialect, SessionFacts
from edge.backend.echo import Echo
from edge.backend.link import Link
from edge.backend.loopback import Loopback
from edge.backend.native import NativeDialect
from edge.backend.policy import LinkEnd, LinkSettings
from edge.backend.realtime import RealtimeDialect
from edge.backend.realtime_settings import RealtimeSettings
from edge.backend.twilio import TwilioDialect
from edge.control.inspection import MediaFigures
from edge.machine import Entropy
from edge.media.dialogue import PlayoutCommand
from edge.media.endpoint import MediaEndpoint
from edge.media.frames import AudioFormat, Encoding
from edge.media.inbound import Inbound
from edge.media.outbound import Outbound, PlayoutSettings
from edge.media.path import Listener, MediaPath
from edge.media.payloads import PayloadTypes
from edge.media.punctuality import Punctuality
from edge.poller import Poller
from edge.rtp.jitter import JitterLimits
from edge.signal.formats import MediaPolicy
from edge.transceiver.driven import Driven
from edge.transceiver.driver import Driver
from edge.transceiver.figures import media_figures
from edge.transceiver.reports import farewell_word
from edge.transceiver.session import Ended, EndReason, Layer, LayerUp
from edge.transceiver.tally import Tally

STEADY_DELAY_MIN = 0.02
"""Seconds. With less, half of all packets would be late."""
LOOPBACK_FORMAT = AudioFormat(Encoding.PCM16, 48_000)


@frozen
class EchoRoute:
    """Packets go back as they are."""


@frozen
class LoopbackRoute:
    """Sound is decoded, and encoded again."""


@frozen
class NativeRoute:
    """A backend that speaks edge.media.v1."""

    link: LinkSettings
    format: AudioFormat


@frozen
class TwilioRoute:
    """A backend that speaks Twilio's media streams."""

    link: LinkSettings


@frozen
class RealtimeRoute:
    """A server with the Realtime API."""

    link: LinkSettings
    realtime: RealtimeSettings


Route = EchoRoute | LoopbackRoute | NativeRoute | TwilioRoute | RealtimeRoute
LinkedRoute = NativeRoute | TwilioRoute | RealtimeRoute


@frozen
class MediaSettings:
    """How sound is received and sent, whatever the route."""

    jitter: JitterLimits
    playout: PlayoutSettings
    policy: MediaPolicy


def policy_for(route: Route, media: MediaSettings) -> MediaPolicy:
    """Return what offers are answered with on this route."""
    match route:
        case EchoRoute():  # what is not decoded has no use for redundancy and digits
            return evolve(media.policy, redundancy="off", telephone_event=False)
        case NativeRoute(format=AudioFormat(encoding=Encoding.OPUS)):
            return evolve(media.policy, codecs=("opus",))
        case _:
            return media.policy


class Backend:
    """One session's backend: where its media goes. The session is not told of it otherwise."""

    def __init__(self, media: MediaEndpoint) -> None:
        self.media = media

    def figures(self) -> MediaFigures:
        """Return what the sound has come to so far."""
        return MediaFigures()

    def attach(self, driven: Driven) -> None:
        """The session that the media belongs to is driven now."""

    def follow(self, event: LayerUp | Ended) -> None:
        """The session has come up a layer, or has ended."""
        if isinstance(event, Ended):
            self.media.close()


class DecodedBackend(Backend):
    """A backend that gets decoded sound; what its path has seen is counted at the end."""

    def __init__(self, path: MediaPath, tally: Tally) -> None:
        super().__init__(path)
        self._path = path
        self._tally = tally

    def figures(self) -> MediaFigures:
        return media_figures(self._path.statistics(), None)

    def follow(self, event: LayerUp | Ended) -> None:
        super().follow(event)
        if isinstance(event, Ended):
            self._tally.note_media(self._path.statistics())


class LinkedBackend(DecodedBackend):
    """A backend behind a link, which lives from the client's first authentic check on.

    It is the link's control. What ends the session waits until the worker is out of whatever it is
    doing: a link may find out that it is broken while a session hands it a frame.
    """

    def __init__(
        self,
        route: LinkedRoute,
        maker: "BackendMaker",
        ssrc: int,
        payloads: PayloadTypes,
        facts: SessionFacts,
        now: float,
    ) -> None:
        dialect = _dialect(route)
        tally = maker.driver.tally
        link = Link(dialect, route.link, facts, self, maker.poller, tally.links)
        self._link: Link | None = link
        super().__init__(maker.path(ssrc, payloads, dialect.format, link, now), tally)
        self._driver = maker.driver
        self._start = maker.start
        self._token = trio.lowlevel.current_trio_token()
        self._driven: Driven | None = None
        self._made_at = now
        self._started = False

    def figures(self) -> MediaFigures:
        link = self._link.statistics() if self._link is not None else None
        return media_figures(self._path.statistics(), link)

    def attach(self, driven: Driven) -> None:
        self._driven = driven

    def follow(self, event: LayerUp | Ended) -> None:
        super().follow(event)
        match event:
            case LayerUp(Layer.ICE):
                self._started = True
                self._start(self._run_link)
            case Ended(reason):
                self._driven = None
                if self._started and self._link is not None:
                    self._link.finish(farewell_word(reason))
                else:
                    self._link = None
            case _:
                pass

    async def _run_link(self) -> None:
        assert self._link is not None  # until it has ended
        await self._link.run()
        self._link = None  # it refers to us: let both go without the garbage collector

    def command(self, command: PlayoutCommand) -> None:
        driven = self._driven
        if driven is not None:
            verb = partial(self._path.command, command)
            self._driver.command(driven, verb, trio.current_time())

    def opened(self) -> None:
        if self._driven is not None:
            elapsed = trio.current_time() - self._made_at
            if self._driven.backend_up is None:
                self._driven.backend_up = elapsed
            self._driven.report(LayerUp(Layer.BACKEND, elapsed))

    def end(self, end: LinkEnd, detail: str) -> None:  # noqa: ARG002 - the link has logged it
        self._token.run_sync_soon(self._end_session, _END_REASONS[end])

    def _end_session(self, reason: EndReason) -> None:
        if self._driven is not None:
            self._driver.end(self._driven, reason, trio.current_time())


@frozen
class BackendMaker:
    """What the backends of a worker's sessions share."""

    media: MediaSettings
    driver: Driver
    punctuality: Punctuality
    poller: Poller
    start: Callable[[Callable[[], Awaitable[object]]], None]
    """Runs a link's task in the worker's nursery."""
    entropy: Entropy

    def make(
        self, route: Route, ssrc: int, payloads: PayloadTypes, facts: SessionFacts, now: float
    ) -> Backend:
        match route:
            case EchoRoute():
                clock_rate_hz = payloads.clock_rate_hz
                types = payloads.all
                return Backend(Echo(types, self.entropy, ssrc=ssrc, clock_rate_hz=clock_rate_hz))
            case LoopbackRoute():
                listener = Loopback()
                path = self.path(ssrc, payloads, LOOPBACK_FORMAT, listener, now, steady=True)
                listener.join(path)
                return DecodedBackend(path, self.driver.tally)
            case _:
                return LinkedBackend(route, self, ssrc, payloads, facts, now)

    def path(
        self,
        ssrc: int,
        payloads: PayloadTypes,
        audio_format: AudioFormat,
        listener: Listener,
        now: float,
        *,
        steady: bool = False,
    ) -> MediaPath:
        """Make the media path of one session."""
        media = self.media
        return MediaPath(
            ssrc,
            Inbound(
                payloads,
                audio_format,
                _steady(media.jitter) if steady else media.jitter,
                self.driver.tally.heard,
            ),
            Outbound(ssrc, payloads, audio_format, media.playout, self.punctuality, self.entropy),
            listener,
            now,
        )


def _steady(limits: JitterLimits) -> JitterLimits:
    """Return the limits of a buffer that something is played from."""
    delay_min = max(limits.delay_min, STEADY_DELAY_MIN)
    return JitterLimits(delay_min, max(limits.delay_max, delay_min), steady=True)


_END_REASONS = {
    LinkEnd.HUNG_UP: EndReason.BACKEND_ENDED,
    LinkEnd.REFUSED: EndReason.BACKEND_REFUSED,
    LinkEnd.UNREACHABLE: EndReason.BACKEND_REFUSED,
    LinkEnd.LOST: EndReason.BACKEND_LOST,
    LinkEnd.PROTOCOL: EndReason.BACKEND_LOST,
    LinkEnd.CRASHED: EndReason.CRASHED,
}


def _dialect(route: LinkedRoute) -> Dialect:
    match route:
        case NativeRoute(format=audio_format):
            return NativeDialect(audio_format)
        case TwilioRoute():
            return TwilioDialect()
        case RealtimeRoute(realtime=settings):
            return RealtimeDialect(settings)
