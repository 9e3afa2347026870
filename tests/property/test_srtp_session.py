from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import SrtpError
from edge.srtp.profile import SrtpKeying, SrtpProfile
from edge.srtp.session import SrtpSession

PROFILES = st.sampled_from(list(SrtpProfile))


def pair(profile: SrtpProfile) -> tuple[SrtpSession, SrtpSession]:
    """Return sender and receiver."""
    length = profile.key_bytes + profile.salt_bytes
    key, unused = bytes(range(length)), bytes(length)
    return (
        SrtpSession(SrtpKeying(profile, local=key, remote=unused)),
        SrtpSession(SrtpKeying(profile, local=unused, remote=key)),
    )


def rtp(sequence: int, payload: bytes) -> bytes:
    return b"\x80\x6f" + (sequence % 65536).to_bytes(2) + bytes(4) + b"ssrc" + payload


@given(PROFILES, st.binary(max_size=1344))
def test_any_payload_survives(profile: SrtpProfile, payload: bytes) -> None:
    sender, receiver = pair(profile)
    assert receiver.unprotect_rtp(sender.protect_rtp(rtp(9, payload))) == rtp(9, payload)
    report = b"\x80\xc9\x00\x01ssrc" + payload
    assert receiver.unprotect_rtcp(sender.protect_rtcp(report)) == report


@given(PROFILES, st.binary(max_size=1600) | st.binary(max_size=60).map(lambda b: b"\x80\x6f" + b))
def test_any_bytes_raise_the_one_error(profile: SrtpProfile, packet: bytes) -> None:
    _, receiver = pair(profile)
    for unprotect in (receiver.unprotect_rtp, receiver.unprotect_rtcp):
        with pytest.raises(SrtpError) as caught:
            unprotect(packet)
        assert caught.value.reason in {
            "authentication",
            "malformed",
            "too-short",
            "too-long",
        }


@given(PROFILES, st.binary(max_size=1600))
def test_protecting_any_bytes_yields_bytes_or_the_one_error(
    profile: SrtpProfile, packet: bytes
) -> None:
    sender, _ = pair(profile)
    for protect in (sender.protect_rtp, sender.protect_rtcp):
        with suppress(SrtpError):
            assert len(protect(packet)) > len(packet)


@settings(max_examples=50)
@given(
    PROFILES,
    st.integers(1, 65535),
    st.lists(st.integers(0, 60), min_size=1, max_size=120),
)
def test_each_packet_is_taken_exactly_once_in_any_order(
    profile: SrtpProfile, first: int, order: list[int]
) -> None:
    sender, receiver = pair(profile)
    plain = [rtp(first + n, b"%d" % n) for n in range(61)]
    sent = [sender.protect_rtp(packet) for packet in plain]
    receiver.unprotect_rtp(sent[0])  # before any rollover, or it could not be followed
    seen = {0}
    for n in order:
        if n in seen:
            with pytest.raises(SrtpError) as caught:
                receiver.unprotect_rtp(sent[n])
            assert caught.value.reason == "replay"
        else:
            assert receiver.unprotect_rtp(sent[n]) == plain[n]
            seen.add(n)
