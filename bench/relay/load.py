"""One measurement: the load program against one running relay."""

import os
import subprocess
import tempfile

import msgspec
from attrs import frozen

from bench.relay.build import BUILD
from bench.relay.contenders import Running

TIMEOUT = 60.0
SATURATE = 0


@frozen
class Case:
    """What is sent."""

    rate: int
    """Packets per second, or SATURATE."""
    flows: int = 100
    packet_bytes: int = 172
    transceivers: int = 1

    def __str__(self) -> str:
        rate = f"{self.rate // 1000}k packets/s" if self.rate else "saturation"
        flows = "1 flow" if self.flows == 1 else f"{self.flows} flows"
        to = "" if self.transceivers == 1 else f", {self.transceivers} transceivers"
        return f"{rate}, {self.packet_bytes} bytes, {flows}{to}"


class Report(msgspec.Struct, frozen=True):
    """What the load program prints."""

    time_ns: int
    cpu_ns: int
    sent: int
    received: int
    broken: int
    p50_ns: int
    p99_ns: int


@frozen
class Sample:
    """One measurement in the units of the table."""

    cpu_us: float
    """Processor time of the relay process per packet."""
    busy: float
    """Share of its core that the relay process used."""
    rate: float
    """Packets per second that reached the sink."""
    p50_us: float
    p99_us: float
    lost: float
    """Share of the packets; at saturation, of what the generator could send."""


def measure(relay: Running, case: Case, seconds: float, core: int) -> Sample:
    """Run one case for some seconds with the load program pinned to ``core``.

    Raises:
        RuntimeError: the relay did not take part, or what came out of it was damaged.

    """
    with tempfile.NamedTemporaryFile() as checks:
        for check in relay.checks(case.flows):
            checks.write(len(check).to_bytes(2, "little") + check)
        checks.flush()
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            done = subprocess.run(
                [str(BUILD / "load"), *_arguments(relay, case, seconds), checks.name]
                + [str(one.fileno()) for one in relay.sinks],
                pass_fds=[one.fileno() for one in relay.sinks],
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        finally:
            os.sched_setaffinity(0, cores)
    if done.returncode:
        raise RuntimeError(f"{relay.contender.name}, {case}: {done.stderr.decode()}")
    report = msgspec.json.decode(done.stdout, type=Report)
    if report.broken or not report.received:
        raise RuntimeError(f"{relay.contender.name}, {case}: {report}")
    return Sample(
        cpu_us=report.cpu_ns / report.received / 1e3,
        busy=report.cpu_ns / report.time_ns,
        rate=report.received / report.time_ns * 1e9,
        p50_us=report.p50_ns / 1e3,
        p99_us=report.p99_ns / 1e3,
        lost=max(0.0, 1 - report.received / report.sent),
    )


def _arguments(relay: Running, case: Case, seconds: float) -> list[str]:
    numbers = (relay.port, case.flows, case.packet_bytes, case.rate, int(seconds * 1000))
    return [*map(str, numbers), str(relay.pid), str(int(relay.contender.frames))]
