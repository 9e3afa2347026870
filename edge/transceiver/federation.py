"""One transceiver worker's part in the fleet: the hosts it asks, and the door they come in by."""

from collections import Counter

import trio

from edge.fleet.map import FleetKey
from edge.fleet.seal import KeyRing
from edge.fleet.states import StateTable
from edge.signal.intake import Door
from edge.transceiver.gateway import Gateway
from edge.transceiver.neighbours import Start
from edge.transceiver.owning import Source
from edge.transceiver.peers import Peers
from edge.transceiver.settings import PeersSettings


class Federation:
    """What a worker of a fleet has beyond that of a lone host. ``doors`` are its listeners."""

    def __init__(self, settings: PeersSettings, *, is_open: bool) -> None:
        self._fleet = settings.fleet
        self._ring = KeyRing(settings.keys)
        self._states = StateTable(settings.state_memory.map())
        self._gateway: Gateway | None = None
        self._peers: Peers | None = None
        self.drops: Counter[str] = Counter()
        """Connections that were not let in, and messages not understood, by reason."""
        self.doors = [
            Door(trio.SocketListener(trio.socket.from_stdlib_socket(one)), is_open=is_open)
            for one in settings.listeners
        ]

    def peers(self, start: Start) -> Peers:
        """Return the other hosts. ``start`` runs the tasks of connections to them."""
        self._peers = Peers(self._fleet, self._ring, self._states, start)
        return self._peers

    async def serve(
        self,
        source: Source,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Let other hosts in, and to what ``source`` has."""
        self._gateway = Gateway(self._fleet, self._ring, source, self._states, self.drops)
        await self._gateway.serve(self.doors, task_status=task_status)

    def use_keys(self, keys: list[FleetKey]) -> None:
        """Make and take connections by these keys.

        Those that were made by another than the first are replaced, and what they carried goes on.
        Those whose key is not there any more end.
        """
        self._ring.use(keys)
        if self._gateway is not None:
            self._gateway.end_outdated()
        if self._peers is not None:
            self._peers.renew_connections()
