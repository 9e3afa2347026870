"""Any text is an offer or one SdpError; any accepted offer has an answer that keeps the rules."""

from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge.errors import SdpError
from edge.signal.answer import LocalFacts, answer_offer
from edge.signal.formats import MediaPolicy
from edge.signal.sdp import OFFER_BYTES_MAX, Offer, SdpReason, decode_offer

OFFERS = [
    file.read_bytes().decode()
    for file in sorted((Path(__file__).parent.parent / "fixtures" / "offers").glob("*.sdp"))
]

LOCAL = LocalFacts(
    ufrag="IAbcdefghijklmnopqrstuv+",
    password="p" * 32,
    fingerprint="sha-256 " + ":".join(["0A"] * 32),
    candidates=("a=candidate:1 1 udp 2130706431 192.0.2.7 3478 typ host",),
    session_id=1,
    ssrc=1,
    cname="edge-1",
)


POLICIES = st.builds(
    MediaPolicy,
    codecs=st.permutations(["opus", "PCMU", "PCMA"]).flatmap(
        lambda codecs: st.integers(1, 3).map(lambda count: tuple(codecs[:count]))
    ),
    redundancy=st.sampled_from(["off", "accept", "prefer"]),
    telephone_event=st.booleans(),
    dtx=st.booleans(),
)


def check_error(error: SdpError) -> None:
    assert error.reason in set(SdpReason)
    assert len(str(error)) < 200


def decode(text: str) -> Offer | None:
    try:
        return decode_offer(text)
    except SdpError as exc:
        check_error(exc)
        return None


def check_answer(offer: Offer, policy: MediaPolicy) -> None:
    try:
        answer = answer_offer(offer, LOCAL, policy)
    except SdpError as exc:
        check_error(exc)
        return
    answered = decode_offer(answer.sdp)
    assert len(answered.sections) == len(offer.sections)
    for ours, theirs in zip(answered.sections, offer.sections, strict=True):
        assert (ours.kind, ours.protocol, ours.mid) == (theirs.kind, theirs.protocol, theirs.mid)
        assert set(ours.formats) <= set(theirs.formats)
        if ours.port == 3478:
            assert not {str(each) for each in range(64, 96)} & set(ours.formats)
    assert sum(section.port == 3478 for section in answered.sections) == 1
    assert set(answered.bundle) <= set(offer.bundle)
    assert all(section.port for section in answered.sections if section.mid in answered.bundle)
    assert answer.sdp.count("\r\n") == answer.sdp.count("\n")
    assert answer.sdp.endswith("\r\n")


@given(st.text(max_size=500))
@settings(max_examples=200)
def test_any_text_is_a_value_or_the_one_error(text: str) -> None:
    decode(text)
    decode(f"v=0\r\n{text}")


ATTRIBUTES = st.sampled_from(
    [
        "mid",
        "group",
        "setup",
        "ice-ufrag",
        "ice-pwd",
        "fingerprint",
        "rtpmap",
        "fmtp",
        "extmap",
        "ssrc",
        "msid",
        "ptime",
        "sctp-port",
        "candidate",
    ]
)
LINES = st.one_of(
    st.builds("a={}:{}".format, ATTRIBUTES, st.text("0123456789abc:/ -=", max_size=30)),
    st.builds(
        "m={} {} {} {}".format,
        st.sampled_from(["audio", "video", "application"]),
        st.integers(0, 70_000),
        st.sampled_from(["UDP/TLS/RTP/SAVPF", "UDP/DTLS/SCTP"]),
        st.text("0123456789 ", max_size=20),
    ),
    st.sampled_from(["a=sendonly", "a=rtcp-mux", "a=bundle-only", "a=ice-lite", "c=IN IP4 x"]),
)


@given(st.lists(LINES, max_size=60))
@settings(max_examples=200)
def test_any_lines_are_a_value_or_the_one_error(lines: list[str]) -> None:
    decode("v=0\n" + "\n".join(lines))


@given(st.data())
@settings(max_examples=200)
def test_a_captured_offer_with_lines_lost_moved_or_added(data: st.DataObject) -> None:
    lines = data.draw(st.sampled_from(OFFERS)).split("\r\n")
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(1, len(lines) - 1))
        match data.draw(st.sampled_from(["lose", "repeat", "add", "swap"])):
            case "lose":
                del lines[index]
            case "repeat":
                lines.insert(index, lines[index])
            case "add":
                lines.insert(index, data.draw(LINES))
            case _:
                lines[index - 1], lines[index] = lines[index], lines[index - 1]
    offer = decode("\r\n".join(lines))
    assume(offer is not None)
    assert offer is not None
    check_answer(offer, data.draw(POLICIES))


@given(st.sampled_from(OFFERS), st.integers(0, OFFER_BYTES_MAX), st.characters(), POLICIES)
@settings(max_examples=200)
def test_a_captured_offer_with_one_character_changed(
    text: str, at: int, new: str, policy: MediaPolicy
) -> None:
    at %= len(text)
    offer = decode(text[:at] + new + text[at + 1 :])
    if offer is not None:
        check_answer(offer, policy)
