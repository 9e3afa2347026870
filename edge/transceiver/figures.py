"""The statistics of a session's parts as an operator is shown them."""

from edge.backend.link import LinkStatistics
from edge.control.inspection import (
    HearingFigures,
    IceFigures,
    LinkFigures,
    MediaFigures,
    RtpFigures,
    SpeakingFigures,
)
from edge.ice.agent import IceStatistics
from edge.media.path import MediaStatistics
from edge.rtp.reporter import RtpStatistics


def media_figures(media: MediaStatistics, link: LinkStatistics | None) -> MediaFigures:
    heard, spoken = media.inbound, media.outbound
    return MediaFigures(
        hearing=HearingFigures(
            frames={label.value: count for label, count in heard.frames.items()},
            mean_delay=heard.mean_delay,
            target_delay=heard.target_delay,
            waiting=heard.waiting,
            late=heard.late,
            duplicates=heard.duplicates,
        ),
        speaking=SpeakingFigures(
            frames_sent=spoken.frames_sent,
            silence_sent=spoken.silence_sent,
            skipped=spoken.skipped,
            underruns=spoken.underruns,
            queued=spoken.queued,
            dropped=spoken.dropped,
        ),
        link=None if link is None else _link_figures(link),
    )


def ice_figures(ice: IceStatistics, now: float) -> IceFigures:
    return IceFigures(
        checks_answered=ice.checks_answered,
        checks_refused=ice.checks_refused,
        valid_addresses=ice.valid_addresses,
        nominated=ice.nominated,
        silence=None if ice.last_check is None else now - ice.last_check,
        restarts=ice.restarts,
    )


def rtp_figures(rtp: RtpStatistics) -> RtpFigures:
    return RtpFigures(
        packets_received=rtp.packets_received,
        bytes_received=rtp.bytes_received,
        packets_lost=rtp.packets_lost,
        fraction_lost=rtp.fraction_lost,
        jitter_ms=rtp.jitter_ms,
        packets_sent=rtp.packets_sent,
        bytes_sent=rtp.bytes_sent,
        round_trip_ms=rtp.round_trip_ms,
        remote_packets_lost=rtp.remote_packets_lost,
        remote_fraction_lost=rtp.remote_fraction_lost,
        remote_jitter_ms=rtp.remote_jitter_ms,
    )


def _link_figures(link: LinkStatistics) -> LinkFigures:
    return LinkFigures(
        endpoint=link.endpoint,
        state=link.state.value,
        connects=link.connects,
        connect_time=link.connect_time,
        messages_sent=link.messages_sent,
        messages_received=link.messages_received,
        frames_dropped=link.frames_dropped,
        queued=link.queued,
        drops=dict(link.drops),
    )
