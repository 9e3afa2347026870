"""Answer an offer: one audio section with one codec, everything else refused in its place.

``answer_offer`` is a pure function of the offer, of what the session will be and of the policy that
``edge.signal.formats`` chooses by. It follows the answerer's rules of RFC 8829 §5.3.1 and RFC 8843
§7.3 for a lite agent (RFC 8445 §2.5) with one transport. Where the rules leave a choice, the one
that every client accepts is taken:

- The fingerprint is upper-case hex, group lines name accepted mids only, and there are c= and t=
  lines (Firefox 153 refuses an answer without). s=, and CRLF at the very end, are for Chromium 156.
- A refused section keeps its mid, has port 0 and stands outside BUNDLE, with one exception: the
  tagged section, whose transport the others ride on. Under the policy max-bundle both browsers
  fail when it is refused, and Chromium's offer does not show the policy. So a tagged section that
  is not the audio is kept in BUNDLE, port 9, ``a=inactive``: nothing will ever flow in it.
"""

from itertools import chain

from attrs import field, frozen, validators

from edge.signal.acceptance import (
    AUDIO_LEVEL_URI,
    MID_URI,
    Accepted,
    RemoteFacts,
    accept_offer,
    audio_sections,
)
from edge.signal.formats import MediaPolicy, encode_formats
from edge.signal.sdp import Direction, MediaSection, Offer

PTIME_MS = 20


@frozen
class LocalFacts:
    """What the answer says about us."""

    ufrag: str
    password: str = field(repr=False)
    fingerprint: str
    """Value of the fingerprint attribute: ``sha-256``, a space, upper-case hex pairs."""
    candidates: tuple[str, ...] = field(validator=validators.min_len(1))
    """``a=candidate:`` lines without line ends. The first is the default candidate."""
    session_id: int
    """For the o= line: unique per session, below 2^63."""
    ssrc: int
    """Of the stream that we may send."""
    cname: str
    """Also names our stream and track."""


@frozen
class Answer:
    """An accepted offer. The latest one is what a session has agreed on."""

    sdp: str
    """Complete, with CRLF line ends. A fragment if a fragment is answered."""
    remote: RemoteFacts
    local: LocalFacts
    section: int
    """Position of the accepted section."""
    version: int
    """Of the o= line."""


def answer_offer(offer: Offer, local: LocalFacts, policy: MediaPolicy) -> Answer:
    """Accept the first audio section that has the best codec on offer and refuse the rest.

    Raises:
        SdpError: the offer cannot be accepted; the message says why in a sentence.

    """
    return encode_answer(accept_offer(offer, audio_sections(offer), policy), local, policy)


def encode_answer(
    accepted: Accepted, local: LocalFacts, policy: MediaPolicy, version: int = 1
) -> Answer:
    """Write the answer to an offer."""
    offer, audio, tag, remote = accepted.offer, accepted.audio, accepted.tag, accepted.remote
    lines = ["v=0", f"o=- {local.session_id} {version} {_address(local)}", "s=-", "t=0 0"]
    lines += ["a=ice-lite", "a=ice-options:ice2"]
    if tag is not None:
        mids = dict.fromkeys((tag.mid, audio.mid))
        lines.append("a=group:BUNDLE " + " ".join(mid for mid in mids if mid is not None))
    candidates = [*local.candidates, "a=end-of-candidates"]
    for section in offer.sections:
        if section is audio:
            lines += [*_accepted(section, remote, local, policy), *candidates]
        elif section is tag:
            lines += [*_idle(section, 9, remote, local), *candidates]
        else:
            lines += _idle(section, 0, remote, local)
            lines += candidates if _shares_transport(section, audio) else []
    sdp = "".join(f"{line}\r\n" for line in lines)
    position = next(at for at, section in enumerate(offer.sections) if section is audio)
    return Answer(sdp, remote, local, position, version)


_MIRRORED = {
    Direction.SENDRECV: Direction.SENDRECV,
    Direction.SENDONLY: Direction.RECVONLY,
    Direction.RECVONLY: Direction.SENDONLY,
    Direction.INACTIVE: Direction.INACTIVE,
}


def _shares_transport(section: MediaSection, audio: MediaSection) -> bool:
    """Whether the offer, its candidates gathered, shows one transport for both sections.

    aiortc 1.16 under max-bundle gives that transport the candidates of the last section, even of a
    refused one. Where every section still has its own transport it must find none there.
    """
    return section.port == audio.port and section.port not in {0, 9}


def _address(local: LocalFacts) -> str:
    """Return the default candidate's address as o= and c= lines have it (RFC 8839 §4.2.1.2)."""
    host = local.candidates[0].split()[4]
    return f"IN IP6 {host}" if ":" in host else f"IN IP4 {host}"


def _head(section: MediaSection, port: int | str, formats: str, address: str) -> list[str]:
    lines = [f"m={section.kind} {port} {section.protocol} {formats}", f"c={address}"]
    return lines if section.mid is None else [*lines, f"a=mid:{section.mid}"]


def _transport(remote: RemoteFacts, local: LocalFacts) -> list[str]:
    return [
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:{local.fingerprint}",
        f"a=setup:{remote.setup}",
    ]


def _accepted(
    section: MediaSection, remote: RemoteFacts, local: LocalFacts, policy: MediaPolicy
) -> list[str]:
    port = local.candidates[0].split()[5]
    formats = encode_formats(remote.formats, policy)
    lines = [
        *_head(section, port, " ".join(str(each) for each in formats), _address(local)),
        "a=rtcp-mux",
        *(["a=rtcp-rsize"] if remote.rtcp_rsize else []),
        *chain.from_iterable(formats.values()),
        f"a=ptime:{PTIME_MS}",
    ]
    if remote.mid_extension is not None:
        lines.append(f"a=extmap:{remote.mid_extension} {MID_URI}")
    if remote.audio_level_extension is not None:
        lines.append(f"a=extmap:{remote.audio_level_extension} {AUDIO_LEVEL_URI}")
    lines.append(f"a={_MIRRORED[section.direction]}")
    if remote.may_send:
        lines += [
            f"a=msid:{local.cname} {local.cname}",
            f"a=ssrc:{local.ssrc} cname:{local.cname}",
            f"a=ssrc:{local.ssrc} msid:{local.cname} {local.cname}",
        ]
    return [*lines, *_transport(remote, local)]


def _idle(section: MediaSection, port: int, remote: RemoteFacts, local: LocalFacts) -> list[str]:
    """Answer a section in which nothing will flow: refused if ``port`` is 0.

    aiortc 1.16 and GStreamer 1.22 want the transport's attributes and a codec even when refused.
    """
    lines = _head(section, port, section.formats[0], "IN IP4 0.0.0.0")
    if section.rtcp_mux:
        lines.append("a=rtcp-mux")
    lines += [
        f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_rate}"
        for codec in section.codecs
        if str(codec.payload_type) == section.formats[0]
    ]
    if section.sctp_port is not None:
        lines.append(f"a=sctp-port:{section.sctp_port}")
    return [*lines, "a=inactive", *_transport(remote, local)]
