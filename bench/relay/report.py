"""What the measurements say: a table, and the ratios that have targets."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

import msgspec
from attrs import frozen

from bench.relay.contenders import C_FRAMES, GO, OURS, OURS_COALESCING, Contender
from bench.relay.load import SATURATE, Case, Sample

Rounds = Mapping[tuple[Case, Contender], Sequence[Sample]]
"""Samples of every case and contender, one per round."""


@frozen
class Target:
    """One figure of ours, divided by a peer's from the same round; the median must not exceed."""

    name: str
    case: Case
    ours: Contender
    peer: Contender
    limit: float
    figure: Callable[[Sample], float] = lambda sample: sample.cpu_us


SATURATED, SATURATED_TO_FOUR = Case(SATURATE), Case(SATURATE, transceivers=4)
PACED = tuple(Case(rate) for rate in (2_000, 20_000, 50_000))
TARGETS = (
    Target("vs_go", SATURATED, OURS, GO, 0.30),
    Target("vs_c_frame", SATURATED, OURS, C_FRAMES, 1.4),
    Target("vs_go_four_transceivers", SATURATED_TO_FOUR, OURS, GO, 0.35),
    Target("vs_go_20k", PACED[1], OURS, GO, 0.85),
    Target("vs_go_50k", PACED[2], OURS, GO, 0.85),
    Target("vs_go_20k_coalescing", PACED[1], OURS_COALESCING, GO, 0.42),
    Target("vs_go_50k_coalescing", PACED[2], OURS_COALESCING, GO, 0.42),
    Target("latency_vs_go_2k", PACED[0], OURS, GO, 1.6, lambda sample: sample.p50_us),
)


def print_table(rounds: Rounds) -> None:
    """Print one line per case and contender: medians, CPU time with its least and greatest."""
    print(
        f"{'':32}{'CPU us/packet':>25}{'busy %':>8}{'packets/s':>11}"
        f"{'p50 us':>9}{'p99 us':>9}{'lost %':>8}"
    )
    last: Case | None = None
    for (case, contender), samples in rounds.items():
        if case != last:
            print(case)
            last = case
        cpu = [sample.cpu_us for sample in samples]
        spread = f"{median(cpu):.2f} ({min(cpu):.2f}..{max(cpu):.2f})"
        busy, rate, p50, p99, lost = (
            median(getattr(sample, name) for sample in samples)
            for name in ("busy", "rate", "p50_us", "p99_us", "lost")
        )
        delays = f"{p50:9.1f}{p99:9.1f}{100 * lost:8.2f}" if case.rate else f"{'-':>9}{'-':>9}"
        print(f"  {contender.title:30}{spread:>25}{100 * busy:8.0f}{rate:11.0f}{delays}")


def print_ratios(rounds: Rounds) -> None:
    """Print each target with what was reached, then all as one line of JSON."""
    reached = {target.name: _ratios(target, rounds) for target in TARGETS}
    print(f"\n{'ratio':28}{'median':>8}{'least':>8}{'greatest':>10}{'target':>8}")
    for target in TARGETS:
        ratios = reached[target.name]
        verdict = "" if median(ratios) <= target.limit else "  missed"
        print(
            f"{target.name:28}{median(ratios):8.2f}{min(ratios):8.2f}{max(ratios):10.2f}"
            f"{target.limit:8.2f}{verdict}"
        )
    facts = {
        "benchmark": "relay",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": len(next(iter(rounds.values()))),
    }
    medians = {name: round(median(each), 3) for name, each in reached.items()}
    targets = {target.name: target.limit for target in TARGETS}
    print(msgspec.json.encode({**facts, **medians, "targets": targets}).decode())


def _ratios(target: Target, rounds: Rounds) -> list[float]:
    """Return the ratio of each round: neighbours in time share the machine's mood."""
    pairs: Iterable[tuple[Sample, Sample]] = zip(
        rounds[target.case, target.ours], rounds[target.case, target.peer], strict=True
    )
    return [target.figure(ours) / target.figure(peer) for ours, peer in pairs]
