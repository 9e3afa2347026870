"""What is said of sessions that went wrong, each of them really going wrong; and of good ones."""

import re
from collections.abc import Callable

import pytest
from attrs import evolve

from edge.dtls.context import DtlsContexts
from edge.dtls.keying import Role
from edge.ice import stun
from edge.ice.credentials import Credentials
from edge.rtp.packet import RtpPacket, encode_rtp
from edge.signal.messages import Bye, ByeReason, Verdict
from edge.srtp.profile import PREFERENCE
from edge.transceiver.reports import reports
from edge.transceiver.session import Ended, EndReason
from edge.transceiver.verdict import PATIENCE, judge, sentence, summary
from tests.support.calls import CLIENT, IDENTITIES, Call, make_call
from tests.support.link import Path
from tests.support.peer import Connected
from tests.support.stun_messages import CONTROLLED, PRIORITY, seal

DTLS = range(20, 64)
MEDIA = range(128, 192)


def without(first_bytes: range) -> Path:
    """A network that drops every datagram that begins so."""
    return Path(alter=lambda data: [] if data[0] in first_bytes else [data])


def end(call: Call, seconds: float = 60.0) -> Ended:
    """Let time pass until the session ends by itself."""
    events = call.link.right.events
    assert call.link.run(lambda: any(isinstance(each, Ended) for each in events), deadline=seconds)
    return next(each for each in events if isinstance(each, Ended))


def hang_up(call: Call, reason: EndReason = EndReason.CLIENT_BYE) -> Ended:
    call.session.end(reason, call.link.now)
    return end(call, call.link.now)


def started(call: Call, seconds: float = 0.0) -> Call:
    call.peer.start(0.0)
    call.link.run(lambda: False, deadline=seconds)
    return call


def verdict(ended: Ended) -> Verdict:
    """Judge, and look whether everything that is said of it fits."""
    found = judge(ended.reason, ended.statistics)
    *_, bye = reports(ended, 1.0)
    assert isinstance(bye, Bye)
    assert bye.verdict is found
    if found not in {Verdict.OK, Verdict.GAVE_UP}:
        assert bye.message == sentence(found)
    assert summary(ended.reason, ended.statistics).startswith(f"verdict={found} reason=")
    return found


def test_a_call_with_media_is_ok_whoever_ends_it_in_order() -> None:
    for reason in (EndReason.CLIENT_BYE, EndReason.BACKEND_ENDED, EndReason.TIME_LIMIT):
        assert verdict(hang_up(started(make_call(), 6.0), reason)) is Verdict.OK
    call = started(make_call(), 1.0)
    call.peer.close(call.link.now)
    assert verdict(end(call)) is Verdict.OK


def test_no_check() -> None:
    assert verdict(end(make_call())) is Verdict.NO_CHECK


def test_checks_with_a_wrong_password() -> None:
    call = make_call()
    call.peer._remote = Credentials("serverufrag", "w" * 32)
    assert verdict(end(started(call))) is Verdict.CHECKS_NOT_AUTHENTIC


def test_checks_of_a_controlled_agent() -> None:
    username = (stun.USERNAME, b"serverufrag:clientufrag")
    check = seal([username, PRIORITY, CONTROLLED], "s" * 32)
    call = make_call(path=Path(alter=lambda data: [check] if data[:2] == b"\x00\x01" else [data]))
    assert verdict(end(started(call))) is Verdict.CHECKS_REFUSED


@pytest.mark.parametrize("role", Role)
def test_checks_but_no_dtls(role: Role) -> None:
    assert verdict(end(started(make_call(role=role, path=without(DTLS))))) is Verdict.NO_DTLS


def test_a_handshake_that_does_not_end() -> None:
    call = make_call(role=Role.SERVER)
    call.link._backward = without(DTLS)
    assert verdict(end(started(call))) is Verdict.DTLS_INCOMPLETE


@pytest.mark.parametrize("role", Role)
def test_another_certificate(role: Role) -> None:
    call = started(make_call(role=role, client_identity=IDENTITIES[2]))
    assert verdict(end(call)) is Verdict.FINGERPRINT_MISMATCH


def test_no_common_srtp_profile() -> None:
    ours, theirs = PREFERENCE
    call = make_call(role=Role.SERVER, profiles=(theirs,))
    call.session._dtls._context = DtlsContexts(IDENTITIES[0], (ours,)).of(Role.SERVER)
    assert verdict(end(started(call))) is Verdict.NO_SRTP_PROFILE


def test_keys_but_no_media() -> None:
    call = started(make_call(frames=0), PATIENCE + 1)
    assert verdict(hang_up(call)) is Verdict.NO_MEDIA
    vanished = started(make_call(path=without(MEDIA)), 10.0)
    vanished.peer._closed = True
    assert verdict(end(vanished)) is Verdict.NO_MEDIA


def test_a_client_that_announced_no_media_owes_none() -> None:
    call = started(make_call(frames=0), PATIENCE + 1)
    call.session._media_expected = False
    assert verdict(hang_up(call)) is Verdict.OK


def test_media_that_is_not_as_agreed_on() -> None:
    call = started(make_call(frames=0), PATIENCE + 1)
    assert Connected() in call.link.left.events
    assert call.peer.srtp is not None
    stranger = encode_rtp(RtpPacket(96, False, 1, 1, 77, b"x"))
    call.session.receive_datagram(call.peer.srtp.protect_rtp(stranger), CLIENT, call.link.now)
    assert verdict(hang_up(call)) is Verdict.MEDIA_REFUSED


def test_media_and_then_silence() -> None:
    call = started(make_call(), 5.0)
    call.peer._closed = True
    assert verdict(end(call)) is Verdict.CONSENT_LOST


def test_lost_signaling() -> None:
    call = started(make_call(), 5.0)
    assert verdict(hang_up(call, EndReason.CLIENT_GONE)) is Verdict.SIGNALING_LOST


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (EndReason.BACKEND_REFUSED, Verdict.BACKEND_REFUSED),
        (EndReason.BACKEND_LOST, Verdict.BACKEND_LOST),
        (EndReason.CRASHED, Verdict.INTERNAL),
    ],
)
def test_what_is_not_the_clients_fault(reason: EndReason, expected: Verdict) -> None:
    assert verdict(hang_up(started(make_call(), 3.0), reason)) is expected
    assert judge(EndReason.CRASHED, None) is Verdict.INTERNAL
    assert summary(EndReason.CRASHED, None) == "verdict=internal reason=crashed"


SETUPS: dict[Verdict, Callable[[], Call]] = {
    Verdict.NO_CHECK: make_call,
    Verdict.NO_DTLS: lambda: started(make_call(path=without(DTLS))),
    Verdict.NO_MEDIA: lambda: started(make_call(frames=0)),
}


@pytest.mark.parametrize("expected", SETUPS)
def test_who_waits_and_leaves_has_met_the_same_trouble(expected: Verdict) -> None:
    patient, hasty = SETUPS[expected](), SETUPS[expected]()
    patient.link.run(lambda: False, deadline=PATIENCE + 0.1)
    hasty.link.run(lambda: False, deadline=PATIENCE - 0.1)
    assert verdict(hang_up(patient)) is expected
    assert verdict(hang_up(hasty)) is Verdict.GAVE_UP


def test_every_end_has_a_reason_and_a_sentence_for_the_client() -> None:
    call = started(make_call(), 6.0)
    statistics = hang_up(call).statistics
    assert statistics is not None
    for reason in EndReason:
        for seen in (statistics, evolve(statistics, layers={}), None):
            *_, bye = reports(Ended(reason, seen), 1.0)
            assert isinstance(bye, Bye)
            assert bye.message
            assert (bye.reason is ByeReason.INTERNAL) == (reason is EndReason.CRASHED)
    assert all(sentence(each) for each in Verdict)


def test_the_line_for_the_log() -> None:
    call = started(make_call(path=Path(delay=0.02)), 8.0)
    fresh = Credentials("freshserverufrag", "f" * 32)
    call.session.restart_ice(fresh, call.link.now)
    call.peer.restart(Credentials("freshclient", "g" * 32), fresh, call.link.now)
    call.link.run(lambda: False, deadline=12.0)
    ended = hang_up(call)
    line = summary(ended.reason, ended.statistics)
    pairs = dict(pair.split("=") for pair in line.split(" "))
    assert list(pairs) == [
        "verdict",
        "reason",
        "duration",
        "ice_ms",
        "dtls_ms",
        "media_ms",
        "received",
        "lost",
        "jitter_ms",
        "sent",
        "restarts",
    ]
    assert (pairs["verdict"], pairs["reason"], pairs["lost"]) == ("ok", "client-bye", "0")
    assert (pairs["duration"], pairs["restarts"]) == ("12.0", "1")
    assert int(pairs["received"]) > 550
    assert not re.search(r"192\.0\.2|ufrag|40000", line), "no address, no credentials"
