"""The quality table: our receiver beside aiortc's, on virtual time. Nothing here is timed."""

from collections.abc import Iterator

from tests.support.listening.comparison import (
    EAGER,
    STEADY,
    Row,
    Scenario,
    compare,
    lose_one,
    time_to_calm,
    worse_than,
)
from tests.support.listening.measures import Measures
from tests.support.listening.network import Conditions

SEED = 20
LOSSES = (0.0, 0.02, 0.05, 0.1)
JITTERS = (0.0, 0.03, 0.08)

_RECEIVERS = ("eager", "steady", "aiortc")
_HEAD = "delay mean p95  max  buffer   fec  made  miss  gap    dB"


def scenarios() -> Iterator[Scenario]:
    """Every row of the table."""
    for jitter in JITTERS:
        for loss in LOSSES:
            yield Scenario(Conditions(loss, jitter))
    for jitter in JITTERS[1:]:
        for loss in (0.0, 0.05):
            yield Scenario(Conditions(loss, jitter, reordering=True))
    for jitter, loss in ((0.0, 0.0), (0.0, 0.05), (0.03, 0.0), (0.03, 0.05)):
        yield Scenario(Conditions(loss, jitter), dtx=True)
    for jitter, loss in ((0.0, 0.05), (0.0, 0.1), (0.03, 0.05), (0.03, 0.1)):
        yield Scenario(Conditions(loss, jitter), redundancy=True)


def print_quality(seconds: float) -> dict[str, object]:
    """Print the table for streams of ``seconds``; return its summary."""
    print(
        f"Quality: streams of {seconds:.0f} s; delays in ms, shares in %, gaps in frames of 20 ms"
    )
    print(f"{'loss, jitter':28}{'':8}{_HEAD}")
    rows: list[Row] = []
    for scenario in scenarios():
        row = compare(scenario, seconds, SEED)
        rows.append(row)
        _print_row(row)
    worse = {row.scenario.name: worse_than(row.eager, row.aiortc) for row in rows}
    for name, found in worse.items():
        if found:
            print(f"worse than aiortc: {name}: {', '.join(found)}")
    jittery = [row for row in rows if row.scenario.conditions.jitter == 0.03]
    return {
        "quality_rows": len(rows),
        "quality_rows_better_than_aiortc": sum(1 for found in worse.values() if not found),
        "buffer_ms_at_30_ms_jitter": round(max(row.eager.buffer_mean for row in jittery), 1),
        "steady_buffer_ms_at_30_ms_jitter": round(
            max(row.steady.buffer_mean for row in jittery), 1
        ),
    }


def print_events(count: int) -> dict[str, object]:
    """Print what one lost packet, of ``count`` tried, and one spike of delay cost."""
    print(f"One lost packet, the worst of {count}, with FEC and without; a spike of 250 ms for 1 s")
    print(f"{'':10}{'gap':>12}{'lasting delay, ms':>20}{'calm after, s':>16}")
    result: dict[str, object] = {}
    for name, limits in (("eager", EAGER), ("steady", STEADY), ("aiortc", None)):
        losses = [lose_one(limits, expected_loss=loss, count=count) for loss in (0.05, 0.0)]
        calm = time_to_calm(limits)
        gaps = " / ".join(str(each.gap_frames) for each in losses)
        lasting = " / ".join(f"{1e3 * each.lasting_delay:.0f}" for each in losses)
        print(f"{name:10}{gaps:>12}{lasting:>20}{'never' if limits is None else f'{calm:.2f}':>16}")
        if limits is not None:
            result[f"calm_after_spike_s_{name}"] = round(calm, 2)
            worst = max(each.gap_frames for each in losses)
            result["worst_gap_frames_one_loss"] = max(
                worst, int(str(result.get("worst_gap_frames_one_loss", 0)))
            )
            result[f"lasting_delay_ms_{name}"] = round(
                1e3 * max(each.lasting_delay for each in losses), 1
            )
    return result


def _print_row(row: Row) -> None:
    for index, name in enumerate(_RECEIVERS):
        ours: Measures = getattr(row, name)
        verdict = ""
        if ours is row.eager:
            verdict = "WORSE" if worse_than(ours, row.aiortc) else "better"
        print(
            f"{row.scenario.name if not index else '':28}{name:8}"
            f"{ours.delay_mean:10.1f}{ours.delay_p95:5.0f}{ours.delay_max:5.0f}"
            f"{ours.buffer_mean:8.1f}{100 * ours.fec:6.1f}{100 * ours.concealed:6.1f}"
            f"{100 * ours.missing:6.1f}{ours.gap_frames:5}{ours.distance:6.2f}  {verdict}"
        )
