"""What an echo session costs: ``bench/echo/run``; docs/benchmarks.md explains every figure."""

import argparse
import platform
import sys
import time
from statistics import median

import msgspec

from bench.echo.trial import Trial, run_trial


def main() -> None:
    arguments = _parse()
    by_load: dict[str, dict[str, list[float]]] = {}
    for sessions in arguments.sessions:
        trials: list[Trial] = []
        for number in range(arguments.runs):
            trial = run_trial(
                sessions,
                arguments.seconds,
                relays=arguments.relays,
                transceivers=arguments.transceivers,
                relay_keys=arguments.relay_key,
            )
            trials.append(trial)
            print(f"{sessions} sessions, run {number + 1}: {_one_line(trial)}", file=sys.stderr)
        by_load[str(sessions)] = _summary(trials)
    _print_table(by_load)
    head = {
        "benchmark": "echo",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "seconds": arguments.seconds,
        "runs": arguments.runs,
        "relays": arguments.relays,
        "transceivers": arguments.transceivers,
        "relay_keys": arguments.relay_key,
    }
    print(msgspec.json.encode(head | {"median_min_max": by_load}).decode())


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/echo/run", description="What an echo session costs."
    )
    parser.add_argument("--quick", action="store_true", help="100 and 200 sessions, one run each")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 50, 100, 200, 250])
    parser.add_argument("--seconds", type=float, default=20.0, help="that count, per run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--relays", type=int, default=2)
    parser.add_argument("--transceivers", type=int, default=2)
    parser.add_argument(
        "--relay-key", action="append", default=[], help="line for the configuration's [relay]"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sessions, arguments.runs = [100, 200], 1
    return arguments


def _summary(trials: list[Trial]) -> dict[str, list[float]]:
    """Return [median, least, greatest] of every figure."""
    figures: dict[str, list[float]] = {}
    for name in Trial.__struct_fields__[1:]:
        values = [getattr(trial, name) for trial in trials]
        figures[name] = [round(each, 4) for each in (median(values), min(values), max(values))]
    return figures


def _print_table(by_load: dict[str, dict[str, list[float]]]) -> None:
    """Print one column per number of sessions: median (least to greatest)."""
    print(f"{'sessions':24}" + "".join(f"{sessions:>26}" for sessions in by_load))
    for name in Trial.__struct_fields__[1:]:
        cells = [
            f"{middle:.3f} ({least:.3f}..{greatest:.3f})"
            for middle, least, greatest in (figures[name] for figures in by_load.values())
        ]
        print(f"{name:24}" + "".join(f"{cell:>26}" for cell in cells))


def _one_line(trial: Trial) -> str:
    return (
        f"loss {trial.loss_percent:.3f} %, rtt {trial.rtt_p50_ms:.2f}/{trial.rtt_p99_ms:.2f} ms, "
        f"CPU {trial.relay_cpu_ms:.3f} + {trial.transceiver_cpu_ms:.3f} ms, "
        f"{trial.memory_kib:.0f} KiB, setup {trial.setup_ms:.1f} ms, "
        f"client {trial.client_cpu_percent:.0f} %, others {trial.others_cpu_percent:.0f} %"
    )


main()
