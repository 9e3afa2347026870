"""Versions of the program beside each other, as a package has them: ``current`` leads to one."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import edge
from tests.support.appliance import Appliance, attended, write_config

SCRIPT = """#!{python}
import os, sys
os.environ["PYTHONPATH"] = {folder!r}
sys.path.insert(0, {folder!r})
if __name__ == "__main__":
    {before}
    from edge.cli import main
    sys.exit(main())
"""


class Versions:
    """Programs in a directory. What runs is ``current``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.current = directory / "current"

    def install(self, version: str, before: str = "pass") -> None:
        """Make a version the current one. ``before`` is Python to run before the program."""
        folder = self._directory / version
        if not folder.exists():
            source = Path(edge.__file__).parent
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / "edge", ignore=ignored)
            shutil.copytree(source.parent / "web", folder / "web")
            (folder / "edge" / "__init__.py").write_text(f'__version__ = "{version}"\n')
        program = folder / "edge-program"
        program.write_text(SCRIPT.format(python=sys.executable, folder=str(folder), before=before))
        program.chmod(0o755)
        link = self._directory / ".current"
        link.symlink_to(program)
        link.rename(self.current)


@asynccontextmanager
async def running_version(
    versions: Versions, directory: Path, environment: Mapping[str, str] | None = None, **config: Any
) -> AsyncIterator[Appliance]:
    """Start the current version. The keyword arguments are those of ``write_config``."""
    path = write_config(directory, **config)
    process = await trio.lowlevel.open_process(
        [str(versions.current), "run", "--config", str(path)],
        stderr=subprocess.PIPE,
        cwd=directory,  # whatever lies in the working directory would be imported first
        env={**os.environ, **(environment or {})},
    )
    async with attended(process, directory) as appliance:
        yield appliance
