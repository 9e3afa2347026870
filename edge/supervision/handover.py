"""A supervisor becomes its successor: exec, with the same process id and everything in its hands.

The service manager keeps seeing the main process that it knows, sockets never close, and workers
notice nothing: they are children of a forkserver that lives on with them (offspring.py), and
their control channels, being descriptors, pass on as well. What the successor has to know stands in
a document in an anonymous file, whose descriptor an environment variable names.

The document is read by another version than wrote it. Fields may be added, with defaults; what a
reader does not know it ignores.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec
from attrs import field, frozen

from edge.control.status import Drain, WorkerKind
from edge.errors import BootError
from edge.supervision.signals import hold_signals, take_signals

VARIABLE = "EDGE_HANDOVER"

_DOCUMENT_BYTES_MAX = 1 << 20


class HandedWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that runs."""

    kind: WorkerKind
    index: int
    place: int | None
    """Among those that work; None: it is leaving."""
    pid: int
    sentinel: int
    """Descriptor: tells how it ends."""
    channel: int
    """Descriptor: our end of its control channel."""
    ends_at: float = 0.0
    """When one that is leaving will have ended: seconds on the system-wide monotonic clock."""
    restarts: int = 0


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor leaves to its successor."""

    process: int
    """The process id of both."""
    version: str
    """The predecessor's."""
    descriptors: dict[str, int]
    """Sockets and memories, by the names that ``ServiceManager.take`` knows them by."""
    workers: list[HandedWorker]
    hash_key: bytes
    """Of the tables of who was let in."""
    started_at: float
    """Of the service: seconds on the system-wide monotonic clock."""
    drain: Drain | None = None
    litter: list[str] = []
    """Directories of the predecessor's that are of no use any more."""

    def __repr__(self) -> str:
        return f"Handover(version={self.version!r}, workers={len(self.workers)})"

    @property
    def relay_places(self) -> int:
        """How many places relay workers have."""
        return sum(each.kind == "relay" and each.place is not None for each in self.workers)

    def all_descriptors(self) -> list[int]:
        ends = [end for each in self.workers for end in (each.sentinel, each.channel)]
        return [*self.descriptors.values(), *ends]


@frozen
class Successor:
    """The program that would follow this one: what the file system has under its name now."""

    command: tuple[str, ...]
    check: tuple[str, ...]
    """Its command that tells whether it can run, with this configuration."""
    version: tuple[str, ...]
    """Its command that tells what it is."""
    environment: Mapping[str, str] = field(factory=dict, repr=False)

    def execute(self, handover: Handover) -> NoReturn:
        """Become it.

        Raises:
            OSError: it cannot be executed; we are still who we were.

        """
        memory = os.memfd_create("edge-handover", os.MFD_CLOEXEC)
        passed = handover.all_descriptors()
        hold_signals()
        try:
            os.write(memory, msgspec.msgpack.encode(handover))
            for descriptor in passed:
                os.set_inheritable(descriptor, True)  # noqa: FBT003 - the library's signature
            os.set_inheritable(memory, True)  # noqa: FBT003 - the library's signature
            environment = {**self.environment, VARIABLE: str(memory)}
            os.execvpe(self.command[0], self.command, environment)  # noqa: S606 - our own name
        finally:
            _keep_to_ourselves(passed)
            os.close(memory)
            take_signals()


def take_handover(environment: Mapping[str, str], process: int) -> Handover | None:
    """Return what our predecessor has left us; None if we have none.

    Raises:
        BootError: it cannot be read.

    """
    named = environment.get(VARIABLE)
    if named is None:
        return None
    try:
        data = os.pread(int(named), _DOCUMENT_BYTES_MAX, 0)
        os.close(int(named))
        handover = msgspec.msgpack.decode(data, type=Handover)
    except (OSError, ValueError, msgspec.DecodeError) as exc:
        raise BootError(f"what the former supervisor left cannot be read: {exc}") from exc
    if handover.process != process:
        raise BootError("what the former supervisor left is for another process")
    _keep_to_ourselves(handover.all_descriptors())
    return handover


def children() -> list[int]:
    """Return our child processes; none where the kernel does not tell."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            found += map(int, (thread / "children").read_text().split())
    return found


def _keep_to_ourselves(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the library's signature
