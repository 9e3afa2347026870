"""Answer an offer: one audio section with Opus, everything else refused in its place.

``answer_offer`` is a pure function of the offer and of what the session will be; it follows the
answerer's rules of RFC 8829 §5.3.1 and RFC 8843 §7.3 for a lite agent (RFC 8445 §2.5) with one
transport. Where the rules leave a choice, the one that every client accepts is taken:

- The fingerprint is upper-case hex, group lines name accepted mids only, and there are c= and t=
  lines (Firefox 153 refuses an answer without). s=, and CRLF at the very end, are for Chromium 156.
- A refused section keeps its mid, has port 0 and stands outside BUNDLE, with one exception: the
  tagged section, whose transport the others ride on. Under the policy max-bundle both browsers
  fail when it is refused, and Chromium's offer does not show the policy. So a tagged section that
  is not the audio is kept in BUNDLE, port 9, ``a=inactive``: nothing will ever flow in it.
"""

from collections.abc import Sequence

from attrs import field, frozen, validators

from edge.errors import SdpError
from edge.signal.sdp import (
    TRUSTED_HASHES,
    Codec,
    Direction,
    Extension,
    Fingerprint,
    MediaSection,
    Offer,
    SdpReason,
    Setup,
)

MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"

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
class RemoteFacts:
    """What the session has to know of the offer it accepted."""

    setup: Setup
    """Our role, ACTIVE or PASSIVE: whether we are the DTLS client or the server."""
    fingerprints: tuple[Fingerprint, ...]
    """Those with a trusted hash, at least one. The peer's certificate has to match one."""
    ice_ufrag: str
    ice_pwd: str = field(repr=False)
    mid: str | None
    opus: Codec
    mid_extension: int | None
    """Id of the MID header extension (RFC 8843 §15), if it is in use."""
    audio_level_extension: int | None
    """Id of the audio level header extension (RFC 6464), if it is in use."""
    rtcp_rsize: bool
    """Whether reduced-size RTCP (RFC 5506) is in use."""
    may_send: bool
    may_receive: bool
    ssrcs: tuple[int, ...]
    """What the offer announced; may be empty."""


@frozen
class Answer:
    """An accepted offer."""

    sdp: str
    """Complete, with CRLF line ends."""
    remote: RemoteFacts


def answer_offer(offer: Offer, local: LocalFacts) -> Answer:
    """Accept the first audio section that has Opus and refuse the rest.

    Raises:
        SdpError: the offer cannot be accepted; the message says why in a sentence.

    """
    if offer.ice_lite:
        raise SdpError(
            SdpReason.ICE_LITE, "the offer is from an ICE-lite agent, and so are we: use full ICE"
        )
    audio, opus = _choose_audio(offer)
    if not audio.rtcp_mux:
        raise SdpError(SdpReason.NO_RTCP_MUX, "the audio section has no a=rtcp-mux")
    tag = _tagged(offer, audio)
    remote = _remote_facts(audio, opus, (tag or audio, audio))
    lines = ["v=0", f"o=- {local.session_id} 1 {_address(local)}", "s=-", "t=0 0"]
    lines += ["a=ice-lite", "a=ice-options:ice2"]
    if tag is not None:
        mids = dict.fromkeys((tag.mid, audio.mid))
        lines.append("a=group:BUNDLE " + " ".join(mid for mid in mids if mid is not None))
    candidates = [*local.candidates, "a=end-of-candidates"]
    for section in offer.sections:
        if section is audio:
            lines += [*_accepted(section, remote, local), *candidates]
        elif section is tag:
            lines += [*_idle(section, 9, remote, local), *candidates]
        else:
            lines += _idle(section, 0, remote, local)
            lines += candidates if _shares_transport(section, audio) else []
    return Answer("".join(f"{line}\r\n" for line in lines), remote)


# RFC 8829 §5.1.2 wants all of these understood: where DTLS is in use they mean the same.
_PROTOCOLS = frozenset(
    prefix + profile
    for prefix in ("UDP/TLS/", "TCP/TLS/", "")
    for profile in ("RTP/SAVPF", "RTP/SAVP", "RTP/AVPF", "RTP/AVP")
)

# RFC 4145 §4: without a=setup an offerer is active.
_OUR_SETUP = {
    None: Setup.PASSIVE,
    Setup.ACTIVE: Setup.PASSIVE,
    Setup.PASSIVE: Setup.ACTIVE,
    Setup.ACTPASS: Setup.ACTIVE,
}

_MIRRORED = {
    Direction.SENDRECV: Direction.SENDRECV,
    Direction.SENDONLY: Direction.RECVONLY,
    Direction.RECVONLY: Direction.SENDONLY,
    Direction.INACTIVE: Direction.INACTIVE,
}


def _choose_audio(offer: Offer) -> tuple[MediaSection, Codec]:
    sections = [
        section
        for section in offer.sections
        if section.kind == "audio" and section.protocol in _PROTOCOLS and not section.is_rejected
    ]
    if not sections:
        raise SdpError(SdpReason.NO_AUDIO, "the offer has no audio section")
    for section in sections:
        for codec in section.codecs:
            if _is_opus(codec):
                return section, codec
    raise SdpError(SdpReason.NO_OPUS, "the offer's audio has no opus/48000/2")


def _is_opus(codec: Codec) -> bool:
    # Payload types 64..95 look like RTCP when the marker bit is set (RFC 5761 §4).
    return (codec.name, codec.clock_rate, codec.channels) == ("opus", 48000, 2) and (
        not 64 <= codec.payload_type <= 95
    )


def _tagged(offer: Offer, audio: MediaSection) -> MediaSection | None:
    """Return the section whose transport the audio's BUNDLE group uses, None without BUNDLE."""
    if audio.mid not in offer.bundle:
        return None
    by_mid = {section.mid: section for section in offer.sections if not section.is_rejected}
    return next(by_mid[mid] for mid in offer.bundle if mid in by_mid)


def _shares_transport(section: MediaSection, audio: MediaSection) -> bool:
    """Whether the offer, its candidates gathered, shows one transport for both sections.

    aiortc 1.16 under max-bundle gives that transport the candidates of the last section, even of a
    refused one. Where every section still has its own transport it must find none there.
    """
    return section.port == audio.port and section.port not in {0, 9}


def _remote_facts(
    audio: MediaSection, opus: Codec, transports: Sequence[MediaSection]
) -> RemoteFacts:
    """Gather the facts, transport attributes from the first of ``transports`` that has them."""
    ice = next((each for each in transports if each.ice_ufrag and each.ice_pwd), None)
    if ice is None or ice.ice_ufrag is None or ice.ice_pwd is None:
        raise SdpError(SdpReason.NO_ICE, "the offer has no ICE credentials")
    setup = next((each.setup for each in transports if each.setup), None)
    if setup not in _OUR_SETUP:
        raise SdpError(SdpReason.SETUP, f"the offer says a=setup:{setup}; offer actpass")
    extensions = _extension_ids(audio.extensions)
    return RemoteFacts(
        setup=_OUR_SETUP[setup],
        fingerprints=_trusted_fingerprints(transports),
        ice_ufrag=ice.ice_ufrag,
        ice_pwd=ice.ice_pwd,
        mid=audio.mid,
        opus=opus,
        mid_extension=extensions.get(MID_URI),
        audio_level_extension=extensions.get(AUDIO_LEVEL_URI),
        rtcp_rsize=audio.rtcp_rsize,
        may_send=audio.direction in {Direction.SENDRECV, Direction.RECVONLY},
        may_receive=audio.direction in {Direction.SENDRECV, Direction.SENDONLY},
        ssrcs=audio.ssrcs,
    )


def _trusted_fingerprints(transports: Sequence[MediaSection]) -> tuple[Fingerprint, ...]:
    offered = next((each.fingerprints for each in transports if each.fingerprints), ())
    if not offered:
        raise SdpError(SdpReason.NO_FINGERPRINT, "the offer has no certificate fingerprint")
    trusted = tuple(each for each in offered if each.algorithm in TRUSTED_HASHES)
    if not trusted:
        raise SdpError(
            SdpReason.WEAK_FINGERPRINT,
            "the offer's certificate fingerprint has to use sha-256, sha-384 or sha-512",
        )
    return trusted


def _extension_ids(extensions: Sequence[Extension]) -> dict[str, int]:
    """Return the ids of the header extensions that we take, by URI; the first of each counts.

    Only ids that fit the one-byte form (RFC 8285 §4.2), and only both ways: nobody offers these
    two otherwise.
    """
    ids: dict[str, int] = {}
    for each in extensions:
        if (
            each.uri in {MID_URI, AUDIO_LEVEL_URI}
            and 1 <= each.id <= 14
            and each.direction is Direction.SENDRECV
        ):
            ids.setdefault(each.uri, each.id)
    return ids


def _address(local: LocalFacts) -> str:
    """Return the default candidate's address as o= and c= lines have it (RFC 8839 §4.2.1.2)."""
    host = local.candidates[0].split()[4]
    return f"IN IP6 {host}" if ":" in host else f"IN IP4 {host}"


def _head(section: MediaSection, port: int | str, format_: str, address: str) -> list[str]:
    lines = [f"m={section.kind} {port} {section.protocol} {format_}", f"c={address}"]
    return lines if section.mid is None else [*lines, f"a=mid:{section.mid}"]


def _transport(remote: RemoteFacts, local: LocalFacts) -> list[str]:
    return [
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:{local.fingerprint}",
        f"a=setup:{remote.setup}",
    ]


def _accepted(section: MediaSection, remote: RemoteFacts, local: LocalFacts) -> list[str]:
    port = local.candidates[0].split()[5]
    payload_type = remote.opus.payload_type
    lines = [
        *_head(section, port, str(payload_type), _address(local)),
        "a=rtcp-mux",
        *(["a=rtcp-rsize"] if remote.rtcp_rsize else []),
        f"a=rtpmap:{payload_type} opus/48000/2",
        # What we wish to receive (RFC 7587 §6.1): in-band FEC, and mono, its default.
        f"a=fmtp:{payload_type} minptime=10;useinbandfec=1",
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
