"""The driver and a session's ufrags: those that a restart adds, retires, and that come too late."""

import logging

import pytest
from attrs import evolve

from edge.ice.agent import OVERLAP, RESTART_TIMEOUT
from edge.ice.credentials import Credentials
from edge.transceiver.session import EndReason, SessionLimits
from edge.transceiver.ufrags import GIVEN_UP_MAX
from tests.integration.test_driver import Client, Rig, client, drain, make_rig

FRESH = Credentials("freshserverufrag", "f" * 32)
NEWER = Credentials("newerserverufrag", "n" * 32)


def with_credentials(one: Client, server: Credentials) -> Client:
    return evolve(one, server=server)


def is_answered(rig: Rig, one: Client, now: float) -> bool:
    drain(one.socket)
    rig.feed(one.check(), client(one), now=now)
    return one.answered()


def test_checks_of_a_restart_find_their_session_beside_the_old_ones() -> None:
    with make_rig() as rig:
        one = rig.add()
        assert is_answered(rig, one, 1.0)
        rig.driver.restart_ice(one.driven, FRESH, 3, 2.0)
        assert rig.driver.sessions_by_key() == {0: 1, 3: 1}
        assert len(rig.driver) == 1
        assert is_answered(rig, one, 2.1)
        assert is_answered(rig, with_credentials(one, FRESH), 2.2)
        assert one.driven.session.statistics().ice.restarts == 1

        rig.driver.fire(2.2 + OVERLAP)
        assert rig.driver.sessions_by_key() == {3: 1}
        assert not is_answered(rig, one, 8.0)
        assert rig.driver.drops == {"unknown-session": 1}
        assert is_answered(rig, with_credentials(one, FRESH), 8.1)


def test_a_failed_restart_leaves_the_old_ufrag_alone() -> None:
    with make_rig() as rig:
        one = rig.add(limits=SessionLimits(setup_timeout=60.0, consent_timeout=30.0))
        for now in range(0, int(RESTART_TIMEOUT) + 1, 5):
            assert is_answered(rig, one, float(now))
            if not now:
                rig.driver.restart_ice(one.driven, FRESH, 3, 0.0)
        rig.driver.fire(RESTART_TIMEOUT)
        assert rig.driver.sessions_by_key() == {0: 1}
        assert not is_answered(rig, with_credentials(one, FRESH), 31.0)
        assert is_answered(rig, one, 31.1)


def test_all_ufrags_of_a_session_end_with_it() -> None:
    with make_rig() as rig:
        one, other = rig.add(), rig.add()
        assert is_answered(rig, one, 1.0)
        rig.driver.restart_ice(one.driven, FRESH, 3, 2.0)
        rig.driver.restart_ice(one.driven, NEWER, 3, 2.1)
        rig.driver.end(one.driven, EndReason.CLIENT_BYE, 3.0)
        assert rig.driver._ufrags._sessions == {other.server.ufrag.encode(): other.driven}
        assert len(rig.driver) == 1
        rig.driver.restart_ice(one.driven, FRESH, 3, 4.0)
        assert rig.driver._ufrags._sessions == {other.server.ufrag.encode(): other.driven}


def test_a_first_check_that_comes_too_late_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with make_rig() as rig:
        one = rig.add()
        rig.driver.fire(15.0)
        assert rig.driver.ended == {"ice-timeout": 1}
        assert rig.driver.verdicts == {"no-check": 1}
        assert not is_answered(rig, one, 16.0)
        assert not is_answered(rig, one, 17.0)
        assert rig.driver.drops == {"ufrag-expired": 1, "unknown-session": 1}
    assert caplog.text.count("session s0: its first check came after it had been given up") == 1
    assert "session s0 ended: verdict=no-check reason=ice-timeout duration=15.0" in caplog.text


def test_sessions_without_a_check_are_remembered_up_to_a_limit() -> None:
    with make_rig() as rig:
        for number in range(GIVEN_UP_MAX + 10):
            rig.driver._ufrags._note_given_up(b"%d" % number, f"s{number}")
        assert len(rig.driver._ufrags._given_up) == GIVEN_UP_MAX
        assert b"9" not in rig.driver._ufrags._given_up
        assert b"10" in rig.driver._ufrags._given_up


def test_verdicts_are_counted() -> None:
    with make_rig() as rig:
        for reason in (EndReason.CLIENT_BYE, EndReason.BACKEND_LOST, EndReason.BACKEND_LOST):
            rig.driver.end(rig.add().driven, reason, 1.0)
        assert rig.driver.verdicts == {"gave-up": 1, "backend-lost": 2}
        assert rig.driver.ended == {"client-bye": 1, "backend-lost": 2}
