"""The flow table against a plain model with time stamps, over random histories."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.routing.flows import UNKNOWN, FlowTable, Verdict

CLIENTS = st.integers(0, 5).map(lambda number: bytes([number]) * 28)
OWNERS = st.integers(0, 3)
CONFIRMED_MAX = 4
TENTATIVE_MAX = 3


class FlowModel(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.table = FlowTable(CONFIRMED_MAX, TENTATIVE_MAX)
        self.generation = 0
        self.confirmed: dict[bytes, tuple[int, int]] = {}  # client -> owner, generation last used

    def live(self, client: bytes) -> int:
        """Return the confirmed owner by the model, and renew it as any use does."""
        if client not in self.confirmed:
            return UNKNOWN
        owner, used = self.confirmed[client]
        if used < self.generation - 1:
            del self.confirmed[client]
            return UNKNOWN
        self.confirmed[client] = owner, self.generation
        return owner

    @rule(client=CLIENTS, owner=OWNERS)
    def propose(self, client: bytes, owner: int) -> None:
        assert self.table.propose(client, owner) == (self.live(client) == owner)

    @rule(client=CLIENTS, owner=OWNERS, only_met=st.booleans())
    def confirm(self, client: bytes, owner: int, only_met: bool) -> None:
        found = self.table.find(client)
        verdict = self.table.confirm(client, owner, only_met=only_met)
        known = self.live(client)
        if known == owner:
            assert verdict is Verdict.KNOWN
        elif known != UNKNOWN:
            assert verdict is Verdict.CONFLICT
        elif only_met and found != owner:
            assert verdict is Verdict.UNMET
        elif verdict is Verdict.ADDED:
            self.confirmed[client] = owner, self.generation
        else:
            assert verdict is Verdict.FULL
            alive = [one for one in self.confirmed.values() if one[1] >= self.generation - 1]
            assert len(alive) >= CONFIRMED_MAX

    @rule(client=CLIENTS, owner=OWNERS)
    def release(self, client: bytes, owner: int) -> None:
        self.table.release(client, owner)
        if self.confirmed.get(client, (UNKNOWN, 0))[0] == owner:
            del self.confirmed[client]

    @rule()
    def rotate(self) -> None:
        self.table.rotate()
        self.generation += 1

    @rule(client=CLIENTS)
    def find(self, client: bytes) -> None:
        found, confirmed = self.table.find(client), self.live(client)
        if confirmed != UNKNOWN:
            assert found == confirmed

    @invariant()
    def bounded(self) -> None:
        counts = self.table.statistics()
        assert counts.confirmed <= CONFIRMED_MAX
        assert counts.tentative <= TENTATIVE_MAX


TestFlowModel = FlowModel.TestCase
TestFlowModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
