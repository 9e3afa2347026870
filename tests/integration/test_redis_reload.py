"""A host that is alone, with a Redis of its own, and with another one after a reload."""

import signal
from pathlib import Path

import trio

from edge.control.statistics import RelayStatistics
from edge.control.status import Status
from edge.operate.status_text import render_status
from tests.support.appliance import running_appliance, wait_status
from tests.support.caller import calling
from tests.support.redis_server import RedisServer, redis_server


def table(server: RedisServer, password_file: Path) -> str:
    return (
        f'[redis]\naddresses = ["{server.host}:{server.port}"]\n'
        f'password_file = "{password_file}"\nprefix = "one:"\n'
    )


def connected_to(server: RedisServer, status: Status) -> bool:
    known = [each.statistics for each in status.workers]
    relays = [each.redis for each in known if isinstance(each, RelayStatistics)]
    name = f"{server.host}:{server.port}"
    return all(each is not None and each.server == name for each in relays)


async def test_another_redis_is_taken_under_a_running_call(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("very-secret\n")
    password.chmod(0o600)
    protected = ("requirepass very-secret",)
    with (
        redis_server(tmp_path / "first", *protected, password="very-secret") as first,
        redis_server(tmp_path / "second", *protected, password="very-secret") as second,
    ):
        async with running_appliance(
            tmp_path,
            relays=1,
            transceivers=1,
            relay="flow_generation = 1.0",
            more=table(first, password),
        ) as appliance:
            await wait_status(appliance, lambda found: connected_to(first, found))
            async with calling(await appliance.origin()) as call:
                await call.wait_echo(50)
                assert first.ask("DBSIZE") == 1
                config = tmp_path / "edge.toml"
                config.write_text(
                    config.read_text().replace(f":{first.port}", f":{second.port}", 1)
                )
                appliance.process.send_signal(signal.SIGHUP)
                await wait_status(appliance, lambda found: connected_to(second, found))
                with trio.fail_after(10):
                    while second.ask("DBSIZE") != 1:
                        await trio.sleep(0.1)
                sent = call.peer.record.sent
                await call.wait_echo(sent - 5)
                assert call.peer.record.longest_gap < 1.0
            with trio.fail_after(10):
                while second.ask("DBSIZE") != 0:
                    await trio.sleep(0.1)
            text = render_status(await appliance.status())
            assert f"redis      up for 1 of 1 relay workers, at 127.0.0.1:{second.port}" in text
            assert "very-secret" not in "\n".join(appliance.lines)
