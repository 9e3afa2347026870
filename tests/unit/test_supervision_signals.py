"""Signals wait while nobody listens, and the mask is afterwards as it was."""

import signal

from edge.supervision.signals import SIGNALS, holding_signals, taking_signals


def mask() -> set[signal.Signals]:
    return {signal.Signals(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def test_signals_that_nobody_took_are_forgotten() -> None:
    before = mask()
    with holding_signals():
        for number in SIGNALS:
            signal.raise_signal(number)
        assert signal.sigpending() == set(SIGNALS)
    assert signal.sigpending() == set()
    assert mask() == before


def test_they_come_when_somebody_listens() -> None:
    came: list[int] = []
    former = signal.signal(signal.SIGUSR2, lambda number, _: came.append(number))
    try:
        with holding_signals():
            signal.raise_signal(signal.SIGUSR2)
            assert came == []
            with taking_signals():
                assert came == [signal.SIGUSR2]
            signal.raise_signal(signal.SIGUSR2)
        assert came == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, former)
