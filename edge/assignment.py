"""What each worker is given of configuration, keys and sockets: no more than it needs."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from edge import relay
from edge.audio.codecs import EncoderSettings
from edge.backend.native_messages import SUBPROTOCOL
from edge.backend.policy import LinkSettings, OnFailure
from edge.backend.realtime_settings import DigitPolicy, RealtimeSettings, realtime_url
from edge.config import (
    Config,
    EchoRoute,
    LinkedRoute,
    LoopbackRoute,
    MediaConfig,
    RealtimeRoute,
    Route,
    WebSocketRoute,
)
from edge.control import SharedKey
from edge.keys import KeySet
from edge.media.frames import AudioFormat, Encoding
from edge.media.outbound import PlayoutSettings
from edge.memory import HeldMemory
from edge.rtp.jitter import JitterLimits
from edge.signal.formats import MediaPolicy
from edge.signal.page import load_page
from edge.signal.settings import SignalSettings
from edge.sockets import Sockets, port_of
from edge.transceiver import backends
from edge.transceiver import worker as transceiver
from edge.transceiver.session import SessionLimits


def relay_settings(
    index: int, config: Config, keys: KeySet, sockets: Sockets, flow_memory: HeldMemory
) -> relay.RelaySettings:
    """Relays get the routing keys, never the password key."""
    cores = sorted(os.sched_getaffinity(0))
    return relay.RelaySettings(
        index=index,
        cluster=config.supervisor.cluster,
        core=cores[index % len(cores)] if config.relay.pin_cores else None,
        public=tuple(sockets.public[index]),
        internal=sockets.relay_internal[index],
        transceivers=addresses(sockets.transceiver_internal),
        keys=keys.routing,
        flows_max=config.relay.flows_max,
        flow_generation=config.relay.flow_generation,
        flow_memory=flow_memory,
        coalesce=config.relay.coalesce_us / 1e6,
    )


def transceiver_settings(
    index: int, config: Config, keys: KeySet, sockets: Sockets
) -> transceiver.TransceiverSettings:
    limits, offered = config.transceiver, config.signal
    first_relays = sockets.public[0]
    advertised = config.relay.advertised([port_of(one) for one in first_relays])
    return transceiver.TransceiverSettings(
        index=index,
        cluster=config.supervisor.cluster,
        public=tuple(first_relays),
        advertised=tuple((each.host, each.port) for each in advertised),
        internal=sockets.transceiver_internal[index],
        relays=addresses(sockets.relay_internal),
        listeners=tuple(sockets.listeners[index]),
        signal=SignalSettings(
            path=offered.path,
            grace=offered.grace,
            connections_max=offered.connections_max,
            message_bytes_max=offered.message_bytes_max,
            idle_timeout=offered.idle_timeout,
        ),
        page=load_page(_page_folder()) if offered.serves_page else None,
        routing_key=keys.routing[0],
        password_key=keys.password_key,
        sessions_max=limits.sessions_max,
        limits=SessionLimits(
            setup_timeout=limits.handshake_timeout, consent_timeout=limits.consent_timeout
        ),
        routes={name: _route(route) for name, route in config.routes.items()},
        default_route=offered.default_route,
        media=_media(config.media),
    )


def addresses(bound: Sequence[socket.socket]) -> tuple[tuple[str, int], ...]:
    """Return (host, port) of each socket."""
    return tuple((one.getsockname()[0], port_of(one)) for one in bound)


def shared_keys(keys: KeySet) -> list[SharedKey]:
    """Return the routing keys as they travel to workers."""
    return [SharedKey(each.id, each.key) for each in keys.routing]


def _media(media: MediaConfig) -> backends.MediaSettings:
    return backends.MediaSettings(
        jitter=JitterLimits(media.jitter_delay_min, media.jitter_delay_max, steady=False),
        playout=PlayoutSettings(
            encoder=EncoderSettings(
                bitrate_bps=media.bitrate_bps,
                complexity=media.complexity,
                fec=media.fec,
                dtx=media.gaps == "dtx",
            ),
            gaps=media.gaps,
            prebuffer=media.prebuffer,
            queue_max=media.playout_max,
        ),
        policy=MediaPolicy(redundancy=media.redundancy, dtx=media.dtx),
    )


def _route(route: Route) -> backends.Route:
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


def _page_folder() -> Path:
    """Return the page's folder: of the checkout that we run from, else of the installed package."""
    package = Path(__file__).parent
    checkout = package.parent / "web"
    return checkout if checkout.is_dir() else package / "web"
