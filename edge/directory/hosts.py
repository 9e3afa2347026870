"""The hosts with transceivers, as their own entries in Redis tell: where they take frames."""

from collections import Counter

from edge.directory.flow_entry import CLOCK_SKEW
from edge.directory.host_entry import HostEntry, HostName, decode_host
from edge.directory.settings import ENTRY_TIME
from edge.directory.signing import Signer
from edge.errors import StoreError
from edge.routing.numbers import transceiver_number

HOSTS_MAX = 4_096


class HostDirectory:
    """What was read last. What cannot be read any more takes nothing away: Redis may be down.

    Times: unix seconds.
    """

    def __init__(self, signer: Signer, place: bytes) -> None:
        self.signer = signer
        self.drops: Counter[str] = Counter()
        """Entries that were not believed, by reason."""
        self._place = place
        self._hosts: dict[HostName, HostEntry] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def fields(self) -> list[bytes]:
        """Return what the known hosts are called in Redis."""
        return [name.field for name in self._hosts]

    def note(self, field: object, value: object, now: float) -> None:
        """Take one entry, if it is a member's, fresh, and not older than what is known."""
        try:
            entry = decode_host(self.signer, self._place, field, value)
        except StoreError as exc:
            self.drops[exc.reason] += 1
            return
        if not is_fresh(entry, now):
            self.drops["entry-stale"] += 1
            return
        known = self._hosts.get(entry.name)
        if known is None and len(self._hosts) >= HOSTS_MAX:
            self.drops["entry-too-many"] += 1
            return
        if known is not None and entry.written_at < known.written_at <= now + CLOCK_SKEW:
            self.drops["entry-stale"] += 1
            return
        self._hosts[entry.name] = entry

    def prune(self, now: float) -> None:
        """After all entries were read: forget hosts that do not renew theirs.

        What is from the future was taken while the clock was ahead, and is not renewed either.
        """
        for name, entry in list(self._hosts.items()):
            if not is_fresh(entry, now):
                del self._hosts[name]

    def places(self) -> dict[tuple[int, int], tuple[str, int]]:
        """Return where each registered transceiver worker takes frames, by cluster and number."""
        return {
            (name.cluster, transceiver_number(name.host, each.slot)): (
                entry.internal,
                entry.frame_port + each.slot,
            )
            for name, entry in self._hosts.items()
            for each in entry.slots
        }


def is_fresh(entry: HostEntry, now: float) -> bool:
    """Whether a host that is there may have written it."""
    return -CLOCK_SKEW <= now - entry.written_at <= ENTRY_TIME + CLOCK_SKEW
