"""Files of a running service that break: the operator is told, and no call notices."""

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from edge.control.status import Status
from edge.process import EX_CONFIG
from tests.integration.test_access_wiring import post as post_over_tls
from tests.integration.test_commands import edge
from tests.integration.test_doors_access import trusting, write_certificate
from tests.integration.test_geo_steering import IN_FRANKFURT, TRUSTED, post
from tests.support.appliance import Appliance, running_appliance, wait_status, write_config
from tests.support.caller import LiveCall, calling, make_offer, new_credentials
from tests.support.positions import FRANKFURT, write_positions

JUNK = b"<html>401</html>"
AT_ONCE = "drain_limit = 0"


def replace(path: Path, content: bytes | None) -> None:
    """Put another file in its place, or nothing."""
    if content is None:
        path.unlink()
        return
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    fresh.chmod(0o600)
    fresh.rename(path)


def with_database(path: Path) -> str:
    """Write a database and return the table that names it."""
    write_positions(path, {"192.0.2.0/24": FRANKFURT})
    return f'[steering]\ndatabase = "{path}"'


async def run_edge(*arguments: str) -> tuple[int, str]:
    """Run a command to its end; return its exit status and its errors."""
    command = [sys.executable, "-m", "edge", *arguments]
    with trio.fail_after(60):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
    return done.returncode, done.stderr.decode()


async def assert_refused(directory: Path, name: str) -> None:
    """A check and a reload fail, and say which file it is."""
    status, errors = await run_edge("check-config", str(directory / "edge.toml"))
    assert (status, name in errors) == (EX_CONFIG, True), errors
    status, _, errors = await edge(directory, "reload")
    assert (status, name in errors) == (75, True), errors


async def kill_transceiver(appliance: Appliance, index: int) -> None:
    pid = (await appliance.workers("transceiver"))[index].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def assert_echo_goes_on(call: LiveCall) -> None:
    record = call.peer.record
    wanted = record.echoed + 50
    with trio.fail_after(15):
        while record.echoed < wanted:
            await trio.sleep(0.05)


def without_database(status: Status) -> int:
    """Return how many look-ups of all workers had no database."""
    found = [one.statistics for one in status.workers if one.kind == "transceiver"]
    return sum(one.drops.get("database-missing", 0) for one in found if one is not None)


@pytest.mark.parametrize("content", [JUNK, None])
async def test_a_worker_goes_on_without_positions(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "positions.mmdb"
    table = with_database(path)
    good = path.read_bytes()
    async with running_appliance(tmp_path, signal=TRUSTED, more=table) as appliance:
        origin = await appliance.origin()
        async with calling(origin) as call:
            await call.wait_echo(10)
            replace(path, content)
            await assert_refused(tmp_path, "positions.mmdb")
            await kill_transceiver(appliance, 1 - int(call.session.split(".")[1]))
            await appliance.wait_line("without positions: .*positions.mmdb", 20)
            await appliance.wait_line("worker transceiver-. is back", 20)
            await assert_echo_goes_on(call)
            with trio.fail_after(20):  # until an offer has come to that worker
                while without_database(await appliance.status()) == 0:
                    assert (await post(origin, IN_FRANKFURT))[0] == 201
            replace(path, good)
            assert (await edge(tmp_path, "reload"))[0] == 0
            for worker in (0, 1):
                await appliance.wait_line(f"transceiver-{worker}: the database of positions was")
            await assert_echo_goes_on(call)
    assert appliance.process.returncode == 0


@pytest.mark.parametrize("content", [JUNK, None])
async def test_a_worker_without_its_certificate_is_started_until_it_is_there(
    tmp_path: Path, content: bytes | None
) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    certificate, key = write_certificate(folder)
    context = trusting(certificate)
    context.check_hostname = False  # the certificate is for a name, and the appliance has none here
    good = key.read_bytes()
    tls = f'tls_certificate = "{certificate}"\ntls_key = "{key}"'
    async with running_appliance(tmp_path, signal=tls, supervisor=AT_ONCE) as appliance:
        other = (await appliance.workers("transceiver"))[1].pid
        replace(key, content)
        await assert_refused(tmp_path, "key.pem")
        await kill_transceiver(appliance, 0)
        for attempt in ("0.1", "0.2"):
            await appliance.wait_line(f"transceiver-0 .*key.pem.* again in {attempt} s", 20)
        states = [(one.state, one.pid) for one in await appliance.workers("transceiver")]
        assert states[1] == ("running", other)
        replace(key, good)
        await wait_status(appliance, lambda now: all(o.state == "running" for o in now.workers), 30)
        url = f"https://{await appliance.origin()}/v1/realtime/calls"
        for _ in range(8):
            body = make_offer(new_credentials())
            reply = await post_over_tls(url, body, context, Content_Type="application/sdp")
            assert reply.status == 201
        assert (await appliance.workers("transceiver"))[1].pid == other
    assert appliance.process.returncode == 0


async def test_a_service_does_not_begin_with_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "positions.mmdb"
    table = with_database(path)
    replace(path, JUNK)
    config = write_config(tmp_path, more=table)
    status, errors = await run_edge("run", "--config", str(config))
    assert status == EX_CONFIG
    assert "positions.mmdb: not a usable database" in errors
