"""Standard output, as commands write it: all of it, or an error that says so."""

import io
import os
import sys
from typing import TextIO

from edge.errors import EdgeError


class OutputError(EdgeError):
    """What a command has to say cannot be written."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"standard output: {reason}")


def prepare_output() -> None:
    """Have characters that the terminal's encoding lacks written as escapes.

    Raises:
        OutputError: standard output is closed.

    """
    if sys.stdout is None:
        raise OutputError("it is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Write a text.

    Raises:
        OutputError: it cannot be written.
        BrokenPipeError: nobody reads any more.

    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OutputError(exc.strerror or str(exc)) from exc


def discard(stream: TextIO | None) -> None:
    """Have what waits in a stream go nowhere, so that the interpreter's end does not fail on it."""
    if stream is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
