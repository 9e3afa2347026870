"""One supervisor's end of an upgrade, and the next one's beginning (handover.py says how)."""

import multiprocessing.util
import os
import shutil
import socket
from functools import partial
from typing import NoReturn

import trio

from edge import __version__
from edge.config import waiting_keys
from edge.errors import BootError
from edge.supervision.commons import descriptors
from edge.supervision.crew import Crew, gather
from edge.supervision.estate import Estate
from edge.supervision.handover import HandedWorker, Handover, Successor
from edge.supervision.offspring import Inherited, reap_child
from edge.supervision.relays import Relays
from edge.supervision.reload import Load
from edge.supervision.transceivers import Transceivers
from edge.supervision.worker import SupervisedWorker

CHECK_TIME = 30.0
"""How long a command that checks the successor may take."""
_SAID_CHARS_MAX = 1000


class Succession:
    """Makes way for the program of now."""

    def __init__(
        self,
        estate: Estate,
        relays: Relays,
        transceivers: Transceivers,
        successor: Successor,
        load: Load,
        started_at: float,
    ) -> None:
        self._estate = estate
        self._relays = relays
        self._transceivers = transceivers
        self._successor = successor
        self._load = load
        self._started_at = started_at

    @property
    def program(self) -> str:
        """The program that is going to be executed."""
        return self._successor.command[0]

    async def prepare(self) -> str:
        """See whether the successor can be expected to come up; return what it calls itself.

        Raises:
            BootError: no.
            ConfigError: the configuration cannot be used.

        """
        config, _ = await trio.to_thread.run_sync(self._load)
        if waiting := waiting_keys(self._estate.config, config):
            raise BootError(f"the configuration needs a restart: {', '.join(waiting)}")
        for one in (*self._relays.active, *self._transceivers.active):
            if not one.is_running:
                raise BootError(f"worker {one.name} is not running")
        self._transceivers.check_room(self._estate.config.transceiver.workers)
        await _run(self._successor.check)
        return await _run(self._successor.version)

    def execute(self) -> NoReturn:
        """Become the successor.

        Raises:
            OSError: it cannot be executed.

        """
        workers = [
            *_handed(self._relays),
            *_handed(self._transceivers),
        ]
        self._successor.execute(
            Handover(
                process=os.getpid(),
                version=__version__,
                descriptors=descriptors(self._estate),
                workers=workers,
                hash_key=self._estate.neighbourhood.access_hash_key,
                started_at=self._started_at,
                drain=self._estate.drain,
                litter=[multiprocessing.util.get_temp_dir()],
            )
        )

    async def renew(self) -> None:
        """Have workers of this version take over from those that were adopted.

        Raises:
            BootError: they do not start; the former ones go on.

        """
        await self._transceivers.replace()
        await self._relays.set_count(self._estate.config.relay.workers)
        await self._relays.replace()


def adopt(handover: Handover, estate: Estate, relays: Relays, transceivers: Transceivers) -> None:
    """Take over the predecessor's workers, each in its place."""
    estate.drain = handover.drain
    in_order = sorted(handover.workers, key=lambda each: -1 if each.place is None else each.place)
    for each in in_order:
        crew: Relays | Transceivers = relays if each.kind == "relay" else transceivers
        worker = crew.inherit(each.index, each.place)
        worker.policy.restarts = each.restarts
        worker.inherit(Inherited(each.pid, each.sentinel), socket.socket(fileno=each.channel))
        if each.place is None:
            worker.note_leaving()
            crew.leaving[worker] = each.ends_at
        else:
            crew.active.append(worker)


async def clean_up(handover: Handover, left: list[int]) -> None:
    """Remove what the predecessor has no use for any more; reap its other children."""
    for path in handover.litter:
        await trio.to_thread.run_sync(partial(shutil.rmtree, path, ignore_errors=True))
    await gather([partial(reap_child, pid) for pid in left])


def _handed(crew: Crew) -> list[HandedWorker]:
    places: list[tuple[SupervisedWorker, int | None]] = [
        (one, place) for place, one in enumerate(crew.active)
    ]
    places += [(one, None) for one in crew.leaving]
    return [
        HandedWorker(
            kind=one.kind,
            index=one.index,
            place=place,
            pid=one.process.pid,
            sentinel=one.process.sentinel,
            channel=one.channel,
            ends_at=crew.leaving.get(one, 0.0),
            restarts=one.policy.restarts,
        )
        for one, place in places
        if one.process is not None
    ]


async def _run(command: tuple[str, ...]) -> str:
    """Run a command that has to succeed, and return what it says. Raises BootError."""
    name = " ".join(command)
    result = None
    with trio.move_on_after(CHECK_TIME):
        try:
            result = await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False
            )
        except OSError as exc:
            raise BootError(f"{name}: {exc.strerror}") from exc
    if result is None:
        raise BootError(f"{name}: not done after {CHECK_TIME:g} s")
    if result.returncode:
        said = (result.stderr or result.stdout).decode(errors="replace").strip()
        raise BootError(f"{name}: status {result.returncode}: {said[-_SAID_CHARS_MAX:]}")
    return result.stdout.decode(errors="replace").strip()[:_SAID_CHARS_MAX]
