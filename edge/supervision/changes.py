"""Changes under running calls: a reload, an upgrade, and the new version's own workers after one.

Each replaces workers, so there is one at a time, none before the first workers are ready, and none
once the service stops.
"""

import logging
import time
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from edge.errors import BootError, ConfigError
from edge.operate.protocol import OperatorError, RefusalCode
from edge.sdnotify import ServiceManager
from edge.supervision.registration import HostRegistration
from edge.supervision.reload import Load, Reload
from edge.supervision.succession import Succession
from edge.supervision.voice import Voice

logger = logging.getLogger(__name__)

REPLY_TIME = 0.1
"""How long an operator's command has to hear that an upgrade begins."""
END_TIME = 1.0
"""How long a change that is broken off may take to notice it."""
STOPPING = "the service is stopping"


@define(eq=False)
class Changes:
    """Makes them, and tells the service manager, the log and whoever asked what came of it."""

    _nursery: trio.Nursery
    _load: Load
    _reload: Reload
    _succession: Succession
    _voice: Voice
    _registration: HostRegistration
    _manager: ServiceManager
    _stop_asked: trio.Event
    _changing: trio.Lock = field(init=False, factory=trio.Lock)
    _begun: trio.Event = field(init=False, factory=trio.Event)
    _under_way: set[trio.CancelScope] = field(init=False, factory=set)

    def begin(self) -> None:
        """Make changes from now on; those that were asked for earlier have waited."""
        self._begun.set()

    async def end(self) -> None:
        """Have the one that is under way, and those that wait, end where they are."""
        for scope in self._under_way:
            scope.cancel()
        with trio.move_on_after(END_TIME):
            async with self._changing:
                pass

    def refuse_at_end(self) -> None:
        """Refuse what is of no use to a service that stops.

        Raises:
            OperatorError: it is stopping.

        """
        if self._stop_asked.is_set():
            raise OperatorError(RefusalCode.NOT_NOW, STOPPING)

    async def reload(self) -> str:
        """Read configuration and keys again, and make live what can be; return what came of it.

        Raises:
            OperatorError: nothing was changed, or a worker does not start, or the service stops.

        """
        return await self._alone(self._make_reload)

    async def upgrade(self) -> str:
        """Have the program of now follow this one; return what is going to happen.

        Raises:
            OperatorError: it cannot; everything is as before.

        """
        said = await self._alone(self._prepare_upgrade)
        self._nursery.start_soon(self._make_way)
        return said

    async def renew(self) -> None:
        """Have workers of this version take over from the predecessor's, before ``begin``."""
        async with self._changing:
            try:
                await self._succession.renew()
            except BootError as exc:
                logger.error(  # noqa: TRY400 - told in full
                    "upgrade: the workers of the former version go on: %s", exc
                )

    async def _alone(self, verb: Callable[[], Awaitable[str]]) -> str:
        """Make one change, when it is its turn. Raises OperatorError."""
        self.refuse_at_end()
        with trio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                await self._begun.wait()
                async with self._changing:
                    return await verb()
            finally:
                self._under_way.discard(scope)
        logger.warning("a change has been broken off: %s", STOPPING)
        raise OperatorError(RefusalCode.NOT_NOW, STOPPING)

    async def _make_reload(self) -> str:
        self._manager.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        try:
            config, keys = await trio.to_thread.run_sync(self._load, abandon_on_cancel=True)
            text = await self._reload.apply(config, keys)
            self._voice.renew()
            self._registration.follow(self._nursery)
        except ConfigError as exc:
            text = f"nothing was changed: {exc}"
            logger.error("reload: %s", text)  # noqa: TRY400 - told in full
            raise OperatorError(RefusalCode.NOT_NOW, text) from exc
        except BootError as exc:
            text = f"not all was changed: {exc}"
            logger.error("reload: %s", text)  # noqa: TRY400 - told in full
            raise OperatorError(RefusalCode.NOT_NOW, text) from exc
        finally:
            self._manager.tell(READY=1)
        logger.info("reload: %s", text)
        return text

    async def _prepare_upgrade(self) -> str:
        try:
            version = await self._succession.prepare()
        except (BootError, ConfigError) as exc:
            text = f"nothing was changed: {exc}"
            logger.error("upgrade: %s", text)  # noqa: TRY400 - told in full
            raise OperatorError(RefusalCode.NOT_NOW, text) from exc
        return f"{version} takes over"

    async def _make_way(self) -> None:
        """Become the successor, who would not know that a stop was asked."""
        await trio.sleep(REPLY_TIME)
        async with self._changing:
            if self._stop_asked.is_set():
                return
            logger.info("upgrade: going on as %s", self._succession.program)
            self._manager.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
            try:
                self._succession.execute()
            except OSError as exc:
                self._manager.tell(READY=1)
                logger.error("upgrade: nothing was changed: %s", exc)  # noqa: TRY400
