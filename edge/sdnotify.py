"""The service manager (sd_notify(3), sd_listen_fds(3)): states, watchdog, kept descriptors.

Without a service manager everything here does nothing. A message that it does not take is lost:
each is sent again by itself, or only a courtesy.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

FIRST_KEPT_FD = 3
"""SD_LISTEN_FDS_START."""


class ServiceManager:
    """Our end of NOTIFY_SOCKET, and what was kept for us while we were away."""

    def __init__(
        self, address: str | None, kept: Mapping[str, int], watchdog: float | None
    ) -> None:
        self.watchdog = watchdog
        """Seconds within which it wants a sign of life; None: never."""
        self._kept = dict(kept)
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
            self._socket.connect(f"\0{address[1:]}" if address[0] == "@" else address)

    @classmethod
    def of(
        cls,
        environment: Mapping[str, str],
        process: int,
        inherited: Mapping[str, int] | None = None,
    ) -> "ServiceManager":
        """Return the one that started this ``process``.

        ``inherited`` is what a predecessor under the same process id has left: all that it kept.
        """
        watchdog = None
        if environment.get("WATCHDOG_PID", str(process)) == str(process):
            watchdog = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 or None
        kept: dict[str, int] = dict(inherited or {})
        if inherited is None and environment.get("LISTEN_PID") == str(process):
            names = environment.get("LISTEN_FDNAMES", "").split(":")
            for fd, name in enumerate(names[: int(environment["LISTEN_FDS"])], FIRST_KEPT_FD):
                os.set_inheritable(fd, False)  # noqa: FBT003 - the library's signature
                kept[name] = fd
        return cls(environment.get("NOTIFY_SOCKET"), kept, watchdog)

    def tell(self, **fields: str | int) -> None:
        """Send assignments, such as ``READY=1``."""
        self._send(fields, [])

    def keep(self, name: str, fd: int) -> None:
        """Have a duplicate of a descriptor kept until ``forget``, whatever becomes of us."""
        self._send({"FDSTORE": 1, "FDNAME": name, "FDPOLL": 0}, [fd])

    def has(self, name: str) -> bool:
        """Whether ``take`` would return a descriptor."""
        return name in self._kept

    def kept_names(self) -> tuple[str, ...]:
        """Return the names of all that nobody has taken yet."""
        return tuple(self._kept)

    def take(self, name: str) -> int | None:
        """Return the descriptor that was kept under this name, once. It is the caller's now."""
        return self._kept.pop(name, None)

    def forget(self, name: str) -> None:
        """Have a kept descriptor closed."""
        self.tell(FDSTOREREMOVE=1, FDNAME=name)

    def forget_untaken(self) -> None:
        """Have all closed that nobody took: a socket that nobody reads swallows packets."""
        while self._kept:
            name, fd = self._kept.popitem()
            os.close(fd)
            self.forget(name)

    def close(self) -> None:
        """Say nothing more; what is kept stays kept."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, fields: Mapping[str, str | int], fds: list[int]) -> None:
        if self._socket is None:
            return
        text = "\n".join(f"{key}={value}" for key, value in fields.items())
        with suppress(OSError):
            socket.send_fds(self._socket, [text.encode()], fds)
