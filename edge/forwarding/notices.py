"""What transceivers tell a relay worker: whose clients have authenticated, and whose have gone.

Those of this host send it to the worker's internal socket. Those of other hosts send it by the
trunk, which opens it, and with it packets for their clients. Packets go to who has a flow, so these
transceivers confirm only who has sent them a check through here: nobody has this host send to
strangers. Those of this host could anyway, so their word is enough.
"""

import errno
import socket
from collections.abc import Sequence

import trio

from edge.directory.flow_entry import Owner
from edge.errors import FrameError
from edge.fleet.owners import FIRST as FIRST_ELSEWHERE
from edge.forwarding.forwarder import Forwarder
from edge.forwarding.place import ForwardingPlace
from edge.routing import flows, frames

NOTICES_PER_WAKE = 64


class Notices:
    """Takes the notices of all transceivers into one worker's flow tables, and into Redis."""

    def __init__(self, place: ForwardingPlace, forwarders: Sequence[Forwarder]) -> None:
        self._internal = place.internal
        self._owners_by_address = {
            address: owner for owner, address in enumerate(place.transceivers)
        }
        self._owners = place.owners
        self._streams = place.streams
        self._cache = place.cache
        self._drops = place.drops
        self._forwarders = forwarders

    async def run(self) -> None:
        """Hear the transceivers of this host."""
        internal = self._internal
        while True:
            await trio.lowlevel.wait_readable(internal)
            for _ in range(NOTICES_PER_WAKE):
                try:
                    data, source = internal.recvfrom(frames.FRAME_BYTES_MAX, socket.MSG_DONTWAIT)
                except OSError as exc:
                    if exc.errno not in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                        raise
                    break
                owner = self._owners_by_address.get(source[:2])
                if owner is None:
                    self._drops["notice-from-stranger"] += 1
                    continue
                self._take_datagram(data, owner)

    def take(self, notice: frames.Frame, owner: int) -> None:
        """Do what a transceiver says; one of another host may also have packets for clients."""
        if notice.socket >= len(self._forwarders):
            if notice.socket == self._streams.index:
                self._streams.take_notice(notice, owner)
            else:
                self._drops["notice-unknown-socket"] += 1
            return
        forwarder = self._forwarders[notice.socket]
        table = forwarder.flows
        if notice.kind == frames.CONFIRM:
            elsewhere = owner >= FIRST_ELSEWHERE
            for row in notice.rows:
                verdict = table.confirm(row.client, owner, only_met=elsewhere)
                if verdict is flows.Verdict.UNMET:
                    self._drops["confirm-unknown-flow"] += 1
                elif verdict is flows.Verdict.ADDED and self._cache is not None:
                    name = Owner(*self._owners.transceiver_of(owner))
                    self._cache.store((notice.socket, row.client), name)
        elif notice.kind == frames.RELEASE:
            for row in notice.rows:
                if table.release(row.client, owner) and self._cache is not None:
                    self._cache.remove((notice.socket, row.client))
        elif notice.kind == frames.DELIVER and owner >= FIRST_ELSEWHERE:
            assert forwarder.delivery is not None  # the trunk has brought it
            forwarder.delivery.deliver(notice.rows, owner)
        else:
            self._drops["notice-unexpected"] += 1

    def _take_datagram(self, data: bytes, owner: int) -> None:
        try:
            notice = frames.decode_frame(memoryview(data))
        except FrameError as exc:
            self._drops[exc.reason] += 1
            return
        self.take(notice, owner)
