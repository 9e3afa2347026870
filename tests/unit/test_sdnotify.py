"""What the service manager is told and keeps: our end of its socket against a real one."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge.sdnotify import ServiceManager

PROCESS = 4711


@pytest.fixture
def other_end(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.settimeout(1)
        yield bound


Make = Callable[..., ServiceManager]


@pytest.fixture
def manager_of(other_end: socket.socket) -> Iterator[Make]:
    """Return what makes our end, for a process with more in its environment."""
    with ExitStack() as undo:

        def make(**environment: str) -> ServiceManager:
            made = ServiceManager.of(
                {"NOTIFY_SOCKET": other_end.getsockname(), **environment}, PROCESS
            )
            undo.callback(made.close)
            return made

        yield make


def test_states_are_lines(other_end: socket.socket, manager_of: Make) -> None:
    manager_of().tell(STATUS="3 sessions", WATCHDOG=1)
    assert other_end.recv(100) == b"STATUS=3 sessions\nWATCHDOG=1"


def test_descriptor_to_keep_travels_with_its_name(
    other_end: socket.socket, manager_of: Make
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        manager_of().keep("udp-0-127.0.0.1-3478", udp.fileno())
        text, fds, _, _ = socket.recv_fds(other_end, 100, 4)
        assert text == b"FDSTORE=1\nFDNAME=udp-0-127.0.0.1-3478\nFDPOLL=0"
        with socket.socket(fileno=fds[0]) as kept:
            assert kept.getsockname() == udp.getsockname()


def test_kept_descriptors_are_taken_once_and_the_rest_forgotten(
    other_end: socket.socket, manager_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = os.pipe()
    monkeypatch.setattr("edge.sdnotify.FIRST_KEPT_FD", min(first, second))
    assert second == first + 1
    os.set_inheritable(first, True)
    environment = {"LISTEN_PID": str(PROCESS), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "one:two"}
    manager = manager_of(**environment)
    assert manager.take("one") == first
    assert manager.take("one") is None
    assert not os.get_inheritable(first)
    manager.forget_untaken()
    assert other_end.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=two"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(second)
    os.close(first)


def test_what_is_for_another_process_is_not_ours(manager_of: Make) -> None:
    manager = manager_of(
        LISTEN_PID="1",
        LISTEN_FDS="1",
        LISTEN_FDNAMES="one",
        WATCHDOG_PID="1",
        WATCHDOG_USEC="1000000",
    )
    assert manager.take("one") is None
    assert manager.watchdog is None


def test_watchdog_time_is_in_seconds(manager_of: Make) -> None:
    watched = manager_of(WATCHDOG_PID=str(PROCESS), WATCHDOG_USEC="1500000")
    assert watched.watchdog == 1.5
    assert manager_of().watchdog is None


def test_without_a_service_manager_nothing_happens() -> None:
    alone = ServiceManager.of({}, PROCESS)
    alone.tell(READY=1)
    alone.keep("one", 0)
    assert alone.take("one") is None


def test_what_a_predecessor_has_left_is_all_that_was_kept() -> None:
    with open(os.devnull) as left:  # noqa: PTH123 - a descriptor is wanted
        environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "former"}
        manager = ServiceManager.of(environment, 1, {"ours": left.fileno()})
        assert manager.has("ours")
        assert not manager.has("former")
        assert manager.take("ours") == left.fileno()
        assert not manager.has("ours")
