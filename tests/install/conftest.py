"""Two packages for all stories, and a machine for each."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.builder import Package, build
from tests.install.machine import REPOSITORY, Machine
from tests.install.service import configure, good_config, wait_active

MEMORY = "/dev/shm"
DISK_BYTES = 1 << 30
SOURCES = (
    *("edge", "web", "config", "packaging", "scripts", "systemd", "docs"),
    *("pyproject.toml", "requirements.lock", "requirements-build.lock", "README.md", "LICENSE"),
)
"""What a package is made of."""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, Package]:
    """Build the package, and the one that it is upgraded to."""
    sources = REPOSITORY, _next_version(tmp_path_factory.mktemp("source"))
    first, second = build(sources, tmp_path_factory.mktemp("packages"))
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


def _next_version(folder: Path) -> Path:
    """Copy what a package is made of, as of the next version."""
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    init = folder / "edge" / "__init__.py"
    init.write_text(re.sub(r'__version__ = "(.*)"', r'__version__ = "\1.post1"', init.read_text()))
    return folder
