"""Decoding offers: captured ones (tests/fixtures/offers/README.md) and the rules one by one."""

from pathlib import Path

import pytest

from edge.errors import SdpError
from edge.signal.sdp import (
    LINE_CHARS_MAX,
    LINES_MAX,
    OFFER_BYTES_MAX,
    SECTIONS_MAX,
    Codec,
    Direction,
    Extension,
    Fingerprint,
    Msid,
    SdpReason,
    Setup,
    decode_offer,
)

OFFERS = Path(__file__).parent.parent / "fixtures" / "offers"
ALL_OFFERS = sorted(OFFERS.glob("*.sdp"))

SESSION = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
AUDIO = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\n"
DIGEST = ":".join(["AB"] * 32)


def captured(name: str) -> str:
    return (OFFERS / f"{name}.sdp").read_bytes().decode()


def reason_of(text: str) -> str:
    with pytest.raises(SdpError) as caught:
        decode_offer(text)
    return caught.value.reason


def test_there_are_captured_offers() -> None:
    assert len(ALL_OFFERS) == 31
    assert all(b"\r\n" in file.read_bytes() for file in ALL_OFFERS)


@pytest.mark.parametrize("file", ALL_OFFERS, ids=lambda file: file.stem)
def test_decodes_every_captured_offer(file: Path) -> None:
    text = file.read_bytes().decode()
    offer = decode_offer(text)
    assert decode_offer(text.replace("\r\n", "\n")) == offer
    assert len(offer.sections) == text.count("\r\nm=")
    for section in offer.sections:
        assert section.setup is Setup.ACTPASS
        assert section.ice_ufrag
        assert section.ice_pwd
        assert section.fingerprints[0].algorithm == "sha-256"
        if section.kind == "audio":
            assert any(codec.name == "opus" for codec in section.codecs)


def test_decodes_a_section_of_chromium() -> None:
    offer = decode_offer(captured("chromium-audio-balanced"))
    (audio,) = offer.sections
    assert offer.bundle == ("0",)
    assert not offer.ice_lite
    assert (audio.kind, audio.port, audio.protocol) == ("audio", 9, "UDP/TLS/RTP/SAVPF")
    assert audio.formats == ("111", "63", "9", "0", "8", "13", "110", "126")
    assert audio.codecs[0] == Codec(111, "opus", 48000, 2, "minptime=10;useinbandfec=1")
    assert audio.codecs[5] == Codec(13, "cn", 8000, 1, "")
    assert audio.mid == "0"
    assert audio.direction is Direction.SENDRECV
    assert (audio.ice_ufrag, audio.ice_pwd) == ("tWDx", "K1Nl3lYJH3n8zUsdZOUnwHPc")
    assert str(audio.fingerprints[0]).startswith("sha-256 18:9C:F9:94:7A:E2:41:26:1B:68")
    mid = "urn:ietf:params:rtp-hdrext:sdes:mid"
    assert audio.extensions[3] == Extension(4, mid, Direction.SENDRECV)
    assert (audio.rtcp_mux, audio.rtcp_rsize, audio.bundle_only) == (True, True, False)
    assert audio.ssrcs == (3471219506,)
    stream, track = "f91fa142-dd18-4327-af11-f53241d9b05b", "a294b80d-1699-46c1-bb29-35b58473969d"
    assert audio.msids == (Msid(stream, track),)


def test_folds_the_session_of_firefox_into_its_sections() -> None:
    offer = decode_offer(captured("firefox-audio-video-max-bundle"))
    audio, video = offer.sections
    assert audio.fingerprints == video.fingerprints
    assert (audio.bundle_only, audio.is_rejected) == (False, False)
    assert (video.port, video.bundle_only, video.is_rejected) == (0, True, False)
    assert audio.extensions[1].direction is Direction.RECVONLY
    assert len(audio.msids[0].stream) == 38


def test_reads_all_fingerprints_of_aiortc() -> None:
    (audio,) = decode_offer(captured("aiortc-audio-balanced")).sections
    assert [each.algorithm for each in audio.fingerprints] == ["sha-256", "sha-384", "sha-512"]


def test_a_section_has_precedence_over_the_session() -> None:
    session = f"{SESSION}a=setup:passive\r\na=recvonly\r\na=fingerprint:sha-256 {DIGEST}\r\n"
    own = DIGEST.replace("AB", "cd", 1)
    text = f"{session}{AUDIO}a=setup:active\r\na=sendonly\r\na=fingerprint:SHA-256 {own}\r\n{AUDIO}"
    first, second = decode_offer(text).sections
    assert (first.setup, first.direction) == (Setup.ACTIVE, Direction.SENDONLY)
    assert first.fingerprints == (Fingerprint("sha-256", own.upper()),)
    assert (second.setup, second.direction) == (Setup.PASSIVE, Direction.RECVONLY)
    assert second.fingerprints == (Fingerprint("sha-256", DIGEST),)


def test_ignores_what_it_does_not_know() -> None:
    plain = decode_offer(SESSION + AUDIO)
    more = "a=candidate:x y z\r\na=unheard-of\r\nb=AS:50\r\nk=prompt\r\na=\r\ni=Grüße\r\n"
    assert decode_offer(SESSION + AUDIO + more) == plain


def test_an_offer_may_announce_ice_lite() -> None:
    assert decode_offer(f"{SESSION}a=ice-lite\r\n{AUDIO}").ice_lite


def test_reads_ptime_and_sctp_port() -> None:
    data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000\r\n"
    audio, application = decode_offer(f"{SESSION}{AUDIO}a=ptime:60\r\n{data}").sections
    assert audio.ptime == 60
    assert (application.sctp_port, application.codecs) == (5000, ())


def test_a_static_payload_type_needs_no_rtpmap_and_is_not_listed() -> None:
    (audio,) = decode_offer(
        f"{SESSION}m=audio 9 RTP/SAVPF 0 8\r\na=rtpmap:8 PCMA/8000\r\n"
    ).sections
    assert [codec.payload_type for codec in audio.codecs] == [8]


CANDIDATE = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", SdpReason.SYNTAX),
        ("hello", SdpReason.SYNTAX),
        (AUDIO, SdpReason.SYNTAX),
        (SESSION + "audio\r\n", SdpReason.SYNTAX),
        (SESSION + "\r\n" + AUDIO, SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=mid:0\x00\r\n", SdpReason.CONTROL_CHARACTER),
        (SESSION + AUDIO + "a=mid:0\ra=mid:1\r\n", SdpReason.CONTROL_CHARACTER),
        (SESSION + AUDIO + "a=x:\ud800\r\n", SdpReason.CONTROL_CHARACTER),
        (SESSION + AUDIO + "a=x:\x85\r\n", SdpReason.CONTROL_CHARACTER),
        (SESSION + AUDIO + "x" * OFFER_BYTES_MAX, SdpReason.TOO_LARGE),
        (SESSION + "i=" + "ü" * (OFFER_BYTES_MAX // 2), SdpReason.TOO_LARGE),
        (SESSION + "a=x\r\n" * LINES_MAX, SdpReason.TOO_LARGE),
        (SESSION + "a=" + "x" * LINE_CHARS_MAX, SdpReason.TOO_LARGE),
        (SESSION + AUDIO * (SECTIONS_MAX + 1), SdpReason.TOO_LARGE),
        (SESSION + AUDIO * 10_000, SdpReason.TOO_LARGE),
        (SESSION + AUDIO + CANDIDATE * 10_000, SdpReason.TOO_LARGE),
        ("v" * 1_000_000, SdpReason.TOO_LARGE),
        (SESSION + (AUDIO + "a=mid:0\r\n") * 2, SdpReason.DUPLICATE_MID),
        (SESSION + AUDIO + "a=mid:0\r\na=mid:1\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=mid:\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=mid:a b\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + f"a=mid:{'x' * 65}\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=sendrecv\r\na=sendonly\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=setup:maybe\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=ice-ufrag:abc\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=ice-ufrag:ab-cd\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=ice-pwd:short\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=fingerprint:sha-256 AB:CD\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=fingerprint:sha-256\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=rtpmap:111 opus/48000/2\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=rtpmap:9 opus\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=fmtp:111\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=extmap:x uri\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=extmap:1/both uri\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=ssrc:4294967296 cname:x\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=ptime:fast\r\n", SdpReason.SYNTAX),
        (SESSION + AUDIO + "a=ptime:٢٠\r\n", SdpReason.SYNTAX),
        (SESSION + "m=audio 65536 RTP/SAVPF 0\r\n", SdpReason.SYNTAX),
        (SESSION + "m=audio 9 RTP/SAVPF\r\n", SdpReason.SYNTAX),
        (SESSION + "m=audio 9 RTP/SAVPF 128\r\n", SdpReason.SYNTAX),
        (SESSION + "m=audio 9 RTP/SAVPF 0 0\r\n", SdpReason.SYNTAX),
        (SESSION + "a=group:BUNDLE a\tb\r\n" + AUDIO, SdpReason.CONTROL_CHARACTER),
        (SESSION + "a=group:BUNDLE a  b\r\n" + AUDIO, SdpReason.SYNTAX),
    ],
)
def test_refuses_what_is_malformed(text: str, reason: SdpReason) -> None:
    assert reason_of(text) == reason


def test_candidates_are_nobodys_business() -> None:
    mapped = CANDIDATE.replace("192.0.2.1", "::ffff:127.0.0.1")
    (audio,) = decode_offer(f"{SESSION}{AUDIO}{mapped}{CANDIDATE * 1000}").sections
    assert audio == decode_offer(SESSION + AUDIO).sections[0]


def test_an_error_names_the_line_and_quotes_nothing() -> None:
    with pytest.raises(SdpError, match=r"^line 8 of the offer: ") as caught:
        decode_offer(SESSION + AUDIO + "a=setup:secret\r\n")
    assert "secret" not in str(caught.value)


def test_the_largest_offers_are_fine() -> None:
    padding = "a=x:" + "x" * 1000 + "\r\n"
    text = SESSION + AUDIO
    text += padding * ((OFFER_BYTES_MAX - len(text)) // len(padding))
    assert decode_offer(text).sections
    assert len(decode_offer(SESSION + AUDIO * SECTIONS_MAX).sections) == SECTIONS_MAX
