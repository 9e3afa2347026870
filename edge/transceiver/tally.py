"""What all sessions of a worker do, counted where it happens, and as the supervisor is told of it.

A heartbeat reads a few counters, however many sessions there are. Nothing here is of one session.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from edge.backend.tally import LinkTally
from edge.control.statistics import HistogramCounts, LinkCounts, MediaCounts
from edge.histogram import Histogram
from edge.media.frames import Label
from edge.media.path import MediaStatistics
from edge.rtp.quality import Quality
from edge.transceiver.vocabulary import Layer

SETUP_BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0)
"""Seconds."""
STAGES: Final = (Layer.ICE, Layer.DTLS, Layer.MEDIA)
"""In the order in which they come up. A session does not know of its backend."""
BUFFER_BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds."""


class Tally:
    """Counters that all sessions of a worker share."""

    def __init__(self) -> None:
        self.setup = {stage: Histogram(SETUP_BOUNDS) for stage in STAGES}
        """How long each layer took: after the one before it, ICE after the offer."""
        self.quality = Quality()
        self.heard: Counter[Label] = Counter()
        """Frames of the clients' sound."""
        self.links = LinkTally()
        self.buffer_delay = Histogram(BUFFER_BOUNDS)
        """Mean time of a packet in the jitter buffer; of sessions that have ended."""
        self.underruns = 0
        """Gaps in what was played because the backend was late; of sessions that have ended."""
        self.overflow = 0.0
        """Seconds of sound that were thrown away because too much waited; likewise."""

    def note_media(self, figures: MediaStatistics) -> None:
        """Count what the media path of a session that has ended knows."""
        if figures.inbound.frames:
            self.buffer_delay.note(figures.inbound.mean_delay)
        self.underruns += figures.outbound.underruns
        self.overflow += figures.outbound.dropped

    def setup_counts(self) -> dict[str, HistogramCounts]:
        return _counts({stage.value: histogram for stage, histogram in self.setup.items()})

    def quality_counts(self) -> dict[str, HistogramCounts]:
        quality = self.quality
        return _counts(
            {
                "jitter": quality.jitter,
                "loss": quality.loss,
                "remote-jitter": quality.remote_jitter,
                "remote-loss": quality.remote_loss,
                "round-trip": quality.round_trip,
            }
        )

    def media_counts(self) -> MediaCounts:
        return MediaCounts(
            heard={label.value: count for label, count in self.heard.items()},
            buffer_delay=_histogram(self.buffer_delay),
            underruns=self.underruns,
            overflow=self.overflow,
        )

    def link_counts(self) -> LinkCounts:
        links = self.links
        return LinkCounts(
            states={state: count for state, count in links.states.items() if count},
            connect=_histogram(links.connect),
            round_trip=_histogram(links.round_trip),
            failures=dict(links.failures),
            ends=dict(links.ends),
            messages_sent=links.messages_sent,
            messages_received=links.messages_received,
            frames_dropped=links.frames_dropped,
            drops=dict(links.drops),
        )


def _counts(histograms: Mapping[str, Histogram]) -> dict[str, HistogramCounts]:
    return {name: _histogram(each) for name, each in histograms.items()}


def _histogram(histogram: Histogram) -> HistogramCounts:
    return HistogramCounts(
        bounds=list(histogram.bounds), counts=list(histogram.counts), total=histogram.total
    )
