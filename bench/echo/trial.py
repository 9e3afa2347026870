"""One run: an appliance of its own, a load client, and the meters of the kernel around them."""

import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from bench.echo.appliance import Appliance, running_appliance
from bench.echo.load import Results
from bench.echo.processes import cpu_times, machine_busy, memory_kib


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one run. CPU: ms per second of one session, user and system."""

    sessions: int
    loss_percent: float
    rtt_p50_ms: float
    rtt_p99_ms: float
    rtt_max_ms: float
    on_time_percent: float
    relay_cpu_ms: float
    transceiver_cpu_ms: float
    server_cpu_ms: float
    packets_per_frame: float
    memory_kib: float
    """Proportional set size of relays and transceivers, per session."""
    setup_ms: float
    setup_answer_ms: float
    setup_ice_ms: float
    setup_dtls_ms: float
    setup_echo_ms: float
    setup_cpu_ms: float
    """Of relays and transceivers, per session."""
    client_cpu_percent: float
    """Of one core; near 100 the load client is what limits."""
    client_lateness_p99_ms: float
    others_cpu_percent: float
    """Of one core, used by everything else on the machine: above a few, repeat the run."""
    unreadable: int


def run_trial(
    sessions: int, seconds: float, *, relays: int, transceivers: int, relay_keys: Sequence[str]
) -> Trial:
    """Start everything, measure, stop everything."""
    with running_appliance(relays, transceivers, relay_keys) as appliance:
        command = [sys.executable, "-m", "bench.echo.load"]
        with subprocess.Popen(
            [*command, appliance.origin, str(sessions), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as load:
            try:
                return _measure(appliance, load, sessions)
            finally:
                load.kill()


def _measure(appliance: Appliance, load: subprocess.Popen[str], sessions: int) -> Trial:
    servers = appliance.relay_pids + appliance.transceiver_pids
    _expect(load, "warm")
    cpu_before_setup, memory_before = cpu_times(servers), sum(map(memory_kib, servers))
    _go_on(load)
    _expect(load, "open")
    setup_cpu = cpu_times(servers) - cpu_before_setup
    _go_on(load)
    _expect(load, "begin")
    meters = [appliance.relay_pids, appliance.transceiver_pids, [load.pid]]
    packets, frames = appliance.packets_and_frames()
    before, busy_before, began_at = [*map(cpu_times, meters)], machine_busy(), time.monotonic()
    _expect(load, "end")
    elapsed, busy = time.monotonic() - began_at, machine_busy() - busy_before
    used = [now - then for now, then in zip(map(cpu_times, meters), before, strict=True)]
    memory = sum(map(memory_kib, servers)) - memory_before
    packets_after, frames_after = appliance.packets_and_frames()
    results = msgspec.json.decode(_read(load), type=Results)
    per_session = 1e3 / (elapsed * sessions)
    return Trial(
        sessions=sessions,
        loss_percent=100 * results.lost / results.sent,
        rtt_p50_ms=results.rtt_p50_ms,
        rtt_p99_ms=results.rtt_p99_ms,
        rtt_max_ms=results.rtt_max_ms,
        on_time_percent=100 * results.on_time,
        relay_cpu_ms=used[0] * per_session,
        transceiver_cpu_ms=used[1] * per_session,
        server_cpu_ms=(used[0] + used[1]) * per_session,
        packets_per_frame=(packets_after - packets) / (frames_after - frames),
        memory_kib=memory / sessions,
        setup_ms=results.setup_ms,
        setup_answer_ms=results.setup_answer_ms,
        setup_ice_ms=results.setup_ice_ms,
        setup_dtls_ms=results.setup_dtls_ms,
        setup_echo_ms=results.setup_echo_ms,
        setup_cpu_ms=1e3 * setup_cpu / sessions,
        client_cpu_percent=100 * used[2] / elapsed,
        client_lateness_p99_ms=results.send_lateness_p99_ms,
        others_cpu_percent=100 * max(0.0, busy - sum(used)) / elapsed,
        unreadable=results.unreadable,
    )


def _read(load: subprocess.Popen[str]) -> str:
    assert load.stdout is not None
    line = load.stdout.readline()
    if not line:
        raise RuntimeError("the load client has failed")
    return line.strip()


def _expect(load: subprocess.Popen[str], line: str) -> None:
    said = _read(load)
    if said != line:
        raise RuntimeError(f"the load client said {said!r} instead of {line!r}")


def _go_on(load: subprocess.Popen[str]) -> None:
    assert load.stdin is not None
    load.stdin.write("\n")
    load.stdin.flush()
