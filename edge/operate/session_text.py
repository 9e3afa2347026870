"""``edge sessions`` and ``edge session`` for people."""

from collections.abc import Iterator, Sequence

from edge.control.inspection import LinkFigures, RtpFigures, SessionDetails, SessionLine
from edge.operate.protocol import TheSessions
from edge.operate.status_text import span

_HEADER = ("session", "worker", "up", "age", "route", "codec", "client", "rtt", "jitter", "lost")
_LAYERS = ("ice", "dtls", "media", "backend")
_LABEL_WIDTH = 11


def render_sessions(listed: TheSessions) -> str:
    """Return a table of the sessions, and what is missing in it."""
    lines: list[str] = []
    if listed.sessions:
        lines += _table([_HEADER, *map(_row, listed.sessions)])
    else:
        lines.append("no sessions")
    if listed.total > len(listed.sessions):
        lines += ["", f"{len(listed.sessions)} of {listed.total} sessions: --limit shows more"]
    if listed.silent:
        lines += ["", f"no answer from {', '.join(listed.silent)}: its sessions are missing"]
    return "".join(f"{line}\n" for line in lines)


def render_session(details: SessionDetails) -> str:
    """Return everything that is known of a session."""
    return "".join(f"{label:<{_LABEL_WIDTH}}{text}\n" for label, text in _describe(details))


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _row(line: SessionLine) -> tuple[str, ...]:
    expected = line.packets_received + max(line.packets_lost, 0)
    return (
        line.id,
        line.worker,
        line.up or "-",
        span(line.age),
        line.route,
        line.codec,
        _client(line),
        "-" if line.round_trip_ms is None else f"{line.round_trip_ms:.0f} ms",
        f"{line.jitter_ms:.0f} ms" if line.packets_received else "-",
        f"{max(line.packets_lost, 0) / expected:.1%}" if expected else "-",
    )


def _client(line: SessionLine) -> str:
    return f"{line.client or '-'}{' tcp' if line.over_tcp else ''}"


def _describe(details: SessionDetails) -> Iterator[tuple[str, str]]:
    line, ice = details.line, details.ice
    yield "session", line.id
    signaling = "attached" if line.attached else "not attached"
    yield "worker", f"{line.worker}, for {span(line.age)}; signaling {signaling}"
    yield "verdict", f"{details.verdict}, if it ended now: {details.meaning}"
    yield "route", f"{line.route}, {line.codec}"
    yield "up after", _layers(details.layers)
    chosen = "nominated by the client" if ice.nominated else "not nominated yet"
    yield "client", f"{_client(line)}, {chosen}" if line.client else "no check has come yet"
    others = [each for each in details.addresses if each != line.client]
    if others:
        yield "", f"also {', '.join(others)}"
    silence = "" if ice.silence is None else f", the latest {span(ice.silence)} ago"
    checks = f"{ice.checks_answered} checks answered, {ice.checks_refused} refused{silence}"
    yield "ice", f"{checks}; {ice.restarts} restarts"
    yield from _rtp(details.rtp)
    pacing = details.pacing
    if pacing.packets:
        late = f"{pacing.mean_lateness_ms:.2f} ms late on average, {pacing.max_lateness_ms:.1f} ms"
        yield "pacing", f"{pacing.packets} packets, {late} at most"
    yield from _sound(details)
    if details.media.link is not None:
        yield from _link(details.media.link)
    if details.drops:
        yield "drops", ", ".join(f"{reason} {count}" for reason, count in details.drops.items())


def _layers(layers: dict[str, float]) -> str:
    known = [f"{name} {layers[name] * 1000:.0f} ms" for name in _LAYERS if name in layers]
    return ", ".join(known) or "nothing is up yet"


def _rtp(rtp: RtpFigures) -> Iterator[tuple[str, str]]:
    received = f"{rtp.packets_received} packets, {rtp.bytes_received} bytes"
    received += f"; {rtp.packets_lost} lost, {rtp.fraction_lost:.1%} lately"
    yield "received", f"{received}; jitter {rtp.jitter_ms:.1f} ms"
    sent = f"{rtp.packets_sent} packets, {rtp.bytes_sent} bytes"
    if rtp.remote_packets_lost is not None and rtp.remote_fraction_lost is not None:
        sent += f"; {rtp.remote_packets_lost} lost, {rtp.remote_fraction_lost:.1%} lately"
    if rtp.remote_jitter_ms is not None:
        sent += f"; jitter {rtp.remote_jitter_ms:.1f} ms"
    if rtp.round_trip_ms is not None:
        sent += f"; round trip {rtp.round_trip_ms:.1f} ms"
    yield "sent", sent


def _sound(details: SessionDetails) -> Iterator[tuple[str, str]]:
    heard, spoken = details.media.hearing, details.media.speaking
    if heard is not None:
        frames = ", ".join(f"{count} {label}" for label, count in heard.frames.items())
        text = f"frames: {frames or 'none'}; {heard.late} packets too late; "
        text += f"{heard.mean_delay * 1000:.0f} ms in the jitter buffer"
        yield "hearing", f"{text}, target {heard.target_delay * 1000:.0f} ms"
    if spoken is not None:
        text = f"{spoken.frames_sent} frames, {spoken.silence_sent} of silence, "
        text += f"{spoken.skipped} skipped, {spoken.underruns} underruns"
        yield "speaking", f"{text}; {spoken.queued:.1f} s queued, {spoken.dropped:.1f} s dropped"


def _link(link: LinkFigures) -> Iterator[tuple[str, str]]:
    took = "" if link.connect_time is None else f" in {link.connect_time * 1000:.0f} ms"
    text = f"{link.endpoint}: {link.state}, {link.connects} connections{took}; "
    text += f"{link.messages_sent} messages sent, {link.messages_received} received; "
    yield "backend", f"{text}{link.frames_dropped} frames dropped, {link.queued:.1f} s queued"
    drops = {reason: count for reason, count in link.drops.items() if count}
    if drops:
        yield "", ", ".join(f"{reason} {count}" for reason, count in drops.items())
