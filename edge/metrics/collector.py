"""The status of the appliance as metrics, in Prometheus's text format (version 0.0.4)."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from edge.control.statistics import HistogramCounts, RelayStatistics, TransceiverStatistics
from edge.control.status import RegistrationStatus, Status, WorkerStatus
from edge.metrics import backends, media, redis, relays, sessions, trunk, workers
from edge.metrics.figure import Figure, Kind, Source, Value

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


def encode_metrics(status: Status) -> bytes:
    """Return what is scraped."""
    return generate_latest(_Snapshot(status))


_Named = Mapping[tuple[str, ...], Source]


class _Snapshot(Collector):
    """One status as a collector of the library."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        appliance: _Named[Status] = {(): self._status}
        named: _Named[WorkerStatus] = {(workers.name(each),): each for each in self._status.workers}
        heard = {name: each.statistics for name, each in named.items() if each.statistics}
        processes = {name: each.process for name, each in heard.items() if each.process}
        relay_workers = {
            name: each for name, each in heard.items() if isinstance(each, RelayStatistics)
        }
        transceivers = {
            name: each for name, each in heard.items() if isinstance(each, TransceiverStatistics)
        }
        sound = {name: each.media for name, each in transceivers.items() if each.media}
        redis_links = {name: each.redis for name, each in relay_workers.items() if each.redis}
        trunks = {name: each.trunk for name, each in relay_workers.items() if each.trunk}
        ways = {name: each.trunk for name, each in transceivers.items() if each.trunk}
        links = {name: each.links for name, each in transceivers.items() if each.links}
        yield from _families(workers.APPLIANCE, appliance, ())
        yield from _families(workers.WORKERS, named)
        yield from _families(workers.PROCESSES, processes)
        yield from _families(relays.FIGURES, relay_workers)
        yield from _families(trunk.RELAY, trunks)
        yield from _families(trunk.TRANSCEIVER, ways)
        yield from _families(redis.FIGURES, redis_links)
        if self._status.registration is not None:
            registration: _Named[RegistrationStatus] = {(): self._status.registration}
            yield from _families(redis.REGISTRATION, registration, ())
        yield from _families(sessions.ROOM, named)
        yield from _families(sessions.FIGURES, transceivers)
        yield from _families(media.FIGURES, transceivers)
        yield from _families(media.SOUND, sound)
        yield from _families(backends.FIGURES, links)


def _families(
    figures: Iterable[Figure[Source]],
    sources: _Named[Source],
    names: tuple[str, ...] = ("worker",),
) -> Iterator[Metric]:
    """Read each figure from all sources, whose keys are values of the labels ``names``."""
    for figure in figures:
        labels = names if figure.label is None else (*names, figure.label)
        family = _family(figure.kind, figure.name, figure.help, labels)
        for values, source in sources.items():
            reading = figure.read(source)
            if isinstance(reading, int | float | HistogramCounts):
                _add(family, values, reading)
            elif reading is not None:
                for key, value in reading.items():
                    _add(family, (*values, key), value)
        yield family


_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


def _family(kind: Kind, name: str, text: str, labels: tuple[str, ...]) -> _Family:
    match kind:
        case Kind.COUNTER:
            return CounterMetricFamily(name, text, labels=labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(name, text, labels=labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(name, text, labels=labels)


def _add(family: _Family, values: tuple[str, ...], value: Value) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, HistogramCounts)  # what its figure reads
        bounds = [*map(floatToGoString, value.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(value.counts), strict=True))
        family.add_metric(values, buckets=buckets, sum_value=value.total)
    else:
        assert not isinstance(value, HistogramCounts)  # likewise
        family.add_metric(values, value)
