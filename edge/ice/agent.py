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
"""

from attrs import define, frozen

from edge.errors import StunError
from edge.ice.credentials import Credentials
from edge.ice.message import StunReason
from edge.ice.stun import Check, Refusal, Success, decode_request, encode_response
from edge.machine import Address, Machine

VALID_ADDRESSES_MAX = 16
TRANSACTIONS_MAX = 128
"""Remembered checks: five minutes of a Chromium that has settled on one pair, in 15 KiB."""
QUIET = 1.0
"""Seconds without a sign of life after which a nominated address may be left for a lesser one."""


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


IceEvent = PeerValidated | PairSelected | ConsentLost


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


@define
class _Pair:
    """What the peer has shown about one of its addresses."""

    priority: int
    nominated: bool
    heard_at: float


class IceLiteAgent(Machine[IceEvent]):
    """Answers the checks of one peer. ``silence_limit`` is in seconds."""

    def __init__(self, local: Credentials, *, silence_limit: float) -> None:
        super().__init__()
        self.local = local
        self.silence_limit = silence_limit
        self.selected: Address | None = None
        """Where media goes; None until there is a valid address."""
        self._pairs: dict[Address, _Pair] = {}
        self._transactions: dict[bytes, Address] = {}
        self._heard_at: float | None = None
        self._last_check: float | None = None
        self._answered = 0
        self._refused = 0
        self._closed = False

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:
        """Answer one check, at once and to where it came from."""
        if self._closed:
            return
        try:
            request = decode_request(data, self.local)
        except StunError as exc:
            self.drops[exc.reason] += 1
            return
        if isinstance(request, Refusal):
            self._refused += 1
            self._transmit(encode_response(request, self.local), source)
            return
        first_source = self._transactions.get(request.transaction_id)
        if first_source is not None and first_source != source:
            self.drops[StunReason.REPLAYED] += 1
            return
        self._answered += 1
        self._transmit(encode_response(Success(request.transaction_id, source), self.local), source)
        if first_source is None:
            self._accept(request, source, now)

    def note_liveness(self, address: Address, now: float) -> None:
        """Count an authenticated SRTP or SRTCP packet from ``address`` as a sign of life.

        Clients that stop their checks once connected (libnice) live by it. An address that no
        check has validated is ignored.
        """
        pair = self._pairs.get(address)
        if pair is None:
            return
        pair.heard_at = now
        self._heard_at = now

    def valid(self, address: Address) -> bool:
        """Whether an authenticated check came from ``address``."""
        return address in self._pairs

    def handle_timeout(self, now: float) -> None:
        due = self.next_timeout()
        if due is None or now < due:
            return
        self._emit(ConsentLost())
        self.close(now)

    def close(self, now: float) -> None:  # noqa: ARG002 (the contract's signature)
        """Stop answering. ICE has no word for goodbye."""
        self._closed = True

    def next_timeout(self) -> float | None:
        if self._closed or self._heard_at is None:
            return None
        return self._heard_at + self.silence_limit

    def statistics(self) -> IceStatistics:
        selected = self._pairs[self.selected] if self.selected is not None else None
        return IceStatistics(
            checks_answered=self._answered,
            checks_refused=self._refused,
            valid_addresses=len(self._pairs),
            selected=self.selected,
            nominated=selected is not None and selected.nominated,
            last_check=self._last_check,
        )

    def _accept(self, check: Check, source: Address, now: float) -> None:
        """Let a new check have its effects."""
        self._remember(check.transaction_id, source)
        self._heard_at = self._last_check = now
        moves = self._moves_selection(check, source, now)
        pair = self._pairs.get(source)
        if pair is None:
            self._make_room()
            self._pairs[source] = _Pair(check.priority, check.nominated, now)
            self._emit(PeerValidated(source))
        else:
            pair.priority = check.priority
            pair.nominated = pair.nominated or check.nominated
            pair.heard_at = now
        if moves:
            self.selected = source
            self._emit(PairSelected(source))

    def _moves_selection(self, check: Check, source: Address, now: float) -> bool:
        """Apply the module's selection rule to the state before ``check``."""
        if self.selected is None:
            return True
        if source == self.selected:
            return False
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
