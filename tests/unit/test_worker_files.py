"""What a transceiver worker has of files, at its first start and at later ones."""

import logging
from pathlib import Path

import pytest

from edge.errors import BootError
from edge.steering.database import NOWHERE
from edge.transceiver.files import WorkerFiles
from tests.support.positions import FRANKFURT, write_positions


def test_a_first_start_needs_the_database(tmp_path: Path) -> None:
    with pytest.raises(BootError, match=r"none\.mmdb: not a usable database of positions: No such"):
        WorkerFiles(None, tmp_path / "none.mmdb")


def test_a_restart_does_without_it_until_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "city.mmdb"
    path.write_bytes(b"<html>401</html>")
    files = WorkerFiles(None, path, restarted=True)
    assert "going on without positions" in caplog.text
    assert files.find("192.0.2.1") == NOWHERE
    files.reload_positions()
    assert files.find("192.0.2.1") == NOWHERE
    assert files.drops == {"database-missing": 2}
    path.unlink()
    write_positions(path, {"192.0.2.0/24": FRANKFURT})
    with caplog.at_level(logging.INFO):
        files.reload_positions()
    assert "was read again" in caplog.text
    assert files.find("192.0.2.1").country == "DE"
    assert files.drops == {"database-missing": 2}


def test_a_restart_does_not_do_without_the_certificate(tmp_path: Path) -> None:
    tls = tmp_path / "none.pem", tmp_path / "none.key"
    with pytest.raises(BootError, match=r"none\.key"):
        WorkerFiles(tls, None, restarted=True)


def test_damaged_entries_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    write_positions(path, {"192.0.2.0/24": FRANKFURT})
    content = bytearray(path.read_bytes())
    content[content.index(b"iso_code") - 1] = 0x0F  # a type that there is not
    path.write_bytes(content)
    files = WorkerFiles(None, path)
    assert not files.drops
    assert files.find("192.0.2.1") == NOWHERE
    assert files.drops == {"database-damaged": 1}


def test_without_files_there_is_nothing_to_read() -> None:
    files = WorkerFiles(None, None)
    files.reload_certificate()
    files.reload_positions()
    assert not files.drops
