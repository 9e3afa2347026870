import pytest

from edge.errors import SrtpError
from edge.srtp.profile import SrtpKeying, SrtpProfile
from edge.srtp.session import SrtpSession

PROFILES = list(SrtpProfile)


def pair(profile: SrtpProfile) -> tuple[SrtpSession, SrtpSession]:
    """Return the two ends of one association."""
    length = profile.key_bytes + profile.salt_bytes
    one, two = bytes(range(length)), bytes(range(100, 100 + length))
    return (
        SrtpSession(SrtpKeying(profile, local=one, remote=two)),
        SrtpSession(SrtpKeying(profile, local=two, remote=one)),
    )


def rtp(sequence: int, ssrc: int = 1, payload: bytes = b"voice") -> bytes:
    head = b"\x80\x6f" + (sequence % 65536).to_bytes(2) + bytes(4)
    return head + ssrc.to_bytes(4) + payload


def rtcp(ssrc: int = 1) -> bytes:
    """Encode an empty receiver report (RFC 3550 §6.4.2)."""
    return b"\x80\xc9\x00\x01" + ssrc.to_bytes(4)


def refusal(session: SrtpSession, packet: bytes, *, is_rtcp: bool = False) -> str:
    """Return the reason why a packet is refused."""
    unprotect = session.unprotect_rtcp if is_rtcp else session.unprotect_rtp
    with pytest.raises(SrtpError) as caught:
        unprotect(packet)
    return caught.value.reason


@pytest.mark.parametrize("profile", PROFILES)
def test_media_passes_both_ways(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    for sender, receiver in ((left, right), (right, left)):
        assert receiver.unprotect_rtp(sender.protect_rtp(rtp(1))) == rtp(1)
        assert receiver.unprotect_rtcp(sender.protect_rtcp(rtcp())) == rtcp()
    assert rtp(1)[12:] not in left.protect_rtp(rtp(2))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_flipped_bit_anywhere_fails_authentication_and_changes_nothing(
    profile: SrtpProfile,
) -> None:
    left, right = pair(profile)
    packet, report = left.protect_rtp(rtp(1)), left.protect_rtcp(rtcp())
    for at in range(len(packet)):
        broken = packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]
        assert refusal(right, broken) in ("authentication", "malformed")
    for at in range(len(report)):
        broken = report[:at] + bytes([report[at] ^ 1]) + report[at + 1 :]
        assert refusal(right, broken, is_rtcp=True) in ("authentication", "malformed")
    assert right.unprotect_rtp(packet) == rtp(1)
    assert right.unprotect_rtcp(report) == rtcp()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_flipped_tag_fails_authentication(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    packet = left.protect_rtp(rtp(1))
    assert refusal(right, packet[:-1] + bytes([packet[-1] ^ 0x80])) == "authentication"


@pytest.mark.parametrize("profile", PROFILES)
def test_replay_is_refused_inside_and_outside_the_window(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    packets = [left.protect_rtp(rtp(n)) for n in range(1, 1101)]
    late_inside, late_outside = packets[90], packets[10]
    for packet in packets:
        if packet not in (late_inside, late_outside):
            right.unprotect_rtp(packet)
    assert refusal(right, packets[-1]) == "replay"
    assert refusal(right, packets[500]) == "replay"
    assert refusal(right, packets[0]) == "too-old"
    assert refusal(right, late_outside) == "too-old"  # never seen, but 1,089 behind
    assert right.unprotect_rtp(late_inside) == rtp(91)  # 1,009 behind
    assert refusal(right, late_inside) == "replay"


@pytest.mark.parametrize("profile", PROFILES)
def test_replayed_rtcp_is_refused(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    reports = [left.protect_rtcp(rtcp()) for _ in range(3)]
    right.unprotect_rtcp(reports[2])
    right.unprotect_rtcp(reports[0])
    assert refusal(right, reports[2], is_rtcp=True) == "replay"
    assert refusal(right, reports[0], is_rtcp=True) == "replay"
    assert right.unprotect_rtcp(reports[1]) == rtcp()


@pytest.mark.parametrize("profile", PROFILES)
def test_sequence_number_wraps_with_loss_of_65535(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    sent = {n: left.protect_rtp(rtp(n)) for n in range(65530, 65546)}
    for number, packet in sent.items():
        if number not in (65535, 65536):  # 65535 and 0 are lost
            assert right.unprotect_rtp(packet) == rtp(number)


@pytest.mark.parametrize("profile", PROFILES)
def test_sequence_number_wraps_with_reordering(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    sent = {n: left.protect_rtp(rtp(n)) for n in range(65530, 65546)}
    for number in (65530, 65533, 65536, 65534, 65537, 65531, 65535, 65540, 65532, 65538):
        assert right.unprotect_rtp(sent[number]) == rtp(number)
    assert refusal(right, sent[65535]) == "replay"


@pytest.mark.parametrize("profile", PROFILES)
def test_stream_survives_several_rollovers(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    for number in range(1, 4 * 65536, 20000):
        assert right.unprotect_rtp(left.protect_rtp(rtp(number))) == rtp(number)


@pytest.mark.parametrize("profile", PROFILES)
def test_stream_joined_after_a_rollover_fails_authentication(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    for number in (65000, 65535, 65536):
        packet = left.protect_rtp(rtp(number))
    assert refusal(right, packet) == "authentication"


@pytest.mark.parametrize("profile", PROFILES)
def test_ssrcs_are_capped(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    for ssrc in range(1, 9):
        right.unprotect_rtp(left.protect_rtp(rtp(1, ssrc)))
    assert refusal(right, left.protect_rtp(rtp(1, 9))) == "ssrc-limit"
    assert refusal(right, left.protect_rtcp(rtcp(9)), is_rtcp=True) == "ssrc-limit"
    assert right.unprotect_rtp(left.protect_rtp(rtp(2, 8))) == rtp(2, 8)
    assert right.unprotect_rtcp(left.protect_rtcp(rtcp(1))) == rtcp(1)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_flood_of_forged_ssrcs_takes_no_place(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    template = left.protect_rtp(rtp(1, 1))
    for ssrc in range(1000, 3000):
        assert refusal(right, template[:8] + ssrc.to_bytes(4) + template[12:]) == "authentication"
    for ssrc in range(1, 9):
        assert right.unprotect_rtp(left.protect_rtp(rtp(5, ssrc))) == rtp(5, ssrc)


@pytest.mark.parametrize("profile", PROFILES)
def test_lengths_are_checked_before_libsrtp(profile: SrtpProfile) -> None:
    left, right = pair(profile)
    assert refusal(right, b"") == "too-short"
    assert refusal(right, bytes(11)) == "too-short"
    assert refusal(right, bytes(1501)) == "too-long"
    assert refusal(right, b"", is_rtcp=True) == "too-short"
    assert refusal(right, bytes(7), is_rtcp=True) == "too-short"
    assert refusal(right, bytes(1501), is_rtcp=True) == "too-long"
    longest = rtp(1, payload=bytes(1356 - 12))
    assert right.unprotect_rtp(left.protect_rtp(longest)) == longest
    for protect, size in ((left.protect_rtp, 1357), (left.protect_rtcp, 1353)):
        with pytest.raises(SrtpError) as caught:
            protect(bytes(size))
        assert caught.value.reason == "too-long"


@pytest.mark.parametrize("profile", PROFILES)
def test_sequence_number_is_not_used_twice(profile: SrtpProfile) -> None:
    left, _ = pair(profile)
    left.protect_rtp(rtp(1))
    with pytest.raises(SrtpError) as caught:
        left.protect_rtp(rtp(1, payload=b"other"))
    assert caught.value.reason == "replay"


def test_ends_with_different_profiles_do_not_understand_each_other() -> None:
    left, _ = pair(SrtpProfile.AEAD_AES_128_GCM)
    _, right = pair(SrtpProfile.AES128_CM_HMAC_SHA1_80)
    assert refusal(right, left.protect_rtp(rtp(1))) == "authentication"
