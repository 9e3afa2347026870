"""The signals that a supervisor takes, and the times at which it cannot: then they wait.

A signal waits in the kernel while it is blocked. That holds from the first moment to the one at
which somebody listens, and, as what is blocked stays so over exec, from one supervisor to the next.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""Those that supervisors take."""


def hold_signals() -> None:
    """Have signals wait from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def take_signals() -> None:
    """Let signals in, and those that have waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def taking_signals() -> Iterator[None]:
    """Let signals in for as long as somebody listens."""
    take_signals()
    try:
        yield
    finally:
        hold_signals()


@contextmanager
def holding_signals() -> Iterator[None]:
    """Have signals wait, unless somebody takes them; those that nobody took are forgotten."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        while signal.sigtimedwait(SIGNALS, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
