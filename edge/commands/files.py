"""The files that a configuration names and workers read: whether they would be taken."""

from pathlib import Path

from edge.config import Config


def check_files(config: Config) -> None:
    """Look at the certificate and the database of positions, if there are any.

    Raises:
        ConfigError: one cannot be used; the text names the file and says why.

    """
    # Most configurations name neither, and are checked without what reads them.
    certificate, key = config.signal.tls_certificate, config.signal.tls_key
    if certificate is not None and key is not None:
        from edge.signal.tls import TlsIdentity  # noqa: PLC0415

        TlsIdentity(Path(certificate), Path(key))
    if config.steering.database is not None:
        from edge.steering.database import check_database  # noqa: PLC0415

        check_database(Path(config.steering.database))
