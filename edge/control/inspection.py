"""What an operator is shown of one session: no ufrag, no password, no key, no metadata.

Workers fill these values, the supervisor passes them on, and the commands print them. A field that
is added has a default, so that the values of an older worker can be read.
"""

from msgspec import Struct


class SessionLine(Struct, frozen=True, kw_only=True):
    """One session in a list."""

    id: str
    worker: str
    up: str
    """The highest layer that works: ``ice``, ``dtls`` or ``media``; "" before the first check."""
    attached: bool
    """Signaling is connected to it."""
    age: float
    """Seconds since its offer was answered."""
    route: str
    codec: str
    client: str | None
    """Where its media goes: address and port, IPv6 in brackets."""
    over_tcp: bool
    round_trip_ms: float | None
    jitter_ms: float
    packets_received: int
    packets_lost: int


class IceFigures(Struct, frozen=True, kw_only=True):
    checks_answered: int
    checks_refused: int
    valid_addresses: int
    nominated: bool
    """The client itself chose where media goes."""
    silence: float | None
    """Seconds since the latest new check; None before the first."""
    restarts: int


class RtpFigures(Struct, frozen=True, kw_only=True):
    """Media both ways. "remote" is what the client reports of our stream; None: nothing yet."""

    packets_received: int
    bytes_received: int
    packets_lost: int
    fraction_lost: float
    jitter_ms: float
    packets_sent: int
    bytes_sent: int
    round_trip_ms: float | None
    remote_packets_lost: int | None
    remote_fraction_lost: float | None
    remote_jitter_ms: float | None


class PacingFigures(Struct, frozen=True, kw_only=True):
    """How late packets left that were due at a time of their own; an echo has none."""

    packets: int
    mean_lateness_ms: float
    max_lateness_ms: float


class HearingFigures(Struct, frozen=True, kw_only=True):
    """The way from the client's packets to sound. Times: seconds."""

    frames: dict[str, int]
    """Frames of 20 ms, by where their sound comes from."""
    mean_delay: float
    target_delay: float
    waiting: int
    late: int
    duplicates: int


class SpeakingFigures(Struct, frozen=True, kw_only=True):
    """The way from the backend's sound to packets. Times: seconds."""

    frames_sent: int
    silence_sent: int
    skipped: int
    underruns: int
    queued: float
    dropped: float


class LinkFigures(Struct, frozen=True, kw_only=True):
    """The connection to the backend. Times: seconds."""

    endpoint: str
    """Scheme, host and port."""
    state: str
    connects: int
    connect_time: float | None
    messages_sent: int
    messages_received: int
    frames_dropped: int
    queued: float
    drops: dict[str, int]


class MediaFigures(Struct, frozen=True, kw_only=True):
    """What sound has come to on its ways. None: the route has no such part."""

    hearing: HearingFigures | None = None
    speaking: SpeakingFigures | None = None
    link: LinkFigures | None = None


class SessionDetails(Struct, frozen=True, kw_only=True):
    """All that is known of one session while it runs."""

    line: SessionLine
    verdict: str
    """The one that it would get if the client hung up now."""
    meaning: str
    """Of the verdict, as a sentence."""
    layers: dict[str, float]
    """Seconds from the answer until each layer came up."""
    addresses: list[str]
    """All that are bound to it."""
    ice: IceFigures
    rtp: RtpFigures
    pacing: PacingFigures
    drops: dict[str, int]
    media: MediaFigures
