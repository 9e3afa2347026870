"""What the media path is worth and costs: ``bench/media/run``; docs/benchmarks.md explains it."""

import argparse
import os
import platform
import time

import msgspec
from attrs import frozen

from bench.media.capacity import best, measure_capacity
from bench.media.quality import print_events, print_quality
from bench.media.stages import print_stages

PARTS = ("quality", "stages", "capacity")


@frozen
class Plan:
    """How long everything takes."""

    stream_seconds: float
    losses: int
    rounds: int
    level_seconds: float
    levels: dict[str, list[int]]


FULL = Plan(
    stream_seconds=60.0,
    losses=400,
    rounds=31,
    level_seconds=10.0,
    levels={
        "pcm": [*range(30, 200, 10)],
        "opus": [*range(100, 500, 25)],
        "echo": [*range(200, 1000, 50)],
        "loopback": [*range(40, 200, 10)],
    },
)
QUICK = Plan(
    stream_seconds=20.0,
    losses=200,
    rounds=9,
    level_seconds=4.0,
    levels={
        "pcm": [60, 80, 100, 110],
        "opus": [150, 200, 250, 300],
        "echo": [300, 600],
    },
)


def main() -> None:
    arguments = _parse()
    plan = QUICK if arguments.quick else FULL
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    result: dict[str, object] = {
        "benchmark": "media",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "quick": arguments.quick,
        "realtime": arguments.realtime,
    }
    if "quality" in arguments.parts:
        result |= print_quality(plan.stream_seconds)
        result |= print_events(plan.losses)
    if "stages" in arguments.parts:
        result["stages_us"] = print_stages(plan.rounds)
    if "capacity" in arguments.parts:
        print("Capacity: the transceiver alone on a core; levels until one fails")
        for mode, levels in plan.levels.items():
            result |= _capacity(mode, levels, plan.level_seconds)
    print(msgspec.json.encode(result).decode())


def _capacity(mode: str, levels: list[int], seconds: float) -> dict[str, object]:
    tried = measure_capacity(mode, levels, seconds)
    passed = best(tried)
    level = passed or tried[0]
    result: dict[str, object] = {
        f"{mode}_sessions_per_core": passed.sessions if passed else 0,
        f"{mode}_on_time_ratio": round(level.on_time_ratio, 5),
        f"{mode}_cpu_ms_per_session_second": round(level.cpu_ms_per_session_second, 2),
        f"{mode}_load_cpu_percent": round(level.load_cpu_percent),
        f"{mode}_others_cpu_percent": round(level.others_cpu_percent),
    }
    if mode == "pcm":
        result["on_time_ratio"] = result["pcm_on_time_ratio"]
    return result


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/media/run", description="What the media path is worth and costs."
    )
    parser.add_argument(
        "--quick", action="store_true", help="less of everything: 4 minutes at most"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="as root, where other programs run too: they do not get the cores meanwhile",
    )
    return parser.parse_args()


main()
