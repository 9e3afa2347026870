"""Later offers of a running session: what it follows, what it refuses, and fragments."""

from pathlib import Path

import pytest
from attrs import evolve

from edge.errors import SdpError
from edge.signal.answer import Answer, LocalFacts, answer_offer
from edge.signal.formats import MediaPolicy
from edge.signal.renegotiation import answer_again
from edge.signal.sdp import Direction, SdpReason, Setup, decode_offer

OFFERS = Path(__file__).parent.parent / "fixtures" / "offers"
FILES = sorted(file for file in OFFERS.glob("*.sdp") if "video-only" not in file.stem)

DIGEST = ":".join(["0A"] * 32)
POLICY = MediaPolicy()
LOCAL = LocalFacts(
    ufrag="IAbcdefghijklmnopqrstuv+",
    password="p" * 32,
    fingerprint=f"sha-256 {DIGEST}",
    candidates=("a=candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host",),
    session_id=4611686018427387904,
    ssrc=0xDEADBEEF,
    cname="edge-1",
)
FRESH = evolve(LOCAL, ufrag="IBfreshfreshfreshfresh++", password="q" * 32)

CHROMIUM = (OFFERS / "chromium-audio-balanced.sdp").read_bytes().decode()
RESTARTED = CHROMIUM.replace("ice-ufrag:tWDx", "ice-ufrag:neww")
UNBUNDLED = (
    f"v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\na=fingerprint:sha-256 {DIGEST}\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=rtcp-mux\na=setup:active\na=rtpmap:111 opus/48000/2\n"
    f"a=ice-ufrag:abcd\na=ice-pwd:{'w' * 22}\n"
)


def first(text: str = CHROMIUM, policy: MediaPolicy = POLICY) -> Answer:
    return answer_offer(decode_offer(text), LOCAL, policy)


def again(text: str, agreed: Answer | None = None, policy: MediaPolicy = POLICY) -> Answer:
    return answer_again(text, agreed or first(), FRESH, policy)


def refusal(text: str, agreed: Answer | None = None) -> str:
    with pytest.raises(SdpError) as caught:
        again(text, agreed)
    assert str(caught.value)[0].islower()
    return caught.value.reason


def changes(before: str, after: str) -> list[str]:
    """Return the lines of an answer that another one does not have."""
    known = before.split("\r\n")
    return [line for line in after.split("\r\n") if line not in known]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_same_offer_gets_the_same_answer_with_the_next_version(file: Path) -> None:
    text = file.read_bytes().decode()
    agreed = first(text)
    answer = again(text, agreed)
    (origin,) = changes(agreed.sdp, answer.sdp)
    assert origin == "o=- 4611686018427387904 2 IN IP4 192.0.2.7"
    assert answer == evolve(agreed, sdp=answer.sdp, version=2)
    assert again(text, answer).version == 3


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_new_credentials_get_new_ones_and_nothing_else_changes(file: Path) -> None:
    text = file.read_bytes().decode()
    agreed = first(text)
    fresh = text.replace("a=ice-ufrag:", "a=ice-ufrag:fresh").replace("a=ice-pwd:", "a=ice-pwd:n")
    answer = again(fresh, agreed)
    assert set(changes(agreed.sdp, answer.sdp)) == {
        "o=- 4611686018427387904 2 IN IP4 192.0.2.7",
        f"a=ice-ufrag:{FRESH.ufrag}",
        f"a=ice-pwd:{FRESH.password}",
    }
    assert answer.local == FRESH
    assert answer.remote.ice_ufrag == f"fresh{agreed.remote.ice_ufrag}"


@pytest.mark.parametrize("part", ["ice-ufrag:", "ice-pwd:"])
def test_one_half_of_the_credentials_is_enough_to_see_a_restart(part: str) -> None:
    assert again(CHROMIUM.replace(part, f"{part}x")).local == FRESH


def test_after_a_restart_the_same_offer_restarts_nothing() -> None:
    restarted = again(RESTARTED)
    assert restarted.local == FRESH
    newer = evolve(FRESH, ufrag="newer")
    assert answer_again(RESTARTED, restarted, newer, POLICY).local == FRESH
    assert answer_again(CHROMIUM, restarted, newer, POLICY).local == newer


@pytest.mark.parametrize(
    ("direction", "may_send", "may_receive"),
    [("sendonly", False, True), ("recvonly", True, False), ("inactive", False, False)],
)
def test_directions_are_followed(direction: str, may_send: bool, may_receive: bool) -> None:
    held = again(CHROMIUM.replace("a=sendrecv", f"a={direction}"))
    assert (held.remote.may_send, held.remote.may_receive) == (may_send, may_receive)
    assert held.local == LOCAL
    resumed = again(CHROMIUM, held)
    assert changes(first().sdp, resumed.sdp) == ["o=- 4611686018427387904 3 IN IP4 192.0.2.7"]


@pytest.mark.parametrize(
    ("offered", "role"),
    [
        ("actpass", Setup.ACTIVE),
        ("passive", Setup.ACTIVE),
    ],
)
def test_our_role_is_kept(offered: str, role: Setup) -> None:
    text = CHROMIUM.replace("setup:actpass", f"setup:{offered}")
    assert again(text).remote.setup is role
    passive = first(CHROMIUM.replace("setup:actpass", "setup:active"))
    assert again(CHROMIUM, passive).remote.setup is Setup.PASSIVE
    assert "a=setup:passive\r\n" in again(CHROMIUM, passive).sdp


def test_sections_may_be_added_behind_the_audio() -> None:
    video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\na=rtpmap:96 VP8/90000\r\n"
    answer = again(CHROMIUM + video)
    assert [each.port for each in decode_offer(answer.sdp).sections] == [3478, 0]
    second = CHROMIUM[CHROMIUM.index("m=audio") :].replace("a=mid:0", "a=mid:1")
    audio, other = decode_offer(again(CHROMIUM + second).sdp).sections
    assert (audio.direction, audio.mid) == (Direction.SENDRECV, "0")
    assert (other.port, other.mid) == (0, "1")


def test_formats_that_are_no_longer_offered_are_left_out() -> None:
    text = CHROMIUM.replace(" 63 ", " ").replace(" 110 ", " ")
    answer = again(text)
    assert answer.remote.formats == evolve(
        first().remote.formats, redundancy=None, telephone_event=None
    )
    assert "m=audio 3478 UDP/TLS/RTP/SAVPF 111\r\n" in answer.sdp


def test_formats_and_extensions_that_were_not_agreed_on_are_not_taken_later() -> None:
    bare = CHROMIUM.replace(" 63 ", " ").replace("a=extmap:", "a=x-extmap:")
    answer = again(CHROMIUM, first(bare))
    assert answer.remote.formats.redundancy is None
    assert (answer.remote.mid_extension, answer.remote.audio_level_extension) == (None, None)
    assert "red/" not in answer.sdp
    assert "a=extmap" not in answer.sdp
    moved = CHROMIUM.replace("a=extmap:4 ", "a=extmap:5 ").replace("a=extmap:1 ", "a=extmap:4 ")
    assert again(moved).remote.mid_extension is None


def test_the_codec_stays_though_a_better_one_is_offered() -> None:
    g711 = CHROMIUM.replace("opus/48000", "x-opus/48000").replace("red/48000", "x-red/48000")
    agreed = first(g711)
    assert agreed.remote.formats.codec == "PCMU"
    assert again(CHROMIUM, agreed).remote.formats == agreed.remote.formats


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CHROMIUM.replace("111", "112"), SdpReason.CODEC_CHANGED),
        (CHROMIUM.replace("opus/48000", "x-opus/48000"), SdpReason.NO_CODEC),
        (CHROMIUM.replace("a=mid:0", "a=mid:1"), SdpReason.AUDIO_GONE),
        (CHROMIUM.replace("m=audio 9", "m=audio 0"), SdpReason.AUDIO_GONE),
        (CHROMIUM.replace("m=audio", "m=video"), SdpReason.AUDIO_GONE),
        (CHROMIUM[: CHROMIUM.index("m=audio")], SdpReason.AUDIO_GONE),
        (CHROMIUM.replace("setup:actpass", "setup:active"), SdpReason.ROLE_CHANGED),
        (CHROMIUM.replace("setup:actpass", "setup:holdconn"), SdpReason.SETUP),
        (CHROMIUM.replace("a=rtcp-mux\r\n", ""), SdpReason.NO_RTCP_MUX),
        (CHROMIUM.replace("a=ice-pwd", "a=x-ice-pwd"), SdpReason.NO_ICE),
        ("v=0\r\nnonsense", SdpReason.SYNTAX),
    ],
)
def test_what_cannot_be_followed_is_refused(text: str, reason: str) -> None:
    assert refusal(text) == reason


def test_another_certificate_is_refused() -> None:
    lines = CHROMIUM.split("\r\n")
    at = next(n for n, line in enumerate(lines) if line.startswith("a=fingerprint:"))
    other = [*lines[:at], f"a=fingerprint:sha-256 {DIGEST}", *lines[at + 1 :]]
    both = [*lines[:at], f"a=fingerprint:sha-256 {DIGEST}", *lines[at:]]
    for text in (other, both):
        assert refusal("\r\n".join(text)) == SdpReason.FINGERPRINT_CHANGED


def test_an_offer_without_a_role_is_active() -> None:
    agreed = first(UNBUNDLED)
    assert again(UNBUNDLED.replace("a=setup:active\n", ""), agreed).remote.setup is Setup.PASSIVE
    assert refusal(UNBUNDLED.replace("setup:active", "setup:passive"), agreed) == "role-changed"


FRAGMENT = (
    "a=ice-options:trickle ice2\r\na=group:BUNDLE 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    "a=ice-ufrag:neww\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n"
    "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n"
    "a=end-of-candidates\r\n"
)


def test_a_fragment_with_new_credentials_is_answered_by_one() -> None:
    agreed = first()
    answer = again(FRAGMENT, agreed)
    assert answer.sdp.split("\r\n") == [
        "a=ice-lite",
        "a=ice-options:ice2",
        "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:0",
        f"a=ice-ufrag:{FRESH.ufrag}",
        f"a=ice-pwd:{FRESH.password}",
        LOCAL.candidates[0],
        "a=end-of-candidates",
        "",
    ]
    assert answer.local == FRESH
    assert (answer.remote.ice_ufrag, answer.remote.ice_pwd) == (
        "neww",
        "vw5LmwG4y/e6dPP/zAP9Gp5k",
    )
    assert answer.version == agreed.version
    whole = again(CHROMIUM, answer)
    assert whole.version == 2
    assert whole.local == FRESH, "whole offers go on from there"


def test_a_fragment_of_the_present_credentials_restarts_nothing() -> None:
    remote = first().remote
    same = FRAGMENT.replace("neww", remote.ice_ufrag).replace(
        "vw5LmwG4y/e6dPP/zAP9Gp5k", remote.ice_pwd
    )
    answer = again(same)
    assert answer.local == LOCAL
    assert f"a=ice-ufrag:{LOCAL.ufrag}\r\n" in answer.sdp


@pytest.mark.parametrize(
    "text",
    [
        "a=ice-ufrag:neww\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n",
        "a=ice-ufrag:neww\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k",
        FRAGMENT.replace("a=mid:0\r\n", ""),
        "m=video 9 RTP/AVP 0\r\na=mid:1\r\na=ice-ufrag:othr\r\na=ice-pwd:" + "w" * 22 + "\r\n"
        "m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=ice-ufrag:neww\r\na=ice-pwd:" + "v" * 22 + "\r\n",
    ],
)
def test_where_a_fragment_may_have_its_credentials(text: str) -> None:
    assert again(text).remote.ice_ufrag == "neww"


def test_a_session_without_mid_gets_its_fragment_at_session_level() -> None:
    answer = again("a=ice-ufrag:neww\r\na=ice-pwd:" + "w" * 22, first(UNBUNDLED))
    assert answer.sdp.startswith("a=ice-lite\r\na=ice-options:ice2\r\na=ice-ufrag:IBfresh")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", SdpReason.NO_ICE),
        ("a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n", SdpReason.NO_ICE),
        ("a=ice-ufrag:neww\r\n", SdpReason.NO_ICE),
        ("a=ice-ufrag:x\r\na=ice-pwd:short\r\n", SdpReason.SYNTAX),
        ("nonsense", SdpReason.SYNTAX),
        ("a=ice-ufrag:neww\r\na=x:\x00\r\n", SdpReason.CONTROL_CHARACTER),
        ("a=candidate:x\r\n" * 10_000, SdpReason.TOO_LARGE),
    ],
)
def test_bad_fragments(text: str, reason: str) -> None:
    assert refusal(text) == reason


def test_secrets_are_in_no_repr() -> None:
    answer = again(RESTARTED)
    assert FRESH.password not in repr(answer.local)
    assert answer.remote.ice_pwd not in repr(answer.remote)
