"""What a metric is made of: a name, what it says, and where its values are in a status.

Names follow Prometheus: ``edge_``, a noun, the base unit (seconds, bytes, ratio); counters get
``_total`` behind it. Labels have few values, all known beforehand: a worker, a reason, a stage.
Never a session, an address or what a peer sent.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Generic, TypeVar

from attrs import frozen

from edge.control.statistics import HistogramCounts

Value = float | HistogramCounts
Reading = Value | Mapping[str, Value] | None
"""What a figure reads: one value, several by label, or None if it is not known."""

Source = TypeVar("Source")


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@frozen
class Figure(Generic[Source]):
    """One metric, read from a worker's statistics, or from the whole status."""

    name: str
    """Without the ``_total`` of counters."""
    kind: Kind
    help: str
    """A sentence."""
    read: Callable[[Source], Reading]
    label: str | None = None
    """What the keys of a mapping are, if ``read`` returns one."""

    @property
    def sample(self) -> str:
        """The name as it is asked for in queries; a histogram's without ``_bucket``."""
        return f"{self.name}_total" if self.kind is Kind.COUNTER else self.name


def known(values: Mapping[str, int], names: Iterable[str]) -> dict[str, Value]:
    """Return the counts with a zero for each name without one, so that rates begin at zero."""
    return {**dict.fromkeys(names, 0), **values}
