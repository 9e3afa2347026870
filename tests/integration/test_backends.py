"""What is left of a session with a backend when both are over: nothing."""

import gc
import os
import socket
import weakref
from collections.abc import Iterator

import pytest
import trio

from edge.audio.codecs import EncoderSettings
from edge.backend.dialect import SessionFacts
from edge.backend.policy import LinkSettings
from edge.dtls.keying import Role
from edge.media.frames import AudioFormat, Encoding
from edge.media.outbound import PlayoutSettings
from edge.media.payloads import Codec, PayloadTypes
from edge.media.punctuality import Punctuality
from edge.poller import Poller
from edge.rtp.jitter import JitterLimits
from edge.signal.formats import MediaPolicy
from edge.transceiver.backends import BackendMaker, LoopbackRoute, MediaSettings, NativeRoute, Route
from edge.transceiver.driven import Driven
from edge.transceiver.driver import Driver
from edge.transceiver.session import EndReason, Layer, LayerUp
from edge.udp import open_udp_socket
from tests.support.calls import make_session

MEDIA = MediaSettings(
    JitterLimits(0.0, 0.3, steady=False),
    PlayoutSettings(EncoderSettings(32_000, 0, fec=False, dtx=False), "dtx", 0.0, 10.0),
    MediaPolicy(),
)
PAYLOADS = PayloadTypes(Codec.OPUS, 111)
FORMAT = AudioFormat(Encoding.PCM16, 24_000)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def udp() -> socket.socket:
    return open_udp_socket("127.0.0.1", 0, receive_buffer_bytes=1 << 16, reuse_port=False)


@pytest.mark.parametrize("kind", ["loopback", "unreachable", "never started"])
@pytest.mark.usefixtures("no_collector")
async def test_a_session_that_has_ended_needs_no_garbage_collector(kind: str) -> None:
    link = LinkSettings("ws://127.0.0.1:9", attempts=1, connect_timeout=1.0)
    route: Route = LoopbackRoute() if kind == "loopback" else NativeRoute(link, FORMAT)
    with udp() as public, udp() as internal:
        punctuality = Punctuality()
        driver = Driver([public], internal, [], punctuality)
        async with trio.open_nursery() as nursery:
            maker = BackendMaker(
                MEDIA, driver, punctuality, Poller(), nursery.start_soon, os.urandom
            )
            backend = maker.make(route, 1, PAYLOADS, SessionFacts("s", "r", Codec.OPUS), 0.0)
            session, _, _ = make_session(Role.CLIENT, os.urandom, media=backend.media)
            driven = Driven("s", b"serverufrag", session, backend.follow, 0)
            backend.attach(driven)
            driver.add(driven, 0.0)
            if kind == "unreachable":
                driven.report(LayerUp(Layer.ICE, 0.1))
            left = [weakref.ref(each) for each in (backend, backend.media, session)]
            driver.end(driven, EndReason.CLIENT_BYE, 1.0)
            del backend, session, driven
        assert [each() for each in left] == [None, None, None]
