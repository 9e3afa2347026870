"""What the kernel says a process has used (proc(5))."""

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_time(pid: int) -> float:
    """Return the seconds of CPU, user and system, that a process has used."""
    # The name in parentheses may hold anything; what follows it is numbers.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def cpu_times(pids: list[int]) -> float:
    return sum(cpu_time(pid) for pid in pids)


def memory_kib(pid: int) -> int:
    """Return a process's proportional set size: pages that it shares count by the share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"no Pss of process {pid}")


def machine_busy() -> float:
    """Return the seconds of CPU that the whole machine has used, stolen time included."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first)
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_SECOND
