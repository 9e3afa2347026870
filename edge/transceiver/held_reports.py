"""Reports of a session that wait until whoever has asked for the session can take them."""

from edge.signal.host import Report, StateReport


class HeldReports:
    """Passes reports on, but holds them back until ``release``, so that none is early.

    ``report`` is None for a visit, which gets none.
    """

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._held: list[StateReport] | None = []

    def tell(self, report: StateReport) -> None:
        if self._held is not None:
            self._held.append(report)
        elif self._report is not None:
            self._report(report)

    def release(self) -> None:
        """Pass on what was held, and from now on everything at once."""
        held, self._held = self._held or [], None
        for report in held:
            self.tell(report)

    def stop(self) -> None:
        """Pass nothing on any more."""
        self._held, self._report = None, None
