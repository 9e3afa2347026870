"""A nursery for tasks that serve the code inside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_task_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is cancelled when the code inside it leaves.

    Callers of a library should not have to know that it has tasks: an exception of the code inside
    passes as it is, and so does a task's, if it is the only one.
    """
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except Exception as exc:  # noqa: BLE001 - it is raised below
                failure = exc
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
    if failure is not None:
        raise failure
