"""Later offers of a session that runs: ICE restarts, renegotiations, and fragments of both.

A session has one DTLS association, one codec and one stream each way for all of its life. Of a
later offer it follows what changes none of these: new ICE credentials, another direction, formats
and header extensions that are no longer offered, other sections that come and go. Whatever else
asks for another association or another codec is refused, and the session stays as it was.

New remote credentials are an ICE restart (RFC 8839 §4.4.3.1.1), which is answered with ours new,
too. It does not matter that a restart has to change both ufrag and password: one is enough to see
it. With the same credentials the answer has ours as they are (RFC 8829 §5.3.1).
"""

from attrs import evolve, frozen

from edge.errors import SdpError
from edge.signal.acceptance import RemoteFacts, accept_offer
from edge.signal.answer import Answer, LocalFacts, encode_answer
from edge.signal.formats import AudioFormats, MediaPolicy
from edge.signal.sdp import MediaSection, Offer, SdpReason, decode_offer


@frozen
class IceFragment:
    """What a fragment (RFC 8840 §9) says about ICE. Its candidates are ignored, as an offer's."""

    ufrag: str
    password: str


def answer_again(text: str, agreed: Answer, fresh: LocalFacts, policy: MediaPolicy) -> Answer:
    """Answer a later offer, or a fragment, of the session that ``agreed`` is the latest answer of.

    ``fresh`` is ``agreed.local`` with new ICE credentials, which are used if ICE restarts: the
    answer's ``local`` tells.

    Raises:
        SdpError: malformed, or the session cannot follow; the message says why in a sentence.

    """
    if text.startswith("v="):
        return answer_later_offer(decode_offer(text), agreed, fresh, policy)
    return answer_fragment(decode_fragment(text, agreed.remote.mid), agreed, fresh)


def answer_later_offer(
    offer: Offer, agreed: Answer, fresh: LocalFacts, policy: MediaPolicy
) -> Answer:
    """Answer a later offer; arguments and errors are those of ``answer_again``."""
    before = agreed.remote
    same_codec = evolve(policy, codecs=(before.formats.codec,))
    accepted = accept_offer(offer, [_same_section(offer, agreed)], same_codec, role=before.setup)
    after = accepted.remote
    if after.formats.audio != before.formats.audio:
        raise SdpError(
            SdpReason.CODEC_CHANGED, "the offer has another payload type for the session's codec"
        )
    if set(after.fingerprints) != set(before.fingerprints):
        raise SdpError(
            SdpReason.FINGERPRINT_CHANGED,
            "the offer has other certificate fingerprints; a new certificate needs a new session",
        )
    remote = evolve(
        after,
        formats=_still_offered(before.formats, after.formats),
        mid_extension=_same_or_none(before.mid_extension, after.mid_extension),
        audio_level_extension=_same_or_none(
            before.audio_level_extension, after.audio_level_extension
        ),
    )
    local = fresh if _restarts(before, remote.ice_ufrag, remote.ice_pwd) else agreed.local
    return encode_answer(evolve(accepted, remote=remote), local, policy, agreed.version + 1)


def decode_fragment(text: str, mid: str | None) -> IceFragment:
    """Decode a fragment; ``mid`` is the accepted section's.

    Raises:
        SdpError: malformed, beyond the caps of offers, or without ICE credentials.

    """
    section = "" if "\nm=" in f"\n{text}" else "m=audio 9 RTP/AVP 0"
    whole = "\r\n".join(part for part in ("v=0", text.rstrip("\r\n"), section) if part)
    try:
        sections = decode_offer(whole).sections
    except SdpError as exc:
        raise SdpError(exc.reason, "this is not an SDP fragment that can be read") from exc
    named = [each for each in sections if mid is not None and each.mid == mid]
    for each in (*named, *sections):
        if each.ice_ufrag and each.ice_pwd:
            return IceFragment(each.ice_ufrag, each.ice_pwd)
    raise SdpError(SdpReason.NO_ICE, "the fragment has no ICE credentials")


def answer_fragment(fragment: IceFragment, agreed: Answer, fresh: LocalFacts) -> Answer:
    """Answer a fragment with one that has our ICE credentials and candidates (RFC 9725 §4.3.3)."""
    restarts = _restarts(agreed.remote, fragment.ufrag, fragment.password)
    local = fresh if restarts else agreed.local
    mid, formats = agreed.remote.mid, agreed.remote.formats
    lines = ["a=ice-lite", "a=ice-options:ice2"]
    if mid is not None:
        lines += [
            f"a=group:BUNDLE {mid}",
            f"m=audio 9 UDP/TLS/RTP/SAVPF {formats.audio}",
            f"a=mid:{mid}",
        ]
    lines += [f"a=ice-ufrag:{local.ufrag}", f"a=ice-pwd:{local.password}"]
    lines += [*local.candidates, "a=end-of-candidates"]
    return evolve(
        agreed,
        sdp="".join(f"{line}\r\n" for line in lines),
        remote=evolve(agreed.remote, ice_ufrag=fragment.ufrag, ice_pwd=fragment.password),
        local=local,
    )


def _same_section(offer: Offer, agreed: Answer) -> MediaSection:
    """Return the session's section, whose position and mid never change (RFC 8829 §5.2.2)."""
    at, mid = agreed.section, agreed.remote.mid
    section = offer.sections[at] if at < len(offer.sections) else None
    if section is None or section.kind != "audio" or section.mid != mid or section.is_rejected:
        raise SdpError(
            SdpReason.AUDIO_GONE,
            "the offer has closed the session's audio section, or moved it, or renamed it",
        )
    return section


def _restarts(before: RemoteFacts, ufrag: str, password: str) -> bool:
    return (ufrag, password) != (before.ice_ufrag, before.ice_pwd)


def _still_offered(before: AudioFormats, after: AudioFormats) -> AudioFormats:
    """Return what both have. What is new would need other media parts than the session has."""
    return evolve(
        before,
        redundancy=_same_or_none(before.redundancy, after.redundancy),
        telephone_event=_same_or_none(before.telephone_event, after.telephone_event),
        comfort_noise=_same_or_none(before.comfort_noise, after.comfort_noise),
    )


def _same_or_none(before: int | None, after: int | None) -> int | None:
    return before if before == after else None
