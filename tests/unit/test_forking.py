"""Requests to the forkserver that fail: it goes on after that error, and nothing is left open."""

import errno
import os
import socket
from multiprocessing import reduction

import pytest

from edge.supervision.forking import Requests

LIMIT = 16


def no_process() -> int:
    raise BlockingIOError(errno.EAGAIN, "no more processes")


def test_a_client_that_leaves_without_a_word() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(ConnectionAbortedError) as failed:
            Requests(reduction.recvfds, no_process).receive(ours, LIMIT)
    assert failed.value.errno == errno.ECONNABORTED


def test_no_process_to_be_had() -> None:
    ours, theirs = socket.socketpair()
    kept, sent = os.pipe()
    with ours, theirs:
        requests = Requests(reduction.recvfds, no_process)
        reduction.sendfds(theirs, [sent])
        os.close(sent)
        received = requests.receive(ours, LIMIT)
        assert len(received) == 1
        with pytest.raises(ConnectionAbortedError) as failed:
            requests.fork()
        assert failed.value.errno == errno.ECONNABORTED
    assert os.read(kept, 1) == b"", "whoever asked sees that nobody is there"
    os.close(kept)
