"""What a transceiver worker has of files: read when it starts, and again by order."""

import logging
from collections import Counter
from pathlib import Path

from edge.errors import BootError, ConfigError
from edge.signal.tls import TlsIdentity
from edge.steering.database import NOWHERE, PositionDatabase
from edge.steering.visitor import Whereabouts

logger = logging.getLogger(__name__)


class WorkerFiles:
    """The certificate of signaling and the database of positions, where there are any."""

    def __init__(
        self, tls: tuple[Path, Path] | None, positions: Path | None, *, restarted: bool = False
    ) -> None:
        """Read certificate and key, and the database.

        A worker that is ``restarted`` in a running service does without a database that cannot be
        used: its calls matter more than where they are placed.

        Raises:
            BootError: one cannot be used, and is needed.

        """
        self._path = positions
        self._positions: PositionDatabase | None = None
        self._missed = 0
        try:
            self.tls = TlsIdentity(*tls) if tls is not None else None
        except ConfigError as exc:
            raise BootError(str(exc)) from exc
        try:
            self._read_positions()
        except ConfigError as exc:
            if not restarted:
                raise BootError(str(exc)) from exc
            logger.error("going on without positions: %s", exc)  # noqa: TRY400 - told in full

    @property
    def drops(self) -> Counter[str]:
        """Look-ups that the database has failed, by reason."""
        damaged = self._positions.damaged if self._positions is not None else 0
        return +Counter({"database-missing": self._missed, "database-damaged": damaged})

    def find(self, address: str) -> Whereabouts:
        """Return where an address is, as far as the database that there should be knows."""
        if self._positions is None:
            self._missed += 1
            return NOWHERE
        return self._positions.find(address)

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
        if self._path is None:
            return
        try:
            self._read_positions()
        except ConfigError as exc:
            logger.error("the former positions stay: %s", exc)  # noqa: TRY400 - told in full
        else:
            logger.info("the database of positions was read again")

    def _read_positions(self) -> None:
        """Raises ConfigError: nothing has changed."""
        if self._positions is not None:
            self._positions.reload()
        elif self._path is not None:
            self._positions = PositionDatabase(self._path)
