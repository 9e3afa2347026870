"""Where the appliance is reached: what it tells of that when it is ready, and in its status."""

import logging
import socket
from collections.abc import Iterable, Sequence
from typing import Self

from attrs import frozen

from edge.config import Config
from edge.sockets import Sockets, name_of

logger = logging.getLogger(__name__)


@frozen
class Addresses:
    """All as ``host:port``."""

    udp: list[str]
    tcp: list[str]
    signaling: list[str]
    metrics: list[str]

    @classmethod
    def of(cls, sockets: Sockets, metrics_listeners: Sequence[socket.socket]) -> Self:
        """Return those that are bound. The sockets of one place stand for all."""
        return cls(
            udp=_names(sockets.public[0]),
            tcp=_names(sockets.relay_listeners[0]),
            signaling=[name for group in sockets.listeners[:1] for name in _names(group)],
            metrics=_names(metrics_listeners),
        )

    def announce(self, config: Config) -> None:
        """Log them, as what is used there."""
        secure = "s" if config.signal.tls_certificate is not None else ""
        for name in self.udp:
            logger.info("media on udp %s", name)
        for name in self.tcp:
            logger.info("media on tcp %s", name)
        for name in self.signaling:
            logger.info("signaling on ws%s://%s%s", secure, name, config.signal.path)
            if config.signal.serves_page:
                logger.info("page on http%s://%s/", secure, name)
        for name in self.metrics:
            logger.info("metrics on http://%s/metrics", name)


def _names(bound: Iterable[socket.socket]) -> list[str]:
    return [name_of(one) for one in bound]
