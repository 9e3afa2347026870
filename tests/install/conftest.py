"""One machine and two packages for the whole story."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.machine import REPOSITORY, Machine


@pytest.fixture(scope="module")
def packages() -> tuple[Path, Path]:
    """Build the package, and the one that it is upgraded to."""
    first, second = (_build(revision) for revision in (1, 2))
    return first, second


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Boot a machine that has never seen us; leave nothing of it."""
    one = Machine(tmp_path_factory.mktemp("machine"))
    try:
        one.boot()
        yield one
    finally:
        one.remove()


def _build(revision: int) -> Path:
    done = subprocess.run(
        [REPOSITORY / "scripts" / "make-deb"],
        env={**os.environ, "REVISION": str(revision)},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.fail(f"make deb: {done.stderr}")
    return REPOSITORY / done.stdout.splitlines()[-1]
