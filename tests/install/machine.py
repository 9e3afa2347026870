"""A throw-away Debian machine: its own systemd as PID 1, its own disk, network and control groups.

Nothing of the host is used but its kernel and its package mirror: no virtualization, no container
engine, no systemd of the host's. The file tree is made once by debootstrap, for the release that
this runs on or the one that ``$SUITE`` names, and kept in ``build/``; each machine writes to an
overlay of its own, or to a copy where the kernel has no overlays. A veth pair leads to it. Needs
root, debootstrap, and a kernel with namespaces and cgroup2.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define, field

REPOSITORY = Path(__file__).parents[2]
TREES = REPOSITORY / "build" / "machines"
GROUPS = Path("/run/edge-test-groups")
SCRIPTS = Path("/usr/share/debootstrap/scripts")
BOOT = Path(__file__).with_name("boot.sh")
PACKAGES = "systemd,systemd-sysv,dbus,libnss-systemd,python3,libopus0,iproute2,procps"
"""What the machine has before ours is installed: an operator's minimal host, and its dependencies,
since nothing can be downloaded from inside."""

BOOT_TIME = 30.0
POWER_OFF_TIME = 90.0
COMMAND_TIME = 60.0
_LIMITED = ("setpriv", "--bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog")
_SHELL = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "cat",
    "DEBIAN_FRONTEND": "noninteractive",
}


class MachineError(Exception):
    """The machine, or a command in it, failed; the message has what was written."""


@define
class Machine:
    """One machine. ``address`` is its own on the link, ``host_address`` ours."""

    state: Path
    name: str = field(factory=lambda: f"edge-{os.getpid()}")
    network: str = field(factory=lambda: f"10.124.{os.getpid() % 250}")
    _outer: subprocess.Popen[bytes] | None = None
    _init: int = 0

    @property
    def address(self) -> str:
        return f"{self.network}.2"

    @property
    def host_address(self) -> str:
        return f"{self.network}.1"

    def boot(self) -> None:
        """Start it, with the disk that it had, and wait until it is up."""
        tree = file_tree()
        self.state.mkdir(parents=True, exist_ok=True)
        group = _groups() / self.name
        group.mkdir(exist_ok=True)
        environment = {"LOWER": str(tree), "STATE": str(self.state), "NAME": self.name}
        command = (
            *("sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(group)),
            *("setpriv", "--pdeathsig", "KILL"),  # whatever ends us
            *("unshare", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--fork"),
            *("--kill-child", "sh", str(BOOT)),
        )
        with (self.state / "console").open("wb") as console:
            outer = self._outer = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        deadline = time.monotonic() + BOOT_TIME
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        while not (found := children.read_text().split() if outer.poll() is None else []):
            self._go_on(deadline, "did not start")
        self._init = int(found[0])
        self._connect()
        while self._system_state() not in {"running", "degraded"}:
            self._go_on(deadline, "did not boot")

    def run(
        self, *command: str, check: bool = True, timeout: float = COMMAND_TIME
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root.

        Raises:
            MachineError: it failed, and ``check`` was asked for.

        """
        done = subprocess.run(
            [*self._inside(), "env", "-i", *(f"{k}={v}" for k, v in _SHELL.items()), *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            start_new_session=True,
        )
        if check and done.returncode != 0:
            raise MachineError(
                f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def write(self, path: str, text: str) -> None:
        """Write a file in it, by way of its shell, so that ownership and links are its own."""
        self.put(path, text.encode())

    def put(self, path: str, content: bytes) -> None:
        subprocess.run(
            [*self._inside(), "sh", "-c", f'mkdir -p "$(dirname {path})"; cat >{path}'],
            input=content,
            check=True,
        )

    def property(self, name: str, unit: str = "edge.service") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def journal(self, **fields: str) -> str:
        """Return the messages of our unit's that have such fields."""
        matches = [f"{name}={value}" for name, value in fields.items()]
        whole = ("journalctl", "--unit", "edge.service", "--output", "cat", "--no-pager")
        return self.run(*whole, *matches).stdout

    def processes(self, pattern: str) -> list[int]:
        """Return the processes in it whose command line has the pattern, oldest first."""
        found = self.run("pgrep", "--full", pattern, check=False).stdout
        return [int(each) for each in found.split()]

    def power_off(self) -> None:
        """Shut it down in order; the disk stays."""
        os.kill(self._init, signal.SIGRTMIN + 3)
        self._clean(POWER_OFF_TIME)

    def remove(self) -> None:
        """Cut its power and wipe its disk."""
        if self._outer is not None:
            with suppress(ProcessLookupError):
                os.kill(self._init or self._outer.pid, signal.SIGKILL)
            self._clean(BOOT_TIME)
        shutil.rmtree(self.state, ignore_errors=True)

    def _inside(self) -> Sequence[str]:
        """Return what enters its namespaces, and its own control group, not our tests'."""
        return (
            *("sh", "-c", 'echo $$ >"$0/init.scope/cgroup.procs"; exec "$@"'),
            *(str(_groups() / self.name), "nsenter", "--target", str(self._init)),
            *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", *_LIMITED),
        )

    def _system_state(self) -> str:
        try:
            return self.run("systemctl", "is-system-running", check=False).stdout.strip()
        except subprocess.TimeoutExpired:
            return "unknown"

    def _connect(self) -> None:
        """Lead a veth pair into it."""
        outer = f"ve{os.getpid()}"
        _ip("link", "add", outer, "type", "veth", "peer", "name", "host0", "netns", str(self._init))
        _ip("address", "add", f"{self.host_address}/24", "dev", outer)
        _ip("link", "set", outer, "up")
        for command in (
            ("address", "add", f"{self.address}/24", "dev", "host0"),
            ("link", "set", "host0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", self.host_address),
        ):
            _ip_inside(self._init, *command)

    def _go_on(self, deadline: float, failure: str) -> None:
        if time.monotonic() > deadline:
            console = (self.state / "console").read_text(errors="replace")
            raise MachineError(f"the machine {failure} in time\n{console}")
        time.sleep(0.02)

    def _clean(self, timeout: float) -> None:
        """Wait for its end, and take away what it had of this host."""
        assert self._outer is not None
        self._outer.wait(timeout)
        self._outer, self._init = None, 0
        subprocess.run(
            ["ip", "link", "delete", f"ve{os.getpid()}"], check=False, capture_output=True
        )
        group = _groups() / self.name
        for _ in range(50):
            for one in sorted(group.rglob("*/"), key=lambda path: -len(path.parts)):
                with suppress(OSError):
                    one.rmdir()
            with suppress(OSError):
                group.rmdir()
            if not group.exists():
                return
            time.sleep(0.1)


def file_tree() -> Path:
    """Return the file tree that machines start from; make it if it is not there yet."""
    if os.geteuid() != 0:
        pytest.fail("this test boots a machine: run it as root")
    tree = TREES / suite()
    made_from = tree / ".made-from"
    if made_from.exists() and made_from.read_text() == PACKAGES:
        return tree
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    done = subprocess.run(
        [
            *("debootstrap", "--variant=minbase", f"--include={PACKAGES}"),
            *(suite(), str(tree), _mirror(), *_script()),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.fail(f"debootstrap: {done.stdout[-1000:]}{done.stderr}")
    for archive in (tree / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    (tree / "etc/machine-id").write_text("")
    made_from.write_text(PACKAGES)
    return tree


def suite() -> str:
    """Return the release that machines have."""
    return os.environ.get("SUITE") or _release()["VERSION_CODENAME"]


def is_foreign() -> bool:
    """Whether that is another one than this host's."""
    return suite() != _release()["VERSION_CODENAME"]


def _script() -> Sequence[str]:
    """Return how debootstrap makes a release that is younger than itself: as the youngest."""
    return () if (SCRIPTS / suite()).exists() else (str(SCRIPTS / "sid"),)


def _release() -> Mapping[str, str]:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _mirror() -> str:
    """Return where this host gets the main part of its release from."""
    codename = _release()["VERSION_CODENAME"]
    found = subprocess.run(
        [
            *("apt-get", "indextargets", "--format", "$(REPO_URI)"),
            *("Component: main", "Identifier: Packages", f"Codename: {codename}"),
        ],
        check=False,
        capture_output=True,
        text=True,
    ).stdout.split()
    if not found:
        pytest.fail("apt-get names no mirror of this release")
    return found[0]


def _groups() -> Path:
    """Return the cgroup2 hierarchy: the whole one, the hybrid layout's second one, or our own."""
    for path in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), GROUPS):
        if (path / "cgroup.controllers").exists():
            return path
    GROUPS.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "cgroup2", "cgroup2", str(GROUPS)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.fail(f"no machine can boot here without control groups: {done.stderr}")
    return GROUPS


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise MachineError(f"ip {' '.join(arguments)}: {done.stderr}")


def _ip_inside(process: int, *arguments: str) -> None:
    subprocess.run(["nsenter", "--target", str(process), "--net", "ip", *arguments], check=True)
