"""Prints what becomes of a fleet in good days and bad ones. The last line is JSON."""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence

from attrs import frozen

from bench.fleet.arithmetic import print_arithmetic
from bench.fleet.simulation import Figures, Simulation, heard_of_losses

ASIA = frozenset({"bom", "del", "maa", "dac"})
LOAD = 0.6
"""Of the fleet's capacity, on an ordinary day."""


@frozen
class Size:
    hosts: int
    sessions_max: int
    seconds: float
    """Of each phase."""


FULL = Size(1000, 20, 90.0)
QUICK = Size(100, 20, 20.0)

Report = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/fleet/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small fleet, one round: seconds")
    parser.add_argument("--rounds", type=int, default=3, help="each with another seed")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    rounds = 1 if arguments.quick else arguments.rounds
    started = time.monotonic()
    reports = [run_round(size, random.Random(arguments.seed + each)) for each in range(rounds)]
    print_reports(reports)
    print_arithmetic()
    print(f"\n{time.monotonic() - started:.0f} s")
    print(json.dumps({name: statistics.median(_all(reports, name)) for name in reports[0]}))
    return 0


def run_round(size: Size, rng: random.Random) -> Report:
    """Run all phases, one after the other, in one fleet."""
    simulation = Simulation(size.hosts, size.sessions_max, rng)
    load = LOAD * simulation.capacity
    simulation.fill(int(load), per_second=load / 20)
    report: Report = {"hosts": len(simulation.hosts), "places": simulation.capacity}
    for phase in (ordinary, crowded, drained, failed):
        report |= phase(simulation, size, load)
    return report


def ordinary(simulation: Simulation, size: Size, load: float) -> Report:
    figures = _measured(simulation, lambda: simulation.run(size.seconds, load))
    used = sorted(each.sessions / each.sessions_max for each in simulation.hosts.values())
    within = [
        max(hosts) - min(hosts) for hosts in _by_cluster(simulation).values() if len(hosts) > 1
    ]
    return {
        "ordinary/refused %": _share(figures.refused, figures),
        "ordinary/not in the nearest cluster %": _share(figures.second_choice, figures),
        "ordinary/km to the cluster, median": statistics.median(figures.away_km),
        "ordinary/km to the cluster, 95th percentile": _percentile(figures.away_km, 95),
        "ordinary/km to the relay, median": statistics.median(figures.relay_km),
        "ordinary/host used %, median": 100 * statistics.median(used),
        "ordinary/host used %, 95th percentile": 100 * _percentile(used, 95),
        "ordinary/fullest less emptiest host of a cluster, % of a host": 100
        * statistics.median(within),
        "ordinary/CPU us per choice": 1e6 * figures.choosing / max(1, figures.placed),
    }


def crowded(simulation: Simulation, size: Size, load: float) -> Report:
    """Of some cities of Asia five times as many people call, and 40 % more in all."""
    ordinary_clients = simulation.clients
    simulation.clients = type(ordinary_clients)(simulation.rng, ASIA, 5.0)
    figures = _measured(simulation, lambda: simulation.run(2 * size.seconds, 1.4 * load))
    simulation.clients = ordinary_clients
    full = [sum(hosts) / len(hosts) for hosts in _by_cluster(simulation).values()]
    return {
        "crowded/refused %": _share(figures.refused, figures),
        "crowded/not in the nearest cluster %": _share(figures.second_choice, figures),
        "crowded/km to the cluster, median": statistics.median(figures.away_km),
        "crowded/km to the cluster, 95th percentile": _percentile(figures.away_km, 95),
        "crowded/more than one host asked %": _share(_repeated(figures), figures),
        "crowded/fullest cluster used %": 100 * max(full),
    }


def drained(simulation: Simulation, size: Size, load: float) -> Report:
    """Frankfurt and London drain."""
    draining = [
        each for each in simulation.hosts.values() if each.member.site.name in {"fra", "lon"}
    ]
    before = sum(each.sessions for each in draining)
    for each in draining:
        each.draining = True
    figures = _measured(simulation, lambda: simulation.run(size.seconds, load))
    after = sum(each.sessions for each in draining)
    for each in draining:
        each.draining = False
    return {
        "drain/refused %": _share(figures.refused, figures),
        "drain/new sessions there": figures.placed_in["fra"] + figures.placed_in["lon"],
        "drain/more than one host asked %": _share(_repeated(figures), figures),
        "drain/sessions left there after the phase %": 100 * after / max(1, before),
        "drain/km to the cluster, 95th percentile": _percentile(figures.away_km, 95),
    }


def failed(simulation: Simulation, size: Size, load: float) -> Report:
    """Every twentieth host and all of New York die at once; their clients offer again."""
    simulation.run(5.0, load)
    dying = [
        each
        for each in simulation.hosts.values()
        if each.member.site.name == "nyc" or simulation.rng.random() < 0.05
    ]
    before = simulation.sessions
    for each in dying:
        simulation.kill(each)
    lost, simulation.lost = simulation.lost, []
    placed_again = 0

    def recover() -> None:
        nonlocal placed_again
        simulation.run(heard_of_losses(simulation) - simulation.now, load)
        for _, visitor in lost:
            placed_again += simulation.offer(visitor)
        simulation.run(size.seconds / 2, load)

    figures = _measured(simulation, recover)
    return {
        "failure/hosts lost %": 100 * len(dying) / len(simulation.hosts),
        "failure/sessions lost %": 100 * len(lost) / max(1, before),
        "failure/of those, placed again at the first offer %": 100
        * placed_again
        / max(1, len(lost)),
        "failure/refused %": _share(figures.refused, figures),
        "failure/dead hosts asked, per 1,000 offers": 1000
        * figures.dead_asked
        / max(1, figures.placed),
        "failure/km to the cluster, 95th percentile": _percentile(figures.away_km, 95),
    }


def print_reports(reports: Sequence[Report]) -> None:
    print("| figure | median (least..greatest) |\n| --- | --- |")
    for name in reports[0]:
        values = _all(reports, name)
        middle = f"{statistics.median(values):.4g}"
        spread = f" ({min(values):.4g}..{max(values):.4g})" if len(values) > 1 else ""
        print(f"| {name} | {middle}{spread} |")


def _measured(simulation: Simulation, act: Callable[[], None]) -> Figures:
    simulation.figures = Figures()
    act()
    return simulation.figures


def _by_cluster(simulation: Simulation) -> dict[str, list[float]]:
    used: dict[str, list[float]] = {}
    for each in simulation.hosts.values():
        used.setdefault(each.member.site.name, []).append(each.sessions / each.sessions_max)
    return used


def _all(reports: Sequence[Report], name: str) -> list[float]:
    return [each[name] for each in reports]


def _repeated(figures: Figures) -> int:
    return sum(count for asked, count in figures.attempts.items() if asked > 1)


def _share(count: int, figures: Figures) -> float:
    return 100 * count / max(1, figures.placed + figures.refused)


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


if __name__ == "__main__":
    raise SystemExit(main())
