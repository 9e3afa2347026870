"""Floods beside ten calls: nothing is answered, nothing grows, everything is counted.

The calls lose nothing as long as the kernel drops nothing. On a machine that is too slow for the
rate, or busy with something else, it does: then the loss is only printed.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from attrs import frozen

from edge.control.statistics import FlowCounts
from edge.routing.limits import STRAY_CHECKS_MAX
from edge.transceiver.bindings import BINDINGS_MAX
from tests.adversary.attacks import forged_check, own_check
from tests.adversary.flooding import Outcome, compile_flooder, flood, write_packets
from tests.adversary.hosts import relays_of, transceivers_of
from tests.support.appliance import Appliance, running_appliance, wait_status
from tests.support.caller import LiveCall, calling

CALLS = 10
GROWTH_KIB_MAX = 10 * 1024
SOURCES = 10_000
CHANCE_MAX = 20
"""Packets that may have another reason: a forgery passes the seal once in 2^24 and then names some
other cluster; random bytes may look like STUN."""


@frozen
class Stage:
    appliance: Appliance
    calls: list[LiveCall]


@pytest.fixture(scope="session")
def flooder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_flooder(tmp_path_factory.mktemp("flooder")))


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with running_appliance(tmp_path) as appliance, AsyncExitStack() as stack:
        origin = await appliance.origin()
        calls = [await stack.enter_async_context(calling(origin)) for _ in range(CALLS)]
        for call in calls:
            await call.wait_echo(10)
        yield Stage(appliance, calls)


def assert_unmoved(outcome: Outcome) -> None:
    """Nobody's memory has grown, and the calls have lost nothing that reached the appliance."""
    assert max(outcome.growth_kib.values()) < GROWTH_KIB_MAX
    assert len(outcome.growth_kib) == 4
    if not outcome.kernel_drops:
        assert outcome.lost == 0


@pytest.mark.parametrize(
    ("kind", "count", "sources", "rate", "reasons"),
    [
        pytest.param(
            "stun",
            500_000,
            100,
            50_000,
            {"unknown-key", "unknown-version", "forged"},
            id="half a million checks with random ufrags",
        ),
        pytest.param(
            "forged",
            200_000,
            SOURCES,
            50_000,
            {"forged"},
            id="ufrags forged for the key in use, from 10,000 addresses",
        ),
        pytest.param(
            "junk",
            200_000,
            SOURCES,
            25_000,
            {"unknown-flow", "not-webrtc", "empty"},
            id="random bytes, from 10,000 addresses",
        ),
    ],
)
async def test_strangers(
    stage: Stage,
    flooder: str,
    kind: str,
    count: int,
    sources: int,
    rate: int,
    reasons: set[str],
) -> None:
    command = [flooder, kind, str(count), str(sources), str(rate), "1"]
    outcome = await flood(stage.appliance, stage.calls, command)
    assert outcome.flood.sent == count
    assert outcome.flood.replies == 0
    assert_unmoved(outcome)
    refused = outcome.refused()
    assert count - outcome.kernel_drops <= refused.total() <= count
    for reason in reasons:
        assert refused.pop(reason) > 0
    assert refused.total() <= CHANCE_MAX
    for transceiver in transceivers_of(outcome.after):
        assert transceiver.drops == {}, "nothing of it reached a transceiver"


async def test_a_captured_ufrag_from_ten_thousand_addresses(
    stage: Stage, flooder: str, tmp_path: Path
) -> None:
    """All these are routable. Whoever sends them does not know the password."""
    async with calling(await stage.appliance.origin(), frames=10) as known:
        await known.wait_echo(10)
        packets = write_packets(tmp_path / "packets", 1000, lambda: forged_check(known.ufrag))
        command = [flooder, "file", "200000", str(SOURCES), "50000", "1", str(packets)]
        outcome = await flood(stage.appliance, stage.calls, command)
    assert outcome.flood.replies == 0
    assert_unmoved(outcome)
    passed = outcome.flood.sent - outcome.kernel_drops - outcome.refused()["too-many-checks"]
    assert passed <= allowance(outcome)
    for table in flow_tables(outcome):
        assert table.tentative <= allowance(outcome)
        assert table.evicted == 0
    await known.websocket.aclose()
    status = await wait_status(
        stage.appliance,
        lambda status: any("bad-integrity" in each.drops for each in transceivers_of(status)),
    )
    bad = sum(each.drops.get("bad-integrity", 0) for each in transceivers_of(status))
    assert passed <= bad <= passed + outcome.kernel_drops


async def test_a_caller_of_our_own_from_ten_thousand_addresses(
    stage: Stage, flooder: str, tmp_path: Path
) -> None:
    """All these are authentic. Those that pass are answered, with fewer bytes than they had."""
    async with calling(await stage.appliance.origin(), frames=10) as known:
        await known.wait_echo(10)
        packets = write_packets(tmp_path / "packets", SOURCES, lambda: own_check(known))
        command = [flooder, "file", "200000", str(SOURCES), "50000", "1", str(packets)]
        outcome = await flood(stage.appliance, stage.calls, command)
    assert 0 < outcome.flood.reply_bytes < outcome.flood.bytes / 10
    assert_unmoved(outcome)
    confirmed = [table.confirmed for table in flow_tables(outcome)]
    print(f"confirmed flows: {confirmed}")
    assert sum(confirmed) <= CALLS + 2 + BINDINGS_MAX


def flow_tables(outcome: Outcome) -> list[FlowCounts]:
    return [table for relay in relays_of(outcome.after) for table in relay.flows]


def allowance(outcome: Outcome) -> int:
    """Return how many checks from unknown addresses may have passed for one session."""
    return STRAY_CHECKS_MAX * len(relays_of(outcome.after)) * (int(outcome.flood.seconds) + 3)
