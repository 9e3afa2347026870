"""Any later offer and any fragment gets an answer that the session can live with, or a refusal."""

from pathlib import Path

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import SdpError
from edge.signal.answer import Answer, LocalFacts, answer_offer
from edge.signal.formats import MediaPolicy
from edge.signal.renegotiation import answer_again
from edge.signal.sdp import decode_offer

OFFERS = [
    file.read_bytes().decode()
    for file in sorted((Path(__file__).parent.parent / "fixtures" / "offers").glob("*.sdp"))
    if "video-only" not in file.stem
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
FRESH = evolve(LOCAL, ufrag="IBfreshfreshfreshfresh++", password="q" * 32)
POLICY = MediaPolicy()
AGREED = [answer_offer(decode_offer(text), LOCAL, POLICY) for text in OFFERS]

LINES = sorted({line for text in OFFERS for line in text.split("\r\n") if line})
edits = st.lists(
    st.tuples(
        st.sampled_from(["drop", "double", "replace", "insert", "swap"]),
        st.integers(0, 200),
        st.sampled_from(LINES),
    ),
    max_size=4,
)
fragment_lines = st.one_of(
    st.sampled_from([line for line in LINES if line.startswith(("a=ice", "m=", "a=mid"))]),
    st.text(st.characters(min_codepoint=9, max_codepoint=0x100), max_size=20),
)


def edit(text: str, changes: list[tuple[str, int, str]]) -> str:
    lines = text.split("\r\n")
    for kind, position, line in changes:
        at = position % len(lines)
        match kind:
            case "drop" if len(lines) > 1:
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "replace":
                lines[at] = line
            case "insert":
                lines.insert(at, line)
            case _:
                lines[at], lines[0 if at else -1] = lines[0 if at else -1], lines[at]
    return "\r\n".join(lines)


def check_followed(agreed: Answer, answer: Answer) -> None:
    """Assert that the session can follow: what it cannot change has not changed."""
    before, after = agreed.remote, answer.remote
    assert after.setup is before.setup
    assert set(after.fingerprints) == set(before.fingerprints)
    assert (after.formats.codec, after.formats.audio, after.mid) == (
        before.formats.codec,
        before.formats.audio,
        before.mid,
    )
    assert answer.section == agreed.section
    same = (after.ice_ufrag, after.ice_pwd) == (before.ice_ufrag, before.ice_pwd)
    assert answer.local == (LOCAL if same else FRESH)
    assert f"a=ice-ufrag:{answer.local.ufrag}\r\n" in answer.sdp
    assert answer.sdp.endswith("\r\n")


@given(st.integers(0, len(OFFERS) - 1), edits)
@settings(max_examples=300, deadline=None)
def test_an_edited_offer_is_followed_or_refused(
    number: int, changes: list[tuple[str, int, str]]
) -> None:
    agreed = AGREED[number]
    try:
        answer = answer_again(edit(OFFERS[number], changes), agreed, FRESH, POLICY)
    except SdpError:
        return
    check_followed(agreed, answer)


@given(st.integers(0, len(OFFERS) - 1), st.lists(fragment_lines, max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_fragment_is_followed_or_refused(number: int, lines: list[str]) -> None:
    agreed = AGREED[number]
    try:
        answer = answer_again("\r\n".join(lines), agreed, FRESH, POLICY)
    except SdpError:
        return
    check_followed(agreed, answer)
