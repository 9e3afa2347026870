"""Our own end of NOTIFY_SOCKET: what a service tells its manager."""

import socket
from pathlib import Path

import trio
from attrs import define, field


@define
class FakeServiceManager:
    """Takes notifications."""

    path: Path
    said: list[dict[str, str]] = field(factory=list)
    """Each message's assignments."""

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path)}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            await listener.bind(str(self.path))
            task_status.started()
            while True:
                data = await listener.recv(65_536)
                lines = data.decode().splitlines()
                self.said.append(dict(line.split("=", 1) for line in lines))

    def has_said(self, **assignments: str) -> int:
        """Count the messages with these assignments."""
        return sum(assignments.items() <= each.items() for each in self.said)
