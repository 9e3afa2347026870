"""Opening a call: a task that carries it, as long as the caller is there."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from edge.client.call import LEAVE_TIMEOUT, Call
from edge.client.connection import PING_INTERVAL, Endpoint
from edge.client.nursery import open_task_nursery


@asynccontextmanager
async def open_call(
    url: str,
    *,
    token: str | None = None,
    route: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    resume: bool = True,
    ping_interval: float = PING_INTERVAL,
) -> AsyncIterator[Call]:
    """Connect to an appliance, and hang up afterwards. ``Call.offer`` opens the session.

    Without ``resume`` a broken WebSocket ends the conversation. One whose server does not answer a
    ping for ``ping_interval`` is broken.

    Raises:
        SignalError: there is no connection to be had.

    """
    call = Call(
        Endpoint(url, token, ssl_context),
        route=route,
        metadata=metadata,
        resume=resume,
        ping_interval=ping_interval,
    )
    async with _running(call):
        yield call


@asynccontextmanager
async def take_over(
    url: str,
    session: str,
    secret: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    ping_interval: float = PING_INTERVAL,
) -> AsyncIterator[Call]:
    """Go on with a session that was opened elsewhere, and hang up afterwards.

    Raises:
        SignalError: ``unknown-session``, or there is no connection to be had.

    """
    call = Call(Endpoint(url, None, ssl_context), ping_interval=ping_interval)
    call.session, call.secret = session, secret
    async with _running(call):
        yield call


@asynccontextmanager
async def _running(call: Call) -> AsyncIterator[None]:
    """Run a call's task, and hang up afterwards."""
    async with open_task_nursery() as nursery:
        await nursery.start(call.run)
        try:
            yield
        finally:
            with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
                await call.hang_up()
