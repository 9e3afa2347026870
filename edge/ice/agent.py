"""The ICE-lite agent of one peer (RFC 8445 §2.5), as a machine.

A lite agent sends no checks. It answers those of a full, controlling peer, learns from them where
the peer can be reached, and lets the peer choose among those places. What the peer says about its
candidates in SDP is therefore ignored: an address counts when an authenticated check came from it.

*Valid addresses.* The first check from an address makes it valid: from then on the owner accepts
DTLS and SRTP from it. The table is bounded; the address that was silent longest makes room, never
the selected one.

*Selection.* Media goes to one address. The first valid one serves until the peer nominates
(USE-CANDIDATE), since browsers send their ClientHello long before that. Then a nominated check from
elsewhere moves the media

- always, when what is selected was never nominated;
- when its PRIORITY is at least that of the selected pair;
- when nothing authenticated came from the selected address for ``QUIET``: the peer left it.

An un-nominated check moves media only from an address that was silent for the whole silence limit,
because consent for that address is then gone (RFC 7675 §5.1).

*Replay.* A check proves its author, not its sender: whoever copies one can send it again from
anywhere. The transaction ids of recent checks are kept with the address they first came from. The
same id from that address is a retransmission: it is answered and has no other effect, not even on
consent. From another address it is dropped. A copy that overtakes its original, or one that is
older than the memory, still looks like a peer that moved. The peer's next nominated check brings
the media home; so does any other of its checks, once the false address was silent for the limit.

*Consent.* Who sends no checks gets none of the responses that RFC 7675 takes for consent, so it is
inferred from what arrives. ``silence_limit`` seconds without a new check and without authenticated
SRTP from a valid address end the machine with ``ConsentLost``. Before the first check nothing is
armed; the owner limits that time.

*Restart* (RFC 8445 §9). ``restart`` gives the agent further credentials and changes nothing else:
checks with the old ones count as before, media stays where it is. The new credentials take over

- with the first nominated check that has them, wherever it comes from: media moves there;
- with any check that has them, if the selected address has been silent for ``QUIET``: the network
  that the peer restarts for is gone. A nominated one then moves media by the rules above.

From then on the old ones are answered for ``OVERLAP``, so that no pair of the peer's fails before
it has dropped it, and mean nothing else: neither selection, nor a valid address, nor consent.
Addresses that were validated by them only stay valid for as long. Without a new check in
``RESTART_TIMEOUT`` the restart has failed, and everything is as if it had not been.
"""

from attrs import define, frozen

from edge.errors import LocalProtocolError, StunError
from edge.ice.credentials import Credentials
from edge.ice.message import StunReason
from edge.ice.stun import Check, Refusal, Success, decode_request, encode_response
from edge.machine import Address, Machine

VALID_ADDRESSES_MAX = 16
TRANSACTIONS_MAX = 128
"""Remembered checks: five minutes of a Chromium that has settled on one pair, in 15 KiB."""
QUIET = 1.0
"""Seconds without a sign of life after which a nominated address may be left for a lesser one."""
OVERLAP = 5.0
"""Seconds for which credentials are answered that others have replaced."""
RESTART_TIMEOUT = 30.0
"""Seconds that a restart may take: longer than a client that gets answers tries."""


@frozen
class PeerValidated:
    """An authenticated check came from an address that was not valid."""

    address: Address


@frozen
class PairSelected:
    """Media goes to this address from now on."""

    address: Address


@frozen
class ConsentLost:
    """The peer was silent for too long: sending must stop now. The machine is closed."""


@frozen
class CredentialsRetired:
    """Checks with this ufrag of ours are not answered any more."""

    ufrag: str


IceEvent = PeerValidated | PairSelected | ConsentLost | CredentialsRetired


@frozen
class IceStatistics:
    """A snapshot of an agent. Times: seconds on the caller's monotonic clock."""

    checks_answered: int
    """Success responses, those to retransmissions included."""
    checks_refused: int
    """Error responses."""
    valid_addresses: int
    selected: Address | None
    nominated: bool
    """The peer itself chose the selected address."""
    last_check: float | None
    """When the latest new check came."""
    restarts: int
    """Those that have succeeded."""


@define
class _Pair:
    """What the peer has shown about one of its addresses."""

    priority: int
    nominated: bool
    heard_at: float
    local: Credentials
    """Of ours, which its latest check had."""


@frozen
class _Limited:
    """Credentials that are answered until then, beside those that count."""

    local: Credentials
    until: float


class IceLiteAgent(Machine[IceEvent]):
    """Answers the checks of one peer. ``silence_limit`` is in seconds."""

    def __init__(self, local: Credentials, *, silence_limit: float) -> None:
        super().__init__()
        self.local = local
        """Our credentials, those that count."""
        self.silence_limit = silence_limit
        self.selected: Address | None = None
        """Where media goes; None until there is a valid address."""
        self._next: _Limited | None = None
        self._previous: _Limited | None = None
        self._pairs: dict[Address, _Pair] = {}
        self._transactions: dict[bytes, Address] = {}
        self._heard_at: float | None = None
        self._last_check: float | None = None
        self._answered = 0
        self._refused = 0
        self._restarts = 0
        self._closed = False

    def restart(self, local: Credentials, now: float) -> None:
        """Answer checks with these credentials too, and let them take over once the peer is there.

        A restart that is under way is given up for the new one, which gets the addresses that it
        has validated: the peer may have moved there already (Chromium sends before it nominates).

        Raises:
            LocalProtocolError: they are answered already; a restart needs others.

        """
        if self._closed:
            return
        if self.answers(local):
            raise LocalProtocolError("ICE restarts with new credentials only")
        if self._next is not None:
            for pair in self._pairs.values():
                if pair.local == self._next.local:
                    pair.local = local
            self._forget_next()
        self._next = _Limited(local, now + RESTART_TIMEOUT)

    def answers(self, local: Credentials) -> bool:
        """Whether checks with these credentials are answered."""
        others = (each.local for each in (self._next, self._previous) if each is not None)
        return local == self.local or local in others

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        """Answer one check, at once and to where it came from."""
        if self._closed:
            return
        try:
            local, request = self._authenticate(data)
        except StunError as exc:
            self.drops[exc.reason] += 1
            return
        if isinstance(request, Refusal):
            self._refused += 1
            self._transmit(encode_response(request, local), source)
            return
        first_source = self._transactions.get(request.transaction_id)
        if first_source is not None and first_source != source:
            self.drops[StunReason.REPLAYED] += 1
            return
        self._answered += 1
        self._transmit(encode_response(Success(request.transaction_id, source), local), source)
        if first_source is None:
            self._remember(request.transaction_id, source)
            if not self._is_previous(local):
                self._accept(request, local, source, now)

    def note_liveness(self, address: Address, now: float) -> None:
        """Count an authenticated SRTP or SRTCP packet from ``address`` as a sign of life.

        Clients that stop their checks once connected (libnice) live by it. An address that no
        check has validated is ignored.
        """
        pair = self._pairs.get(address)
        if pair is None:
            return
        pair.heard_at = now
        if not self._is_previous(pair.local):
            self._heard_at = now

    def forget(self, address: Address) -> None:
        """Give up an address that cannot be reached any more: its TCP connection has ended.

        If media goes there, it moves to the address that was heard last. An only one stays, until
        the peer is back or consent is lost.
        """
        if address not in self._pairs or len(self._pairs) == 1:
            return
        del self._pairs[address]
        if address == self.selected:
            self.selected = max(self._pairs, key=lambda one: self._pairs[one].heard_at)
            self._emit(PairSelected(self.selected))

    def valid(self, address: Address) -> bool:
        """Whether an authenticated check came from ``address``."""
        return address in self._pairs

    def heard_at(self, address: Address) -> float | None:
        """When the latest new check or sign of life came from a valid address."""
        pair = self._pairs.get(address)
        return None if pair is None else pair.heard_at

    def handle_timeout(self, now: float) -> None:
        if self._closed:
            return
        silent_at = self._silent_at()
        if silent_at is not None and now >= silent_at:
            self._emit(ConsentLost())
            self.close(now)
            return
        if self._previous is not None and now >= self._previous.until:
            self._forget_previous()
        if self._next is not None and now >= self._next.until:
            self._forget_next()

    def close(self, now: float) -> None:  # noqa: ARG002 (the contract's signature)
        """Stop answering. ICE has no word for goodbye."""
        self._closed = True

    def next_timeout(self) -> float | None:
        if self._closed:
            return None
        times = [each.until for each in (self._previous, self._next) if each is not None]
        silent_at = self._silent_at()
        if silent_at is not None:
            times.append(silent_at)
        return min(times, default=None)

    def statistics(self) -> IceStatistics:
        selected = self._pairs[self.selected] if self.selected is not None else None
        return IceStatistics(
            checks_answered=self._answered,
            checks_refused=self._refused,
            valid_addresses=len(self._pairs),
            selected=self.selected,
            nominated=selected is not None and selected.nominated,
            last_check=self._last_check,
            restarts=self._restarts,
        )

    def _authenticate(self, data: bytes) -> tuple[Credentials, Check | Refusal]:
        """Return the credentials that a request is for, and what it asks."""
        for each in (self._next, self._previous):
            if each is not None:
                try:
                    return each.local, decode_request(data, each.local)
                except StunError as exc:
                    if exc.reason != StunReason.UNKNOWN_USERNAME:
                        raise
        return self.local, decode_request(data, self.local)

    def _accept(self, check: Check, local: Credentials, source: Address, now: float) -> None:
        """Let a new check have its effects."""
        self._heard_at = self._last_check = now
        if local == self.local:
            moves = self._moves_selection(check, source, now)
        else:
            moves = self._takes_over(check, now)
            if moves:
                self._take_over(local, now)
        pair = self._pairs.get(source)
        if pair is None:
            self._make_room()
            self._pairs[source] = _Pair(check.priority, check.nominated, now, local)
            self._emit(PeerValidated(source))
        else:
            pair.priority = check.priority
            pair.nominated = pair.nominated or check.nominated
            pair.heard_at = now
            if local == self.local:
                pair.local = local
        if moves and source != self.selected:
            self.selected = source
            self._emit(PairSelected(source))

    def _takes_over(self, check: Check, now: float) -> bool:
        """Whether a check of the restart makes its credentials those that count."""
        if self.selected is None or check.nominated:
            return True
        return now - self._pairs[self.selected].heard_at >= QUIET

    def _take_over(self, local: Credentials, now: float) -> None:
        """Let the restart's credentials count instead of the present ones."""
        self._forget_previous()
        self._previous = _Limited(self.local, now + OVERLAP)
        self.local, self._next = local, None
        for pair in self._pairs.values():
            pair.nominated = False
        self._restarts += 1

    def _is_previous(self, local: Credentials) -> bool:
        return self._previous is not None and local == self._previous.local

    def _forget_previous(self) -> None:
        """Retire the credentials that were replaced, and the addresses that only they validated."""
        if self._previous is not None:
            retired, self._previous = self._previous.local, None
            self._retire(retired)

    def _forget_next(self) -> None:
        """Give up a restart, with the addresses that only it validated."""
        if self._next is not None:
            retired, self._next = self._next.local, None
            self._retire(retired)

    def _retire(self, local: Credentials) -> None:
        self._pairs = {where: pair for where, pair in self._pairs.items() if pair.local != local}
        self._emit(CredentialsRetired(local.ufrag))

    def _silent_at(self) -> float | None:
        return None if self._heard_at is None else self._heard_at + self.silence_limit

    def _moves_selection(self, check: Check, source: Address, now: float) -> bool:
        """Apply the module's selection rule to the state before ``check``."""
        if self.selected is None or source == self.selected:
            return True
        selected = self._pairs[self.selected]
        silence = now - selected.heard_at
        if not check.nominated:
            return silence >= self.silence_limit
        return not selected.nominated or check.priority >= selected.priority or silence >= QUIET

    def _remember(self, transaction_id: bytes, source: Address) -> None:
        if len(self._transactions) >= TRANSACTIONS_MAX:
            del self._transactions[next(iter(self._transactions))]
        self._transactions[transaction_id] = source

    def _make_room(self) -> None:
        if len(self._pairs) < VALID_ADDRESSES_MAX:
            return
        unselected = (one for one in self._pairs if one != self.selected)
        del self._pairs[min(unselected, key=lambda one: self._pairs[one].heard_at)]
