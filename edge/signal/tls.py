"""The server's certificate, for TLS on the signaling port. It can be replaced under running calls.

Connections keep the context that they began with, so a new certificate is for new ones.
"""

import ssl
import stat
from pathlib import Path

from edge.errors import ConfigError

ALPN = "http/1.1"


class TlsIdentity:
    """Certificate chain and private key, from two PEM files.

    Raises:
        ConfigError: they cannot be used; the text names the file and says why.

    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.context = _load(certificate, key)
        """For connections from now on."""

    def reload(self) -> None:
        """Read the files again.

        Raises:
            ConfigError: they cannot be used; the former certificate stays.

        """
        self.context = _load(self._certificate, self._key)


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    _check_mode(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    # Workers do not share ticket keys: resumption would fail as often as it would work.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    try:
        # The password keeps OpenSSL from asking at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as exc:
        reason = (exc.reason or "unknown reason").lower().replace("_", " ")
        raise ConfigError(f"{certificate} and {key} cannot be used for TLS: {reason}") from exc
    except OSError as exc:
        name = exc.filename or f"{certificate} or {key}"
        raise ConfigError(f"{name}: {exc.strerror}") from exc
    return context


def _check_mode(key: Path) -> None:
    """Refuse a key that everybody can read. A group may: certificate tools have one for it."""
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError as exc:
        raise ConfigError(f"{key}: {exc.strerror}") from exc
    if mode & stat.S_IRWXO:
        raise ConfigError(f"{key}: mode {mode:04o} lets everybody at the key; chmod 640 it")
