"""Two packages for all stories, and a machine for each."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from attrs import frozen

from tests.install.machine import REPOSITORY, Machine
from tests.install.service import configure, good_config, wait_active

MEMORY = "/dev/shm"
DISK_BYTES = 1 << 30


@frozen
class Package:
    """A package of ours. ``version`` is as dpkg has it."""

    path: Path
    version: str


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, Package]:
    """Build the package, and the one that it is upgraded to."""
    build = partial(_build, tmp_path_factory.mktemp("packages"))
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(build, (1, 2))
    return first, second


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Boot a machine that has never seen us; leave nothing of it."""
    one = Machine(_disk(tmp_path_factory))
    try:
        one.boot()
        yield one
    finally:
        one.remove()


@pytest.fixture(scope="module")
def host(machine: Machine, packages: tuple[Package, Package]) -> Machine:
    """A machine whose operator has installed the first package, and lets the world in."""
    machine.put("/root/edge.deb", packages[0].path.read_bytes())
    machine.run("dpkg", "--install", "/root/edge.deb")
    configure(machine, good_config(machine))
    machine.run("systemctl", "restart", "edge")
    wait_active(machine)
    return machine


def _disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for a machine's disk: in memory, where thousands of files go in no time."""
    try:
        free = shutil.disk_usage(MEMORY).free
    except OSError:
        free = 0
    if free < DISK_BYTES:
        return tmp_path_factory.mktemp("machine")
    return Path(tempfile.mkdtemp(prefix="edge-machine-", dir=MEMORY))


def _build(folder: Path, revision: int) -> Package:
    done = subprocess.run(
        [REPOSITORY / "scripts" / "make-deb", folder / str(revision)],
        env={**os.environ, "REVISION": str(revision)},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.fail(f"make deb: {done.stderr}")
    path = Path(done.stdout.splitlines()[-1])
    return Package(path, path.name.split("_")[1])
