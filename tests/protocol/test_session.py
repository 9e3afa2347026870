"""A whole session against a whole client, over good, bad and hostile networks."""

import random

import pytest

from edge.dtls.keying import Role
from edge.errors import SrtpError
from edge.machine import Address
from edge.rtp.extensions import encode_extensions
from edge.rtp.packet import RtpPacket, encode_rtp
from edge.rtp.rtcp import Goodbye, SenderReport, SourceDescription
from edge.srtp.profile import SrtpProfile
from edge.transceiver.session import AddressValidated, Ended, EndReason, Layer, LayerUp
from tests.support.calls import CLIENT, IDENTITIES, SERVER, Call, make_call
from tests.support.link import Path
from tests.support.peer import PAYLOAD_TYPE, Failed, ServerClosed

LOSSY = Path(loss=0.25, delay=0.02, jitter=0.01)


def ended(call: Call) -> EndReason | None:
    return next((e.reason for e in call.link.right.events if isinstance(e, Ended)), None)


def layers(call: Call) -> list[Layer]:
    return [event.layer for event in call.link.right.events if isinstance(event, LayerUp)]


def run_to_media(call: Call) -> None:
    assert call.link.run(lambda: call.peer.record.echoed >= 1, deadline=15.0)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("profile", SrtpProfile)
def test_layers_come_up_in_order_and_every_frame_is_echoed(
    role: Role, profile: SrtpProfile
) -> None:
    call = make_call(role=role, profiles=(profile,), frames=100)
    call.peer.start(0.0)
    call.link.run(lambda: call.peer.record.echoed == 100, deadline=10.0)
    record = call.peer.record
    assert layers(call) == [Layer.ICE, Layer.DTLS, Layer.MEDIA]
    assert AddressValidated(CLIENT) in call.link.right.events
    assert record.echoed == record.sent == 100
    assert len(record.ssrcs) == 1
    assert record.ssrcs != {call.peer.ssrc}
    first = record.sequence_numbers[0]
    assert record.sequence_numbers == [(first + n) & 0xFFFF for n in range(100)]
    assert call.session.statistics().rtp.packets_received == 100


def test_server_as_dtls_client_saves_a_round_trip() -> None:
    times = {}
    for role in Role:
        call = make_call(role=role, path=Path(delay=0.05))
        call.peer.start(0.0)
        run_to_media(call)
        assert call.peer.record.first_echo_at is not None
        times[role] = call.peer.record.first_echo_at
    assert times[Role.CLIENT] == pytest.approx(times[Role.SERVER] - 0.1, abs=0.02)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("seed", range(20))
def test_a_quarter_of_all_packets_lost_in_the_handshake(role: Role, seed: int) -> None:
    call = make_call(role=role, seed=seed, path=LOSSY)
    call.peer.start(0.0)
    run_to_media(call)
    assert layers(call) == [Layer.ICE, Layer.DTLS, Layer.MEDIA]


def test_reports_carry_true_figures_both_ways() -> None:
    call = make_call(path=Path(delay=0.03))
    call.peer.start(0.0)
    call.link.run(lambda: False, deadline=8.0)
    reports = [packet for packet in call.peer.record.rtcp if isinstance(packet, SenderReport)]
    assert len(reports) >= 2
    latest = reports[-1]
    assert {latest.ssrc} == call.peer.record.ssrcs
    (block,) = latest.blocks
    assert block.ssrc == call.peer.ssrc
    assert block.packets_lost == 0
    assert block.fraction_lost == 0
    assert latest.packet_count > 250
    descriptions = [p for p in call.peer.record.rtcp if isinstance(p, SourceDescription)]
    assert descriptions[-1].cnames == ((latest.ssrc, b"cname"),)


def test_no_check_ends_the_session_with_ices_name() -> None:
    call = make_call()
    call.link.run(lambda: ended(call) is not None, deadline=60.0)
    assert ended(call) is EndReason.ICE_TIMEOUT
    assert call.link.now == pytest.approx(15.0)


def test_checks_without_dtls_end_it_with_dtlss_name() -> None:
    call = make_call(
        role=Role.SERVER,
        path=Path(alter=lambda data: [] if 20 <= data[0] <= 63 else [data]),
    )
    call.peer.start(0.0)
    call.link.run(lambda: ended(call) is not None, deadline=60.0)
    assert ended(call) is EndReason.DTLS_TIMEOUT


@pytest.mark.parametrize("role", Role)
def test_another_certificate_ends_it_before_any_media(role: Role) -> None:
    call = make_call(role=role, client_identity=IDENTITIES[2])
    call.peer.start(0.0)
    call.link.run(lambda: ended(call) is not None, deadline=20.0)
    assert ended(call) is EndReason.FINGERPRINT_MISMATCH
    assert layers(call) == [Layer.ICE]
    assert call.peer.record.echoed == 0


def test_silence_ends_it_and_nothing_more_is_sent() -> None:
    call = make_call(frames=10)
    call.peer.start(0.0)
    run_to_media(call)
    call.link.left.address = Address("192.0.2.99", 1)  # the client has vanished
    call.peer._closed = True
    sent_before_end = call.link.counts["sent"]
    call.link.run(lambda: ended(call) is not None, deadline=60.0)
    assert ended(call) is EndReason.CONSENT_LOST
    assert call.link.now == pytest.approx(30.0, abs=1.5)
    assert call.session.next_datagram() is None
    assert call.link.counts["sent"] > sent_before_end, "reports went on until then"


def test_the_end_is_told_on_every_layer() -> None:
    call = make_call()
    call.peer.start(0.0)
    run_to_media(call)
    call.session.end(EndReason.CLIENT_BYE, call.link.now)
    call.session.end(EndReason.CRASHED, call.link.now)
    call.link.run(lambda: False, deadline=call.link.now + 1.0)
    assert ended(call) is EndReason.CLIENT_BYE
    assert ServerClosed("bye") in call.link.left.events
    assert ServerClosed("close_notify") in call.link.left.events
    assert any(isinstance(packet, Goodbye) for packet in call.peer.record.rtcp)


def test_close_notify_of_the_client_ends_it() -> None:
    call = make_call()
    call.peer.start(0.0)
    run_to_media(call)
    call.peer.close(call.link.now)
    call.link.run(lambda: ended(call) is not None, deadline=call.link.now + 1.0)
    assert ended(call) is EndReason.PEER_CLOSED


def test_nothing_from_an_unvalidated_address_is_taken() -> None:
    call = make_call()
    call.peer.start(0.0)
    run_to_media(call)
    stranger = Address("203.0.113.9", 9)
    assert call.peer.srtp is not None
    valid_media = call.peer.srtp.protect_rtp(
        encode_rtp(RtpPacket(PAYLOAD_TYPE, False, 9999, 0, call.peer.ssrc, bytes(16)))
    )
    for data in (valid_media, b"\x80\xc8" + bytes(40), b"\x16\xfe\xfd" + bytes(40)):
        call.session.receive_datagram(data, stranger, call.link.now)
    drops = call.session.statistics().drops
    assert drops["media-unvalidated-address"] == 2
    assert drops["dtls-unvalidated-address"] == 1
    assert call.session.statistics().ice.selected == CLIENT


def test_media_before_keys_and_damaged_media_touch_nothing() -> None:
    call = make_call()
    call.session.receive_datagram(b"\x80\x6f" + bytes(40), CLIENT, 0.0)
    assert call.session.drops["media-before-keys"] == 1
    call.peer.start(0.0)
    run_to_media(call)
    before = call.session.statistics().rtp
    call.session.receive_datagram(b"\x80\x6f" + bytes(40), CLIENT, call.link.now)
    call.session.receive_datagram(b"\x80\xc9" + bytes(40), CLIENT, call.link.now)
    call.session.receive_datagram(b"\xff" + bytes(40), CLIENT, call.link.now)
    assert call.session.statistics().rtp == before
    assert call.session.drops["authentication"] == 2
    assert call.session.drops["unknown-protocol"] == 1


def test_replayed_media_is_not_echoed_twice() -> None:
    copies: list[bytes] = []

    def keep(data: bytes) -> list[bytes]:
        if data[0] == 0x80 and data[1] & 0x7F == PAYLOAD_TYPE:
            copies.append(data)
        return [data]

    call = make_call(path=Path(alter=keep), frames=5)
    call.peer.start(0.0)
    call.link.run(lambda: call.peer.record.echoed == 5, deadline=10.0)
    for data in copies:
        call.link.inject(data, CLIENT, SERVER)
    call.link.run(lambda: False, deadline=call.link.now + 1.0)
    assert call.peer.record.echoed == 5
    assert call.session.drops["replay"] >= 5


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (RtpPacket(96, False, 1, 1, 77, b"x"), "rtp-unknown-payload-type"),
        (
            RtpPacket(PAYLOAD_TYPE, False, 1, 1, 78, b"x", encode_extensions({4: b"video"})),
            "rtp-unknown-mid",
        ),
        (
            RtpPacket(PAYLOAD_TYPE, False, 1, 1, 79, b"x", (0xBEDE, b"\x4f\x00\x00\x00")),
            "rtp-extension-element",
        ),
    ],
)
def test_media_that_was_not_negotiated_is_dropped(packet: RtpPacket, reason: str) -> None:
    call = make_call()
    call.peer.start(0.0)
    run_to_media(call)
    assert call.peer.srtp is not None
    data = call.peer.srtp.protect_rtp(encode_rtp(packet))
    call.session.receive_datagram(data, CLIENT, call.link.now)
    assert call.session.drops[reason] == 1


def test_a_client_that_moves_keeps_its_call() -> None:
    call = make_call()
    call.peer.start(0.0)
    call.link.run(lambda: call.peer.record.echoed >= 50, deadline=10.0)
    moved = Address("192.0.2.200", 5)
    call.link.left.address = moved
    call.peer.record.longest_gap = 0.0
    moved_at = call.link.now
    echoed = call.peer.record.echoed
    call.link.run(lambda: call.peer.record.echoed >= echoed + 100, deadline=moved_at + 10.0)
    assert call.session.statistics().ice.selected == moved
    assert call.peer.record.longest_gap <= 2.6, "one check interval of the client"


def test_a_stolen_check_does_not_move_the_media() -> None:
    checks: list[bytes] = []

    def keep(data: bytes) -> list[bytes]:
        if data[0] == 0:
            checks.append(data)
        return [data]

    call = make_call(path=Path(alter=keep))
    call.peer.start(0.0)
    run_to_media(call)
    thief = Address("203.0.113.66", 6)
    for check in checks:
        call.session.receive_datagram(check, thief, call.link.now)
    assert call.session.statistics().ice.selected == CLIENT
    assert call.session.statistics().drops["replayed"] >= 1


def test_the_client_hears_of_a_failed_handshake() -> None:
    call = make_call(role=Role.SERVER, client_identity=IDENTITIES[2])
    call.peer.start(0.0)
    call.link.run(lambda: ended(call) is not None, deadline=20.0)
    call.link.run(lambda: False, deadline=call.link.now + 1)
    assert not any(isinstance(event, Failed) for event in call.link.left.events)
    assert ServerClosed("close_notify") in call.link.left.events


def test_srtp_that_cannot_be_sent_is_counted() -> None:
    call = make_call()
    call.peer.start(0.0)
    run_to_media(call)
    assert call.peer.srtp is not None
    longest = RtpPacket(PAYLOAD_TYPE, False, 60_000, 0, 91, bytes(1344))
    with pytest.raises(SrtpError):
        call.peer.srtp.protect_rtp(encode_rtp(longest._replace(payload=bytes(1345))))
    session_srtp = call.session._srtp
    assert session_srtp is not None
    call.session._send_rtp(session_srtp, bytes(2000), call.link.now)
    assert call.session.drops["send-too-long"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_never_raise(seed: int) -> None:
    source = random.Random(seed)
    call = make_call(seed=seed)
    call.peer.start(0.0)
    run_to_media(call)
    for _ in range(2000):
        data = source.randbytes(source.randrange(0, 200))
        call.session.receive_datagram(data, CLIENT, call.link.now)
    call.link.run(lambda: False, deadline=call.link.now + 0.5)
    assert ended(call) is None
