"""How a transceiver worker receives and plays sound."""

from edge.audio.codecs import EncoderSettings
from edge.config import MediaConfig
from edge.media.outbound import PlayoutSettings
from edge.rtp.jitter import JitterLimits
from edge.signal.formats import MediaPolicy
from edge.transceiver import backends


def media_settings(media: MediaConfig) -> backends.MediaSettings:
    return backends.MediaSettings(
        jitter=JitterLimits(media.jitter_delay_min, media.jitter_delay_max, steady=False),
        playout=PlayoutSettings(
            encoder=EncoderSettings(
                bitrate_bps=media.bitrate_bps,
                complexity=media.complexity,
                fec=media.fec,
                dtx=False,  # it takes a tone, or music, for noise and leaves it out
            ),
            gaps=media.gaps,
            prebuffer=media.prebuffer,
            queue_max=media.playout_max,
        ),
        policy=MediaPolicy(redundancy=media.redundancy, dtx=media.dtx),
    )
