"""The Python client: against a signaling server without sessions, and against a whole appliance."""

import os
import ssl
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request

from edge.access.tokens import Grant, mint
from edge.client import (
    SIGNALING_LOST,
    Call,
    Event,
    Lost,
    Reconnecting,
    open_call,
    take_over,
)
from edge.client.call import MARGIN
from edge.client.connection import Endpoint, connect
from edge.client.messages import decode_server_message
from edge.errors import SignalError
from edge.signal.messages import (
    Bye,
    ByeReason,
    ErrorCode,
    Layer,
    LayerState,
    Resumed,
    State,
    Verdict,
)
from edge.signal.tls import TlsIdentity
from tests.integration.test_doors_access import write_certificate
from tests.support.appliance import running_appliance
from tests.support.caller import attribute, make_offer, new_credentials
from tests.support.cutting_proxy import cutting_proxy
from tests.support.signal_server import (
    OFFER,
    VIDEO_ONLY,
    FakeSession,
    Server,
    serving,
    wait_until,
)
from tests.unit.test_access_policy import MAIN, make_policy

RESTART = OFFER.replace("a=ice-ufrag:", "a=ice-ufrag:x").replace("a=ice-pwd:", "a=ice-pwd:x")
CONNECTED = State(layer=Layer.ICE, state=LayerState.CONNECTED, ms=1.5)
PING_INTERVAL = 1.0
SLACK = 2.0
"""Seconds that a busy machine may add."""
LOST_CONSENT = Bye(
    reason=ByeReason.CONSENT_LOST, message="nothing is heard", verdict=Verdict.CONSENT_LOST
)


def url_of(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/session"


def has_detached(session: FakeSession, times: int) -> bool:
    return session.detached >= times


def make_identity(directory: Path) -> tuple[TlsIdentity, ssl.SSLContext]:
    """Make a certificate for localhost, and what trusts it."""
    certificate, key = write_certificate(directory, "localhost")
    trusting_it = ssl.create_default_context(cafile=str(certificate))
    trusting_it.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return TlsIdentity(certificate, key), trusting_it


async def wait_for(call: Call, kind: type[Event]) -> Event:
    """Skip the events before the next one of a kind."""
    with trio.fail_after(10):
        while True:
            event = await call.next_event()
            if isinstance(event, kind):
                return event


async def test_a_call_from_offer_to_bye() -> None:
    async with serving() as server:
        async with open_call(url_of(server), route="sales", metadata={"user": 7}) as call:
            answer = await call.offer(OFFER)
            assert attribute(answer, "ice-ufrag")
            (session,) = server.host.sessions
            assert (call.session, call.secret) == (session.id, session.secret)
            (request,) = server.host.requests
            assert (request.route, request.metadata) == ("sales", {"user": 7})
            session.report(CONNECTED)
            assert await call.next_event() == CONNECTED
        assert session.closed == [ByeReason.HANG_UP]
        assert isinstance(call.ended, Bye)
        assert call.ended.reason is ByeReason.HANG_UP
        await call.hang_up()
        with pytest.raises(SignalError) as caught:
            await call.offer(OFFER)
        assert caught.value.reason == "hang-up"


async def test_later_offers_restart_ice() -> None:
    async with serving() as server, open_call(url_of(server)) as call:
        first = await call.offer(OFFER)
        second = await call.offer(RESTART)
        assert attribute(first, "ice-ufrag") != attribute(second, "ice-ufrag")
        assert attribute(first, "fingerprint") == attribute(second, "fingerprint")
        (session,) = server.host.sessions
        assert session.restarts == 1
        assert call.secret == session.secret


async def test_refusals_are_errors_with_the_servers_words() -> None:
    async with serving() as server, open_call(url_of(server)) as call:
        with pytest.raises(SignalError, match="no audio") as caught:
            await call.offer(VIDEO_ONLY)
        assert caught.value.reason == ErrorCode.OFFER_REFUSED
        server.host.failure = SignalError(ErrorCode.BUSY, "All lines are taken.", retry_after=7.5)
        with pytest.raises(SignalError, match=r"All lines are taken\.") as caught:
            await call.offer(OFFER)
        assert (caught.value.reason, caught.value.retry_after) == (ErrorCode.BUSY, 7.5)
        server.host.failure = None
        assert await call.offer(OFFER)
        with pytest.raises(SignalError):
            await call.offer(VIDEO_ONLY)
        assert call.ended is None, "a refused restart ends nothing"
        assert await call.offer(RESTART)


async def test_the_servers_bye_ends_it() -> None:
    async with serving() as server, open_call(url_of(server)) as call:
        await call.offer(OFFER)
        server.host.sessions[0].report(LOST_CONSENT)
        assert await call.wait_ended() == LOST_CONSENT
        assert [event async for event in call.events] == [LOST_CONSENT]


async def test_a_broken_connection_is_resumed_and_offers_wait_for_it() -> None:
    async with serving() as server, open_call(url_of(server)) as call:
        await call.offer(OFFER)
        (session,) = server.host.sessions
        for number in range(3):
            call.drop_connection()
            await wait_until(partial(has_detached, session, number + 1))
            assert attribute(await call.offer(RESTART), "ice-ufrag")
            assert isinstance(await call.next_event(), Reconnecting)
            assert await call.next_event() == Resumed(session=session.id)
        session.report(CONNECTED)
        assert await call.next_event() == CONNECTED
        assert session.closed == []
        assert len(server.host.sessions) == 1


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_a_connection_that_is_dead_but_not_closed_is_replaced(
    tmp_path: Path, *, secure: bool
) -> None:
    identity, trusting_it = make_identity(tmp_path) if secure else (None, None)
    async with (
        serving(tls=identity) as server,
        cutting_proxy(f"127.0.0.1:{server.port}") as proxy,
        open_call(
            f"{'wss' if secure else 'ws'}://localhost:{proxy.port}/v1/session",
            ssl_context=trusting_it,
            ping_interval=PING_INTERVAL,
        ) as call,
    ):
        await call.offer(OFFER)
        await trio.sleep(3 * PING_INTERVAL)
        assert proxy.connections == 1, "pings that are answered change nothing"
        proxy.stalled = True
        stalled_at = trio.current_time()
        await wait_for(call, Reconnecting)
        assert trio.current_time() - stalled_at < 2 * PING_INTERVAL + SLACK
        proxy.stalled = False
        await wait_for(call, Resumed)
        assert attribute(await call.offer(RESTART), "ice-ufrag")
        assert len(server.host.sessions) == 1


async def test_a_server_that_stays_silent_is_given_up_when_the_session_must_be_gone() -> None:
    async with (
        serving(grace=1.0) as server,
        cutting_proxy(f"127.0.0.1:{server.port}") as proxy,
        open_call(f"ws://{proxy.origin}/v1/session", ping_interval=PING_INTERVAL) as call,
    ):
        await call.offer(OFFER)
        proxy.stalled = True
        await wait_for(call, Reconnecting)
        reconnecting_at = trio.current_time()
        end = await call.wait_ended()
        assert isinstance(end, Lost)
        assert end.reason == SIGNALING_LOST
        assert trio.current_time() - reconnecting_at < 1.0 + MARGIN + SLACK


async def test_a_session_that_is_gone_cannot_be_resumed() -> None:
    async with serving() as server, open_call(url_of(server)) as call:
        await call.offer(OFFER)
        server.host.sessions[0].id = "1.0.another"
        call.drop_connection()
        end = await wait_for(call, Lost)
        assert isinstance(end, Lost)
        assert end.reason == ErrorCode.UNKNOWN_SESSION
        assert call.ended == end


async def test_without_resume_a_broken_connection_ends_it() -> None:
    async with serving() as server, open_call(url_of(server), resume=False) as call:
        await call.offer(OFFER)
        call.drop_connection()
        end = await call.wait_ended()
        assert isinstance(end, Lost)
        assert end.reason == SIGNALING_LOST


async def test_a_session_is_taken_over_and_its_first_client_told() -> None:
    async with serving() as server, open_call(url_of(server)) as first:
        await first.offer(OFFER)
        assert first.session is not None
        assert first.secret is not None
        (session,) = server.host.sessions
        async with take_over(url_of(server), first.session, first.secret) as second:
            session.report(CONNECTED)
            assert [await second.next_event(), await second.next_event()] == [
                Resumed(session=session.id),
                CONNECTED,
            ]
            assert attribute(await second.offer(RESTART), "ice-ufrag")
        assert session.closed == [ByeReason.HANG_UP]


async def test_taking_over_what_is_not_there_is_an_error() -> None:
    async with serving() as server:
        with pytest.raises(SignalError) as caught:
            async with take_over(url_of(server), "1.0.nothing", "guessed"):
                pytest.fail("there is no such session")
        assert caught.value.reason == ErrorCode.UNKNOWN_SESSION


async def test_a_token_opens_one_session() -> None:
    now = time.time()
    token = mint(MAIN, Grant(expires_at=now + 60), now, os.urandom)
    async with serving(make_policy()) as server, AsyncExitStack() as stack:

        async def call(token: str | None) -> Call:
            return await stack.enter_async_context(open_call(url_of(server), token=token))

        with pytest.raises(SignalError) as caught:
            await (await call(None)).offer(OFFER)
        assert caught.value.reason == ErrorCode.UNAUTHORIZED
        good = await call(token)
        await good.offer(OFFER)
        with pytest.raises(SignalError, match="used") as caught:
            await (await call(token)).offer(OFFER)
        assert caught.value.reason == ErrorCode.UNAUTHORIZED
        assert token not in repr(good._endpoint)
        good.drop_connection()
        await wait_for(good, Resumed)


async def test_what_is_not_a_signaling_server_is_an_error() -> None:
    async with serving() as server:
        with pytest.raises(SignalError) as caught:
            async with open_call(f"ws://127.0.0.1:{server.port}/elsewhere"):
                pytest.fail("there is nothing")
        assert caught.value.reason == "signaling-refused"
        port = server.port
    with pytest.raises(SignalError) as caught:
        async with open_call(f"ws://127.0.0.1:{port}/v1/session"):
            pytest.fail("nobody listens")
    assert caught.value.reason == "signaling-refused"


async def test_over_tls(tmp_path: Path) -> None:
    identity, trusting_it = make_identity(tmp_path)
    async with serving(tls=identity) as server:
        url = f"wss://localhost:{server.port}/v1/session"
        async with open_call(url, ssl_context=trusting_it) as call:
            assert await call.offer(OFFER)
            call.drop_connection()
            assert await call.offer(RESTART)
        with pytest.raises(SignalError, match="certificate") as caught:
            async with open_call(url):
                pytest.fail("nobody vouches for it")
        assert caught.value.reason == "signaling-refused"


async def test_an_error_of_the_caller_passes_as_it_is() -> None:
    async with serving() as server:

        async def call_and_fail() -> None:
            async with open_call(url_of(server)) as call:
                await call.offer(OFFER)
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await call_and_fail()
        assert server.host.sessions[0].closed == [ByeReason.HANG_UP]


def test_messages_of_newer_servers_are_passed_over() -> None:
    assert decode_server_message('{"type":"weather","sun":true}') is None
    state = decode_server_message(
        '{"type":"state","layer":"ice","state":"connected","ms":1.5,"new":1}'
    )
    assert state == CONNECTED
    for text in ("{", "[]", "{}", '{"type":"bye"}', '{"type":7}'):
        with pytest.raises(SignalError) as caught:
            decode_server_message(text)
        assert caught.value.reason == ErrorCode.MALFORMED_MESSAGE


async def test_a_ping_while_it_closes_is_no_error() -> None:
    """It comes between the client's close frame and the server's."""

    async def serve(stream: trio.SocketStream) -> None:
        server = WSConnection(ConnectionType.SERVER)
        async for data in stream:
            server.receive_data(bytes(data))
            for event in server.events():
                match event:
                    case Request():
                        accept = AcceptConnection(subprotocol="edge.v1")
                        await stream.send_all(server.send(accept))
                    case CloseConnection():
                        await stream.send_all(b"\x89\x00" + server.send(event.response()))

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        async with connect(Endpoint(f"ws://127.0.0.1:{port}/v1/session")):
            pass
        nursery.cancel_scope.cancel()


async def test_a_session_of_the_appliance(tmp_path: Path) -> None:
    async with running_appliance(
        tmp_path, transceivers=3, supervisor="drain_limit = 0.0"
    ) as appliance:
        url = f"ws://{await appliance.origin()}/v1/session"
        async with open_call(url) as call:
            first = await call.offer(make_offer(new_credentials()))
            call.drop_connection()
            await wait_for(call, Resumed)
            second = await call.offer(make_offer(new_credentials()))
            assert attribute(first, "ice-ufrag") != attribute(second, "ice-ufrag")
            assert attribute(first, "ice-pwd") != attribute(second, "ice-pwd")
            appliance.terminate()
            end = await call.wait_ended()
            assert isinstance(end, Bye)
            assert end.reason is ByeReason.GOING_AWAY
