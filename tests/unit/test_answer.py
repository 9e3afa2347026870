"""Answers to captured offers, and the answerer's rules one by one."""

import asyncio
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from aiortc.rtcconfiguration import RTCBundlePolicy

from edge.errors import SdpError
from edge.signal.answer import Answer, LocalFacts, answer_offer
from edge.signal.formats import AudioFormats, MediaPolicy
from edge.signal.sdp import Direction, SdpReason, Setup, decode_offer

OFFERS = Path(__file__).parent.parent / "fixtures" / "offers"
ACCEPTED = sorted(file for file in OFFERS.glob("*.sdp") if "video-only" not in file.stem)

DIGEST = ":".join(["0A"] * 32)
LOCAL = LocalFacts(
    ufrag="IAbcdefghijklmnopqrstuv+",
    password="p" * 32,
    fingerprint=f"sha-256 {DIGEST}",
    candidates=(
        "a=candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host",
        "a=candidate:2 1 udp 2130706175 2001:db8::7 3478 typ host",
    ),
    session_id=4611686018427387904,
    ssrc=0xDEADBEEF,
    cname="edge-1",
)

OPUS_ONLY = MediaPolicy(codecs=("opus",), redundancy="off", telephone_event=False)

SESSION = f"v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\na=fingerprint:sha-256 {DIGEST}\n"
ICE = f"a=ice-ufrag:abcd\na=ice-pwd:{'w' * 22}\n"
AUDIO = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=rtcp-mux\na=setup:actpass\na=rtpmap:111 opus/48000/2\n"
) + ICE


def captured(name: str) -> str:
    return (OFFERS / f"{name}.sdp").read_bytes().decode()


def answer(text: str, policy: MediaPolicy = OPUS_ONLY, local: LocalFacts = LOCAL) -> Answer:
    return answer_offer(decode_offer(text), local, policy)


def answered_sections(text: str, policy: MediaPolicy = OPUS_ONLY) -> list[list[str]]:
    """Return the lines of each media section of the answer."""
    _, *sections = answer(text, policy).sdp.split("\r\nm=")
    return [("m=" + section).split("\r\n") for section in sections]


def reason_of(text: str) -> str:
    with pytest.raises(SdpError) as caught:
        answer(text)
    return caught.value.reason


def test_the_whole_answer_to_chromium() -> None:
    got = answer(captured("chromium-audio-data-balanced"))
    assert got.sdp.endswith("\r\n")
    assert got.sdp.split("\r\n") == [
        "v=0",
        "o=- 4611686018427387904 1 IN IP4 192.0.2.7",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        "a=ice-options:ice2",
        "a=group:BUNDLE 0",
        "m=audio 3478 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 192.0.2.7",
        "a=mid:0",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=ptime:20",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=sendrecv",
        "a=msid:edge-1 edge-1",
        "a=ssrc:3735928559 cname:edge-1",
        "a=ssrc:3735928559 msid:edge-1 edge-1",
        "a=ice-ufrag:IAbcdefghijklmnopqrstuv+",
        f"a=ice-pwd:{'p' * 32}",
        f"a=fingerprint:sha-256 {DIGEST}",
        "a=setup:active",
        "a=candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host",
        "a=candidate:2 1 udp 2130706175 2001:db8::7 3478 typ host",
        "a=end-of-candidates",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
        "a=sctp-port:5000",
        "a=inactive",
        "a=ice-ufrag:IAbcdefghijklmnopqrstuv+",
        f"a=ice-pwd:{'p' * 32}",
        f"a=fingerprint:sha-256 {DIGEST}",
        "a=setup:active",
        "",
    ]


def test_what_the_session_learns_from_chromium() -> None:
    remote = answer(captured("chromium-audio-balanced")).remote
    assert remote.setup is Setup.ACTIVE
    assert (remote.ice_ufrag, remote.ice_pwd) == ("tWDx", "K1Nl3lYJH3n8zUsdZOUnwHPc")
    assert [each.algorithm for each in remote.fingerprints] == ["sha-256"]
    assert remote.mid == "0"
    assert remote.formats == AudioFormats("opus", 111, None, None, None)
    assert (remote.mid_extension, remote.audio_level_extension) == (4, 1)
    assert (remote.rtcp_rsize, remote.may_send, remote.may_receive) == (True, True, True)
    assert remote.ssrcs == (3471219506,)


@pytest.mark.parametrize("file", ACCEPTED, ids=lambda file: file.stem)
def test_the_answer_has_the_offers_sections_in_order(file: Path) -> None:
    text = file.read_bytes().decode()
    offer = decode_offer(text)
    # Our decoder reads our answers too: they are the same language.
    answered = decode_offer(answer(text).sdp)
    assert answered.ice_lite
    assert [(each.kind, each.mid, each.protocol) for each in answered.sections] == [
        (each.kind, each.mid, each.protocol) for each in offer.sections
    ]
    live = [each for each in answered.sections if each.direction is not Direction.INACTIVE]
    assert [each.kind for each in live] == ([] if "inactive" in file.stem else ["audio"])
    open_mids = [each.mid for each in answered.sections if each.port]
    assert list(answered.bundle) == (open_mids if offer.bundle else [])
    for section, offered in zip(answered.sections, offer.sections, strict=True):
        assert set(section.formats) <= set(offered.formats)
        assert section.setup is Setup.ACTIVE
        assert section.rtcp_mux == offered.rtcp_mux
        assert set(section.extensions) <= set(offered.extensions)


def test_a_refused_tagged_section_stays_for_its_transport() -> None:
    text = captured("chromium-video-first-max-bundle")
    video, audio = answered_sections(text)
    assert "a=group:BUNDLE 0 1\r\n" in answer(text).sdp
    assert video[0] == "m=video 9 UDP/TLS/RTP/SAVPF 96"
    assert "a=rtpmap:96 vp8/90000" in video
    assert "a=inactive" in video
    assert LOCAL.candidates[0] in video
    assert audio[0] == "m=audio 3478 UDP/TLS/RTP/SAVPF 111"


def test_bundle_only_is_no_refusal() -> None:
    """Firefox and GStreamer give bundle-only audio the port 0."""
    for name in ("firefox-video-first-max-bundle", "gstreamer-video-first-max-bundle"):
        _, audio = answered_sections(captured(name))
        assert audio[0].startswith("m=audio 3478 ")


def test_without_bundle_the_first_section_is_refused_like_any_other() -> None:
    video = "m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:v\na=rtpmap:96 VP8/90000\n"
    refused, accepted = answered_sections(f"{SESSION}{video}{AUDIO}a=mid:a\n")
    assert refused[0] == "m=video 0 UDP/TLS/RTP/SAVPF 96"
    assert accepted[0].startswith("m=audio 3478 ")
    assert "BUNDLE" not in answer(f"{SESSION}{video}{AUDIO}a=mid:a\n").sdp


def test_a_second_audio_and_everything_else_is_refused_in_place() -> None:
    video, audio, second, data = answered_sections(captured("firefox-all-max-bundle"))
    assert video[0] == "m=video 9 UDP/TLS/RTP/SAVPF 120"
    assert audio[0] == "m=audio 3478 UDP/TLS/RTP/SAVPF 109"
    assert second[0] == "m=audio 0 UDP/TLS/RTP/SAVPF 109"
    assert data[0] == "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
    assert "a=mid:3" in data


def test_refused_sections_have_candidates_only_where_they_share_the_transport() -> None:
    """One port for both, as aiortc has it under max-bundle, means one transport."""
    _, shared = answered_sections(captured("aiortc-audio-video-max-bundle"))
    assert LOCAL.candidates[0] in shared
    _, separate = answered_sections(captured("aiortc-audio-data-balanced"))
    assert LOCAL.candidates[0] not in separate


def test_the_audio_with_opus_is_taken() -> None:
    pcm = "m=audio 9 UDP/TLS/RTP/SAVPF 0\na=rtpmap:0 PCMU/8000\n"
    refused, accepted = answered_sections(SESSION + pcm + AUDIO)
    assert refused[0].startswith("m=audio 0 ")
    assert accepted[0].startswith("m=audio 3478 ")


def test_an_audio_section_that_the_offer_has_closed_stays_closed() -> None:
    closed, accepted = answered_sections(SESSION + AUDIO.replace("audio 9", "audio 0") + AUDIO)
    assert closed[0].startswith("m=audio 0 ")
    assert accepted[0].startswith("m=audio 3478 ")


@pytest.mark.parametrize(
    ("offered", "answered", "may_send", "may_receive"),
    [
        ("sendrecv", "sendrecv", True, True),
        ("sendonly", "recvonly", False, True),
        ("recvonly", "sendonly", True, False),
        ("inactive", "inactive", False, False),
    ],
)
def test_directions(offered: str, answered: str, *, may_send: bool, may_receive: bool) -> None:
    text = f"{SESSION}{AUDIO}a={offered}\n"
    (audio,) = answered_sections(text)
    assert f"a={answered}" in audio
    assert any(line.startswith("a=ssrc:") for line in audio) == may_send
    remote = answer(text).remote
    assert (remote.may_send, remote.may_receive) == (may_send, may_receive)


@pytest.mark.parametrize(
    ("offered", "ours"),
    [
        ("a=setup:actpass\n", Setup.ACTIVE),
        ("a=setup:passive\n", Setup.ACTIVE),
        ("a=setup:active\n", Setup.PASSIVE),
        ("", Setup.PASSIVE),
    ],
)
def test_dtls_roles(offered: str, ours: Setup) -> None:
    text = SESSION + AUDIO.replace("a=setup:actpass\n", offered)
    assert answer(text).remote.setup is ours
    assert f"a=setup:{ours}\r\n" in answer(text).sdp


def test_transport_attributes_come_from_the_tagged_section() -> None:
    """RFC 8843 §7.1.3: a bundle-only section has none of its own."""
    video = f"m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:v\na=rtcp-mux\na=setup:passive\n{ICE}"
    audio = AUDIO.replace(ICE, "").replace("a=setup:actpass\n", "").replace("audio 9", "audio 0")
    session = f"{SESSION}a=group:BUNDLE v a\n"
    remote = answer(f"{session}{video}{audio}a=bundle-only\na=mid:a\n").remote
    assert (remote.setup, remote.ice_ufrag, remote.mid) == (Setup.ACTIVE, "abcd", "a")


def format_lines(text: str, policy: MediaPolicy) -> list[str]:
    """Return the m-line of the accepted section and what it says of its formats."""
    (audio,) = (
        lines for lines in answered_sections(text, policy) if lines[0].startswith("m=audio 3478 ")
    )
    return [audio[0], *(line for line in audio if line.startswith(("a=rtpmap:", "a=fmtp:")))]


def test_everything_that_chromium_offers_beside_opus() -> None:
    text = captured("chromium-audio-balanced")
    assert format_lines(text, MediaPolicy()) == [
        "m=audio 3478 UDP/TLS/RTP/SAVPF 111 63 110",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 111/111",
        "a=rtpmap:110 telephone-event/48000",
        "a=fmtp:110 0-15",
    ]
    assert answer(text, MediaPolicy()).remote.formats == AudioFormats("opus", 111, 63, 110, None)


def test_redundancy_that_is_preferred_is_listed_first() -> None:
    text = captured("chromium-audio-balanced")
    policy = MediaPolicy(redundancy="prefer", telephone_event=False)
    assert format_lines(text, policy)[0] == "m=audio 3478 UDP/TLS/RTP/SAVPF 63 111"
    off = MediaPolicy(redundancy="off", telephone_event=False)
    assert format_lines(text, off)[0] == "m=audio 3478 UDP/TLS/RTP/SAVPF 111"


@pytest.mark.parametrize("fmtp", ["", "a=fmtp:63 111/0\n", "a=fmtp:63 111/\n", "a=fmtp:63 x\n"])
def test_redundancy_around_other_codecs_is_left_out(fmtp: str) -> None:
    audio = AUDIO.replace(" 111\n", " 111 63 0\n", 1) + "a=rtpmap:63 red/48000/2\n" + fmtp
    assert answer(SESSION + audio, MediaPolicy()).remote.formats.redundancy is None
    good = audio.replace(fmtp, "") + "a=fmtp:63 111/111/111\n"
    assert answer(SESSION + good, MediaPolicy()).remote.formats.redundancy == 63


def test_the_client_is_asked_for_dtx() -> None:
    assert "a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1" in format_lines(
        SESSION + AUDIO, MediaPolicy(dtx=True)
    )


def test_digits_are_taken_on_the_codecs_clock_only() -> None:
    """Firefox has them at 8000 Hz only, which is no clock of an Opus session."""
    text = captured("firefox-audio-balanced")
    assert format_lines(text, MediaPolicy())[0] == "m=audio 3478 UDP/TLS/RTP/SAVPF 109"
    assert format_lines(text, MediaPolicy(codecs=("PCMU",))) == [
        "m=audio 3478 UDP/TLS/RTP/SAVPF 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
    ]


def test_g711_comes_with_comfort_noise() -> None:
    text = captured("chromium-audio-balanced")
    policy = MediaPolicy(codecs=("PCMA", "opus"), redundancy="prefer", dtx=True)
    assert format_lines(text, policy) == [
        "m=audio 3478 UDP/TLS/RTP/SAVPF 8 13 126",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:13 CN/8000",
        "a=rtpmap:126 telephone-event/8000",
        "a=fmtp:126 0-15",
    ]
    assert answer(text, policy).remote.formats == AudioFormats("PCMA", 8, None, 126, 13)


@pytest.mark.parametrize("opus", ["opus/48000/2", "opus/48000"])
def test_the_policys_order_counts_not_the_offers(opus: str) -> None:
    section = "a=rtcp-mux\na=setup:actpass\n" + ICE
    g711 = "m=audio 9 UDP/TLS/RTP/SAVPF 8 0\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\n"
    text = SESSION + g711 + section + AUDIO.replace("opus/48000/2", opus)
    formats = answer(text, MediaPolicy()).remote.formats
    assert (formats.codec, formats.audio) == (("opus", 111) if opus[-2] == "/" else ("PCMU", 0))


def test_payload_types_that_look_like_rtcp_are_left_out() -> None:
    audio = AUDIO.replace(" 111\n", " 111 72 95\n", 1)
    audio += "a=rtpmap:72 red/48000/2\na=fmtp:72 111/111\na=rtpmap:95 telephone-event/48000\n"
    assert answer(SESSION + audio, MediaPolicy()).remote.formats == AudioFormats(
        "opus", 111, None, None, None
    )


def test_a_refusal_names_the_codecs_that_are_taken() -> None:
    with pytest.raises(SdpError, match=r"none of the codecs opus/48000/2, PCMU/8000$"):
        answer(SESSION + AUDIO.replace("opus", "speex"), MediaPolicy(codecs=("opus", "PCMU")))


def test_header_extensions_that_cannot_be_taken_are_left_out() -> None:
    level, mid = (
        "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "urn:ietf:params:rtp-hdrext:sdes:mid",
    )
    remote = answer(f"{SESSION}{AUDIO}a=extmap:15 {level}\na=extmap:2/recvonly {mid}\n").remote
    assert (remote.audio_level_extension, remote.mid_extension) == (None, None)
    both = f"{SESSION}{AUDIO}a=extmap:14 {level} vad=on\na=extmap:3 {mid}\na=extmap:4 {mid}\n"
    remote = answer(both).remote
    assert (remote.audio_level_extension, remote.mid_extension) == (14, 3)


def test_an_ipv6_default_candidate() -> None:
    local = LocalFacts(
        ufrag=LOCAL.ufrag,
        password=LOCAL.password,
        fingerprint=LOCAL.fingerprint,
        candidates=LOCAL.candidates[1:],
        session_id=1,
        ssrc=1,
        cname="edge-1",
    )
    assert "\r\nc=IN IP6 2001:db8::7\r\n" in answer(SESSION + AUDIO, local=local).sdp


WEAK = "a=fingerprint:sha-1 " + ":".join(["0A"] * 20)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SESSION, SdpReason.NO_AUDIO),
        (captured("chromium-video-only-balanced"), SdpReason.NO_AUDIO),
        (SESSION + AUDIO.replace("audio 9", "audio 0"), SdpReason.NO_AUDIO),
        (SESSION + AUDIO.replace("UDP/TLS/RTP/SAVPF", "RTP/MADEUP"), SdpReason.NO_AUDIO),
        (SESSION + AUDIO.replace("opus", "speex"), SdpReason.NO_CODEC),
        (SESSION + AUDIO.replace("48000/2", "48000"), SdpReason.NO_CODEC),
        (SESSION + AUDIO.replace("111", "72"), SdpReason.NO_CODEC),
        (SESSION + AUDIO.replace("a=rtcp-mux\n", ""), SdpReason.NO_RTCP_MUX),
        (SESSION + AUDIO.replace(ICE, ""), SdpReason.NO_ICE),
        (SESSION + "a=ice-lite\n" + AUDIO, SdpReason.ICE_LITE),
        (SESSION + AUDIO.replace("actpass", "holdconn"), SdpReason.SETUP),
        (SESSION.replace("a=fingerprint", "a=fingertip") + AUDIO, SdpReason.NO_FINGERPRINT),
        (SESSION.replace(f"a=fingerprint:sha-256 {DIGEST}", WEAK) + AUDIO, "weak-fingerprint"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    assert reason_of(text) == reason


def test_a_weak_fingerprint_beside_a_strong_one_is_not_passed_on() -> None:
    remote = answer(f"{SESSION}{WEAK}\n{AUDIO}").remote
    assert [each.algorithm for each in remote.fingerprints] == ["sha-256"]


@pytest.mark.parametrize("policy", [RTCBundlePolicy.BALANCED, RTCBundlePolicy.MAX_BUNDLE])
@pytest.mark.parametrize("kinds", ["a", "ad", "av", "va"])
@pytest.mark.parametrize("media", [OPUS_ONLY, MediaPolicy(codecs=("PCMU",))])
def test_aiortc_takes_the_answer(kinds: str, policy: RTCBundlePolicy, media: MediaPolicy) -> None:
    async def negotiate() -> tuple[str, list[str | None]]:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=policy))
        for kind in kinds:
            if kind == "d":
                connection.createDataChannel("events")
            else:
                connection.addTrack(AudioStreamTrack() if kind == "a" else VideoStreamTrack())
        await connection.setLocalDescription(await connection.createOffer())
        sdp = answer(connection.localDescription.sdp, media).sdp
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        state = connection.signalingState
        directions = {each.kind: each.currentDirection for each in connection.getTransceivers()}
        await connection.close()
        return state, [directions.get("audio"), directions.get("video", "inactive")]

    assert asyncio.run(negotiate()) == ("stable", ["sendrecv", "inactive"])
