"""The relay against its peers: ``bench/relay/run``; docs/benchmarks.md explains every figure."""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Sequence

from bench.relay.build import build
from bench.relay.contenders import ALL, C_FRAMES, GO, OURS, OURS_COALESCING, Contender, running
from bench.relay.load import SATURATE, Case, Sample, measure
from bench.relay.report import PACED, SATURATED, SATURATED_TO_FOUR, print_ratios, print_table

FULL_CASES = (
    *(
        Case(SATURATE, flows=flows, packet_bytes=size, transceivers=transceivers)
        for transceivers, all_flows in ((1, (1, 100, 5000)), (4, (100, 5000)))
        for size in (172, 1200)
        for flows in all_flows
    ),
    *PACED,
)
QUICK_CASES = (SATURATED, SATURATED_TO_FOUR, *PACED)
QUICK_CONTENDERS = (GO, C_FRAMES, OURS, OURS_COALESCING)
SATURATED_SECONDS = 0.3
PACED_SECONDS = 1.0
TRIES = 3
ROUNDS, QUICK_ROUNDS = 5, 9


def main() -> None:
    arguments = _parse()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench/relay: needs two cores, one for the relay and one for the load")
    build()
    cases: Sequence[Case] = QUICK_CASES if arguments.quick else FULL_CASES
    contenders: Sequence[Contender] = QUICK_CONTENDERS if arguments.quick else ALL
    rounds: defaultdict[tuple[Case, Contender], list[Sample]] = defaultdict(list)
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        for case in cases:
            for contender in _turned(contenders, number):
                rounds[case, contender].append(_measure(contender, case, cores))
    ordered = {(case, each): rounds[case, each] for case in cases for each in contenders}
    print_table(ordered)
    print_ratios(ordered)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/relay/run", description="CPU and delay per packet: our relay and its peers."
    )
    parser.add_argument(
        "--quick", action="store_true", help="what has a target only; under four minutes"
    )
    parser.add_argument(
        "--rounds", type=int, help=f"instead of {ROUNDS}, or {QUICK_ROUNDS} quick ones"
    )
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    return arguments


def _turned(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Return the contenders in another order each round: going first may be a burden."""
    first = number % len(contenders)
    return [*contenders[first:], *contenders[:first]]


def _measure(contender: Contender, case: Case, cores: Sequence[int]) -> Sample:
    """Measure once on a fresh relay; again if something else on the machine spoilt it."""
    seconds = PACED_SECONDS if case.rate else SATURATED_SECONDS
    for attempt in range(TRIES):
        try:
            with running(contender, case.transceivers, cores[-1]) as relay:
                return measure(relay, case, seconds, cores[0])
        except RuntimeError as exc:
            if attempt == TRIES - 1:
                raise
            print(f"again: {exc}", file=sys.stderr, flush=True)
    raise AssertionError


if __name__ == "__main__":
    main()
