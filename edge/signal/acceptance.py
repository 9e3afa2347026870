"""Read an offer as its answerer: which section is taken, and what it says of the peer.

``accept_offer`` refuses whatever could not become a session; ``edge.signal.answer`` writes what it
accepts.
"""

from collections.abc import Sequence

from attrs import field, frozen

from edge.errors import SdpError
from edge.signal.formats import AudioFormats, MediaPolicy, choose_formats
from edge.signal.sdp import (
    TRUSTED_HASHES,
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
    formats: AudioFormats
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
class Accepted:
    """What is taken of an offer."""

    offer: Offer
    audio: MediaSection
    tag: MediaSection | None
    """The section whose transport the audio's BUNDLE group uses, None without BUNDLE."""
    remote: RemoteFacts


def accept_offer(
    offer: Offer,
    sections: Sequence[MediaSection],
    policy: MediaPolicy,
    *,
    role: Setup | None = None,
) -> Accepted:
    """Choose among ``sections`` of the offer, and gather what the session has to know.

    ``role`` is ours in a DTLS association that exists, and must be kept.

    Raises:
        SdpError: as ``answer_offer``.

    """
    if offer.ice_lite:
        raise SdpError(
            SdpReason.ICE_LITE, "the offer is from an ICE-lite agent, and so are we: use full ICE"
        )
    audio, formats = choose_formats(sections, policy)
    if not audio.rtcp_mux:
        raise SdpError(SdpReason.NO_RTCP_MUX, "the audio section has no a=rtcp-mux")
    tag = _tagged(offer, audio)
    return Accepted(offer, audio, tag, _remote_facts(audio, formats, (tag or audio, audio), role))


def audio_sections(offer: Offer) -> list[MediaSection]:
    """Return the audio sections that the offer has open.

    Raises:
        SdpError: there is none.

    """
    sections = [
        section
        for section in offer.sections
        if section.kind == "audio" and section.protocol in _PROTOCOLS and not section.is_rejected
    ]
    if not sections:
        raise SdpError(SdpReason.NO_AUDIO, "the offer has no audio section")
    return sections


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


def _tagged(offer: Offer, audio: MediaSection) -> MediaSection | None:
    """Return the section whose transport the audio's BUNDLE group uses, None without BUNDLE."""
    if audio.mid not in offer.bundle:
        return None
    by_mid = {section.mid: section for section in offer.sections if not section.is_rejected}
    return next(by_mid[mid] for mid in offer.bundle if mid in by_mid)


def _remote_facts(
    audio: MediaSection,
    formats: AudioFormats,
    transports: Sequence[MediaSection],
    role: Setup | None,
) -> RemoteFacts:
    """Gather the facts, transport attributes from the first of ``transports`` that has them."""
    ice = next((each for each in transports if each.ice_ufrag and each.ice_pwd), None)
    if ice is None or ice.ice_ufrag is None or ice.ice_pwd is None:
        raise SdpError(SdpReason.NO_ICE, "the offer has no ICE credentials")
    setup = next((each.setup for each in transports if each.setup), None)
    extensions = _extension_ids(audio.extensions)
    return RemoteFacts(
        setup=_our_role(setup, role),
        fingerprints=_trusted_fingerprints(transports),
        ice_ufrag=ice.ice_ufrag,
        ice_pwd=ice.ice_pwd,
        mid=audio.mid,
        formats=formats,
        mid_extension=extensions.get(MID_URI),
        audio_level_extension=extensions.get(AUDIO_LEVEL_URI),
        rtcp_rsize=audio.rtcp_rsize,
        may_send=audio.direction in {Direction.SENDRECV, Direction.RECVONLY},
        may_receive=audio.direction in {Direction.SENDRECV, Direction.SENDONLY},
        ssrcs=audio.ssrcs,
    )


def _our_role(offered: Setup | None, kept: Setup | None) -> Setup:
    if offered not in _OUR_SETUP:
        raise SdpError(SdpReason.SETUP, f"the offer says a=setup:{offered}; offer actpass")
    role = _OUR_SETUP[offered]
    if kept is not None and role is not kept and offered is not Setup.ACTPASS:
        raise SdpError(
            SdpReason.ROLE_CHANGED,
            f"the offer's a=setup:{offered} changes the roles of a DTLS association that exists",
        )
    return kept or role


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
