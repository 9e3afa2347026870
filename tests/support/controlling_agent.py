"""The other side of an ICE-lite agent: a full, controlling agent cut down to one pair."""

from attrs import frozen

from edge.errors import StunError
from edge.ice.credentials import Credentials
from edge.ice.stun import Refusal, decode_response, encode_request
from edge.machine import Address, Entropy, Machine

CHECK_INTERVAL = 0.1


@frozen
class CheckSucceeded:
    """The peer answered, and saw us at ``mapped``."""

    mapped: Address
    nominated: bool
    """The answered check carried USE-CANDIDATE."""


@frozen
class CheckRefused:
    code: int


class ControllingAgent(Machine[CheckSucceeded | CheckRefused]):
    """Checks ``peer`` every ``CHECK_INTERVAL`` from ``start`` on, and nominates once answered."""

    def __init__(
        self,
        local: Credentials,
        remote: Credentials,
        peer: Address,
        entropy: Entropy,
        *,
        priority: int = 0x6E7F1EFF,
    ) -> None:
        super().__init__()
        self.local, self.remote = local, remote
        self.peer = peer
        self.priority = priority
        self.nominates = False
        self._entropy = entropy
        self._tie_breaker = int.from_bytes(entropy(8), "big")
        self._asked: dict[bytes, bool] = {}
        self._next_check: float | None = None

    def start(self, now: float) -> None:
        self._check(now)

    def receive_datagram(self, data: bytes, source: Address, now: float) -> None:  # noqa: ARG002
        if self._next_check is None:
            return
        try:
            response = decode_response(data, self.remote)
        except StunError as exc:
            self.drops[exc.reason] += 1
            return
        nominated = self._asked.pop(response.transaction_id, None)
        if nominated is None or source != self.peer:
            self.drops["unasked"] += 1
        elif isinstance(response, Refusal):
            self._emit(CheckRefused(response.code))
        else:
            self.nominates = True
            self._emit(CheckSucceeded(response.mapped, nominated))

    def handle_timeout(self, now: float) -> None:
        if self._next_check is not None and now >= self._next_check:
            self._check(now)

    def close(self, now: float) -> None:  # noqa: ARG002
        self._next_check = None

    def next_timeout(self) -> float | None:
        return self._next_check

    def _check(self, now: float) -> None:
        transaction_id = self._entropy(12)
        self._asked[transaction_id] = self.nominates
        data = encode_request(
            local=self.local,
            remote=self.remote,
            priority=self.priority,
            tie_breaker=self._tie_breaker,
            use_candidate=self.nominates,
            transaction_id=transaction_id,
        )
        self._transmit(data, self.peer)
        self._next_check = now + CHECK_INTERVAL
