"""What a transceiver worker has of files: read when it starts, and again by order."""

import logging
from pathlib import Path

from edge.errors import BootError, ConfigError
from edge.signal.tls import TlsIdentity
from edge.steering.database import PositionDatabase

logger = logging.getLogger(__name__)


class WorkerFiles:
    """The certificate of signaling and the database of positions, where there are any."""

    def __init__(self, tls: tuple[Path, Path] | None, positions: Path | None) -> None:
        """Read certificate and key, and the database.

        Raises:
            BootError: one cannot be used.

        """
        try:
            self.tls = TlsIdentity(*tls) if tls is not None else None
            self.positions = PositionDatabase(positions) if positions is not None else None
        except ConfigError as exc:
            raise BootError(str(exc)) from exc

    def reload_certificate(self) -> None:
        """Read it again. One that cannot be used is logged; the former one stays."""
        if self.tls is None:
            return
        try:
            self.tls.reload()
        except ConfigError as exc:
            logger.error("the former certificate stays: %s", exc)  # noqa: TRY400 - told in full
        else:
            logger.info("the certificate was read again")

    def reload_positions(self) -> None:
        """Read the database again. One that cannot be used is logged; the former one stays."""
        if self.positions is None:
            return
        try:
            self.positions.reload()
        except ConfigError as exc:
            logger.error("the former positions stay: %s", exc)  # noqa: TRY400 - told in full
        else:
            logger.info("the database of positions was read again")
