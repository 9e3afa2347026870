"""Packages from sources: on this host, or as a host of another release builds them."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import frozen

from tests.install.machine import file_tree, is_foreign

BUILD = Path("scripts", "make-deb")
SETUP = Path("scripts", "setup")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ENTER = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
PATHS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


@frozen
class Package:
    """A package of ours. ``version`` is as dpkg has it, ``program`` as the program has."""

    path: Path
    version: str
    program: str


def build(sources: Sequence[Path], folder: Path) -> list[Package]:
    """Build a package of each, for the release that machines have, into folders of its own."""
    if is_foreign():
        return _build_abroad(sources, folder)
    folders = [folder / str(number) for number, _ in enumerate(sources)]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_build, sources, folders))


def _build(source: Path, folder: Path) -> Package:
    return _package(_run([source / BUILD, folder]))


def _build_abroad(sources: Sequence[Path], folder: Path) -> list[Package]:
    """Build in a copy of the file tree. Its network, and settings of pip's, are this host's."""
    root = folder / "root"
    environment = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    subprocess.run(["cp", "--archive", file_tree(), root], check=True)
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, root / "certificates")
        environment["PIP_CERT"] = "/certificates"
    packages = []
    try:
        for number, source in enumerate(sources):
            at = Path("/", f"source-{number}")
            ignored = shutil.ignore_patterns(".*", "build", "dist", "artifacts", "__pycache__")
            shutil.copytree(source, root / at.relative_to("/"), ignore=ignored)
            _run(_inside(root, at / SETUP), environment | PATHS)
            built = _package(_run(_inside(root, at / BUILD), environment | PATHS))
            kept = folder / str(number) / built.path.name
            kept.parent.mkdir()
            shutil.copy(root / at.relative_to("/") / built.path, kept)
            packages.append(_package(str(kept)))
    finally:
        shutil.rmtree(root)
    return packages


def _inside(root: Path, command: Path) -> list[Path | str]:
    """Return what runs a command in a root, with mounts that nobody else sees."""
    return ["unshare", "--mount", "sh", "-c", ENTER, root, command]


def _run(command: Sequence[Path | str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        pytest.fail(f"{command[-1]}: {done.stderr}")
    return done.stdout


def _package(output: str) -> Package:
    path = Path(output.splitlines()[-1])
    version = path.name.split("_")[1]
    return Package(path, version, version.rpartition("-")[0])
