"""Real Redis servers and Sentinels, each a process of its own that a test may kill or stop."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from attrs import define, field

from edge.redis.resp import Argument, Replies, Reply, encode_command

START_TIME = 15.0


@define(eq=False)
class RedisServer:
    """One server, or Sentinel. It keeps its port over its lives."""

    directory: Path
    lines: tuple[str, ...]
    """Of its configuration."""
    sentinel: bool = False
    tls: bool = False
    host: str = "127.0.0.1"
    password: str | None = None
    """With which ``ask`` asks."""
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.port = self.port or free_port(self.host)
        ports: tuple[str, ...] = (f"port {self.port}",)
        if self.tls:
            ports = ("port 0", f"tls-port {self.port}", "tls-auth-clients no")
        config = self.directory / "redis.conf"
        text = "\n".join(
            (*ports, f"bind {self.host}", f"dir {self.directory}", 'save ""', *self.lines)
        )
        config.write_text(f"{text}\n")
        more = ["--sentinel"] if self.sentinel else []
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", config, *more], stdout=log)
        self._await(lambda: self.is_listening)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Let it be, but deaf: its port takes connections and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *arguments: Argument) -> Reply:
        """Send one command on a connection of its own; error replies are returned as they are."""
        with socket.create_connection(self.address, timeout=5) as connection:
            replies, got = Replies(), list[Reply]()
            if self.password is not None:
                connection.sendall(encode_command("AUTH", self.password))
                while not got:
                    got += replies.receive(connection.recv(65_536))
                got.clear()
            connection.sendall(encode_command(*arguments))
            while not got:
                got += replies.receive(connection.recv(65_536))
            return got[0]

    @property
    def is_listening(self) -> bool:
        try:
            socket.create_connection(self.address, timeout=1).close()
        except OSError:
            return False
        return True

    def _await(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + START_TIME
        while not ready():
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.01)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody has now."""
    with closing(socket.create_server((host, 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def redis_server(
    directory: Path,
    *lines: str,
    sentinel: bool = False,
    tls: bool = False,
    host: str = "127.0.0.1",
    password: str | None = None,
) -> Iterator[RedisServer]:
    """Run a server with these lines of configuration."""
    server = RedisServer(directory, lines, sentinel, tls, host, password)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@define
class Certificates:
    """An authority's own certificate, and a server's that it has signed."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def redis_lines(self) -> tuple[str, ...]:
        return (
            f"tls-cert-file {self.certificate}",
            f"tls-key-file {self.key}",
            f"tls-ca-cert-file {self.ca}",
        )


def make_certificates(directory: Path, name: str) -> Certificates:
    """Make an authority, and a certificate for a server of that name."""
    directory.mkdir(exist_ok=True)
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    request, extensions = directory / "server.csr", directory / "server.ext"
    made = Certificates(ca, directory / "server.pem", directory / "server.key")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    extensions.write_text(f"subjectAltName=DNS:{name}\n")
    for command in (
        ["req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-subj", "/CN=test authority",
         "-addext", "keyUsage=critical,keyCertSign"],
        ["req", *new_key, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}"],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-out", made.certificate,
         "-extfile", extensions, "-days", "2"],
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return made
