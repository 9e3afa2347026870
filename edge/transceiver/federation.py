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
        self.drops: Counter[str] = Counter()
        """Connections that were not let in, and messages not understood, by reason."""
        self.doors = [
            Door(trio.SocketListener(trio.socket.from_stdlib_socket(one)), is_open=is_open)
            for one in settings.listeners
        ]

    def peers(self, start: Start) -> Peers:
        """Return the other hosts. ``start`` runs the tasks of connections to them."""
        return Peers(self._fleet, self._ring, self._states, start)

    async def serve(
        self,
        source: Source,
        *,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Let other hosts in, and to what ``source`` has."""
        gateway = Gateway(self._fleet, self._ring, source, self._states, self.drops)
        await gateway.serve(self.doors, task_status=task_status)

    def use_keys(self, keys: list[FleetKey]) -> None:
        """Make and take new connections by these keys; those that there are go on."""
        self._ring.use(keys)
