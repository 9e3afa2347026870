"""What a transceiver worker knows of the backends: one per route."""

from attrs import evolve

from edge.backend.native_messages import SUBPROTOCOL
from edge.backend.policy import LinkSettings, OnFailure
from edge.backend.realtime_settings import DigitPolicy, RealtimeSettings, realtime_url
from edge.config import (
    EchoRoute,
    LinkedRoute,
    LoopbackRoute,
    RealtimeRoute,
    Route,
    WebSocketRoute,
)
from edge.media.frames import AudioFormat, Encoding
from edge.transceiver import backends


def route_settings(route: Route) -> backends.Route:
    match route:
        case EchoRoute():
            return backends.EchoRoute()
        case LoopbackRoute():
            return backends.LoopbackRoute()
        case WebSocketRoute():
            audio = AudioFormat(Encoding(route.encoding), route.format_rate_hz)
            return backends.NativeRoute(_link(route, subprotocol=SUBPROTOCOL), audio)
        case RealtimeRoute():
            return _realtime(route)
        case _:
            return backends.TwilioRoute(_link(route))


def _realtime(route: RealtimeRoute) -> backends.RealtimeRoute:
    key = route.key  # the key file's, if there is one: see Config.with_key_files
    headers = () if key is None else (("Authorization", f"Bearer {key.reveal()}"),)
    link = _link(route, headers=headers)
    return backends.RealtimeRoute(
        evolve(link, url=realtime_url(link.url, route.model)),
        RealtimeSettings(
            model=route.model,
            voice=route.voice,
            instructions=route.instructions,
            session=route.session,
            gather_ms=route.gather_ms,
            interrupt=route.interrupt,
            digits=DigitPolicy(route.digits),
        ),
    )


def _link(
    route: LinkedRoute,
    *,
    subprotocol: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> LinkSettings:
    ours = tuple((name, value.reveal()) for name, value in route.headers.items())
    return LinkSettings(
        url=str(route.url),
        headers=ours + headers,
        subprotocol=subprotocol,
        ca_file=route.ca_file,
        connect_timeout=route.connect_timeout,
        attempts=route.attempts,
        on_failure=OnFailure(route.on_failure),
        reconnect_limit=route.reconnect_limit,
        queue_max=route.queue_max,
    )
