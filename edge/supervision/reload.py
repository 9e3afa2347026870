"""A configuration read again, made so under running calls.

What workers have as settings decides: if those of a transceiver differ, a new generation takes
over; if those of a relay differ, each relay worker is replaced. Keys and the log level change by
order. Transceivers come first, since they are what may fail, and then nothing has been changed.
"""

import logging
from collections.abc import Callable

from attrs import define, evolve

from edge.config import Config, apply_live, live_problems, waiting_keys
from edge.config.keypath import format_key_path
from edge.control import messages
from edge.errors import BootError, ConfigError
from edge.keys import KeySet
from edge.supervision.crew import Crew
from edge.supervision.estate import Estate
from edge.supervision.relays import Relays
from edge.supervision.transceivers import Transceivers

logger = logging.getLogger(__name__)

Load = Callable[[], tuple[Config, KeySet]]
"""Reads configuration and keys. Raises ConfigError."""


@define(eq=False)
class Reload:
    """Applies configurations to a running service."""

    estate: Estate
    relays: Relays
    transceivers: Transceivers

    async def apply(self, config: Config, keys: KeySet) -> str:
        """Make what can be changed live so; return what came of it, and what cannot.

        Raises:
            ConfigError: what is to be changed and what stays do not fit together, or the new
                transceiver workers do not start. Nothing was changed.
            BootError: a relay worker does not start; the rest was changed.

        """
        estate = self.estate
        if waiting := waiting_keys(estate.config, config):
            logger.warning("reload: wait for a restart: %s", ", ".join(waiting))
        config = apply_live(estate.config, config)
        if problems := list(live_problems(config)):
            texts = (f"{format_key_path(path)}: {text}" for path, text in problems)
            raise ConfigError(f"without a restart it would not fit together: {'; '.join(texts)}")
        former = estate.config, estate.keys
        relays, transceivers = self._probe()
        estate.config = config
        estate.keys = evolve(keys, routing=estate.keys.routing, fleet=estate.keys.fleet)
        relays_now, transceivers_now = self._probe()
        regenerate = transceivers_now != transceivers
        if config.transceiver.workers != len(self.transceivers.active):
            regenerate = True
        if regenerate:
            try:
                await self.transceivers.replace()
            except BootError as exc:
                estate.config, estate.keys = former
                raise ConfigError(str(exc)) from exc
        changed = await self._set_watch(former[0]) or regenerate
        if keys.routing != estate.keys.routing:
            await self._rotate_keys(keys)
            changed = True
        if keys.fleet != estate.keys.fleet:
            estate.keys = evolve(estate.keys, fleet=keys.fleet)
            await self.relays.use_fleet_keys()
            await self.transceivers.use_fleet_keys()
            changed = True
        if relays_now != relays:
            await self.relays.replace()
            changed = True
        if config.relay.workers != len(self.relays.active):
            await self.relays.set_count(config.relay.workers)
            changed = True
        await self.transceivers.reload_files()
        text = "done" if changed else "nothing to change"
        return f"{text}; wait for a restart: {', '.join(waiting)}" if waiting else text

    def _probe(self) -> tuple[object, object]:
        """Return what workers would be given now; only good to compare."""
        estate = self.estate
        return estate.relay_settings(0, 0), estate.transceiver_settings(0, 0)

    @property
    def _crews(self) -> tuple[Crew, Crew]:
        return self.relays, self.transceivers

    async def _set_watch(self, former: Config) -> bool:
        """Change how workers are watched, and how much they log."""
        estate = self.estate
        if former.supervisor == estate.config.supervisor and former.log == estate.config.log:
            return False
        level = estate.config.log.level
        logging.getLogger().setLevel(level.upper())
        for crew in self._crews:
            for one in crew.everybody:
                one.watch, one.log_level = estate.watch(), level
                one.policy.space(estate.restart_policy())
            await crew.tell_all(lambda: messages.LogAs(estate.new_order(), level))
        return True

    async def _rotate_keys(self, keys: KeySet) -> None:
        """Accept new keys everywhere, then use the new first one, then drop what is gone."""
        estate = self.estate
        new = keys.routing
        taken = {each.id for each in new}
        kept = tuple(each for each in estate.keys.routing if each.id not in taken)
        estate.keys = evolve(estate.keys, routing=new + kept)
        await self.relays.accept_keys()
        await self.transceivers.use_key()
        estate.keys = evolve(estate.keys, routing=new)
        await self.relays.accept_keys()
        logger.info(
            "reload: routing keys %s accepted, %d in use",
            ", ".join(str(each.id) for each in new),
            new[0].id,
        )
