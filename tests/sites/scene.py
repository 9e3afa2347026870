"""Three sites of one fleet, on an emulated internet: two clusters, and a site that only relays.

| site | hosts | holds |
| --- | --- | --- |
| frankfurt | fra | cluster 1, a relay address |
| newyork | nyc | cluster 2, a relay address |
| singapore | sgp, and spare without an address of its own | relays only |
| frankfurt | redis | a Redis server, if the scene has one |
| singapore | client | callers |

The name that clients call for signaling leads to fra, until it is moved.
"""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from attrs import define, field

from edge.control.status import Status
from tests.support.appliance import Appliance, attended, wait_status
from tests.support.internet import Internet, Link, internet
from tests.support.netns import Namespace
from tests.support.positions import place_record, write_positions

RELAY_ADDRESSES = {"fra": "198.51.100.1", "nyc": "198.51.100.2", "sgp": "198.51.100.3"}
INTERNAL = {
    "fra": "10.77.1.1",
    "nyc": "10.77.2.1",
    "sgp": "10.77.3.1",
    "spare": "10.77.3.2",
    "redis": "10.77.4.1",
    "client": "203.0.113.7",
}
SIGNALING_NAME = "198.51.100.9"
"""Stands for a host name: an address that both clusters have."""
PORT = 3478
SIGNALING_PORT = 8080
REDIS_PORT = 6379
REDIS_AT = f"{INTERNAL['redis']}:{REDIS_PORT}"

LINKS = {
    ("client", "sgp"): Link(0.002),
    ("client", "spare"): Link(0.002),
    ("client", "fra"): Link(0.080),
    ("client", "nyc"): Link(0.110),
    ("sgp", "fra"): Link(0.075, 0.001),
    ("spare", "fra"): Link(0.075, 0.001),
    ("sgp", "nyc"): Link(0.105, 0.001),
    ("spare", "nyc"): Link(0.105, 0.001),
    ("fra", "nyc"): Link(0.040),
    ("sgp", "redis"): Link(0.001),
    ("spare", "redis"): Link(0.001),
    ("fra", "redis"): Link(0.075),
    ("nyc", "redis"): Link(0.105),
}
"""Seconds one way, roughly those of cables; Redis has a replica's place, near the relays."""

FLEET = """
[fleet]
host = "{host}"
steering = "{steering}"

[sites.frankfurt]
region = "eu-central"
latitude = 50.1
longitude = 8.7
relays = ["198.51.100.1:3478"]

[sites.newyork]
region = "us-east"
latitude = 40.7
longitude = -74.0
relays = ["198.51.100.2:3478"]

[sites.singapore]
region = "ap-southeast"
latitude = 1.35
longitude = 103.8
relays = ["198.51.100.3:3478"]

[clusters.fra]
id = 1
site = "frankfurt"
signaling = "ws://10.77.1.1:8080/v1/session"

[clusters.nyc]
id = 2
site = "newyork"
signaling = "ws://10.77.2.1:8080/v1/session"

[hosts.fra]
site = "frankfurt"
cluster = "fra"
internal = "10.77.1.1"

[hosts.nyc]
site = "newyork"
cluster = "nyc"
internal = "10.77.2.1"

[hosts.sgp]
site = "singapore"
internal = "10.77.3.1"

[hosts.spare]
site = "singapore"
internal = "10.77.3.2"
"""

KEYS = """
[keys]
routing = {routing}
password = "{password}"
fleet = {fleet}
"""
ROUTING = ({"id": 1, "key": "0f" * 16}, {"id": 2, "key": "1e" * 16})
FLEET_KEYS = ({"id": 1, "key": "2d" * 32}, {"id": 2, "key": "3c" * 32})
PASSWORD = "4b" * 32

COMMON = """
[relay]
workers = 1
listen = ["{relay}:3478"]
pin_cores = false

[transceiver]
workers = {transceivers}
on_time_min = 0.0

[signal]
listen = {signaling}
page = "on"
grace = {grace}

[supervisor]
state_directory = "{directory}"
heartbeat_interval = 0.1
heartbeat_limit = 5.0
drain_limit = 1.0

[access]
open = "on"
origins = ["*"]

[metrics]
listen = []
"""


@define
class Scene:
    """The running fleet."""

    net: Internet
    directory: Path
    steering: str
    grace: float
    more: str
    """Further tables of every host's configuration."""
    _undo: AsyncExitStack
    appliances: dict[str, Appliance] = field(factory=dict)
    routing: tuple[dict[str, object], ...] = ROUTING[:1]
    fleet_keys: tuple[dict[str, object], ...] = FLEET_KEYS[:1]
    _redis: trio.Process | None = None

    def host(self, name: str) -> Namespace:
        return self.net.hosts[name]

    def origin(self, cluster: str) -> str:
        """Return where a cluster's signaling is."""
        return f"{INTERNAL[cluster]}:{SIGNALING_PORT}"

    def url(self, address: str) -> str:
        """Return the WebSocket URL of signaling at an address."""
        return f"ws://{address}:{SIGNALING_PORT}/v1/session"

    def configure(self, name: str) -> Path:
        """Write a host's configuration as it is to be now."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        relays_only = name in {"sgp", "spare"}
        signaling = [INTERNAL[name]] if relays_only else [INTERNAL[name], SIGNALING_NAME]
        text = COMMON.format(
            relay=RELAY_ADDRESSES["sgp" if name == "spare" else name],
            transceivers=0 if relays_only else 1,
            signaling=json.dumps([f"{each}:{SIGNALING_PORT}" for each in signaling]),
            grace=self.grace,
            directory=directory,
        )
        text += FLEET.format(host=name, steering=self.steering)
        text += KEYS.format(
            routing=_toml(self.routing), password=PASSWORD, fleet=_toml(self.fleet_keys)
        )
        path = directory / "edge.toml"
        path.write_text(text + self.more)
        return path

    async def start(self, name: str) -> Appliance:
        """Start a host's appliance; it ends with the scene."""
        command = ("-m", "edge", "run", "--config", str(self.configure(name)))
        process = await trio.lowlevel.open_process(
            self.host(name).python(*command), stderr=subprocess.PIPE
        )
        appliance = await self._undo.enter_async_context(attended(process, self.directory / name))
        self.appliances[name] = appliance
        return appliance

    async def reload_all(self) -> None:
        """Have every host read its configuration again, and wait until all have."""
        for name, appliance in self.appliances.items():
            self.configure(name)
            known = len(appliance.lines)
            appliance.process.send_signal(signal.SIGHUP)
            with trio.fail_after(20):
                while not any("reload: " in line for line in appliance.lines[known:]):
                    await trio.sleep(0.02)

    async def command(self, name: str, *arguments: str) -> None:
        """Run an operator's command for a host."""
        config = str(self.directory / name / "edge.toml")
        await trio.run_process([sys.executable, "-m", "edge", *arguments, "--config", config])

    async def kill(self, name: str) -> None:
        """End a host as a power failure does: nothing comes from it any more, not even a FIN."""
        for other in self.net.hosts:
            if other != name:
                self.net.link(name, other, Link(loss=1.0))
        appliance = self.appliances.pop(name)
        appliance.process.kill()
        await appliance.process.wait()

    async def start_redis(self) -> None:
        """Start an empty Redis server."""
        command = ["redis-server", "--bind", INTERNAL["redis"], "--protected-mode", "no"]
        command += ["--port", str(REDIS_PORT), "--save", ""]
        directory = self.directory / "redis"
        directory.mkdir(exist_ok=True)
        self._redis = await trio.lowlevel.open_process(
            ["ip", "netns", "exec", self.host("redis").name, *command],
            cwd=directory,
            stdout=subprocess.DEVNULL,
        )

    async def kill_redis(self) -> None:
        """End the Redis server without notice, if it runs."""
        if self._redis is not None:
            self._redis.kill()
            await self._redis.wait()
            self._redis = None

    def move_signaling(self, cluster: str) -> None:
        """Have the name that clients call lead to a cluster."""
        self.net.route(SIGNALING_NAME, cluster)

    def move_relay_address(self) -> None:
        """Route Singapore's relay address to the spare host."""
        self.net.route(RELAY_ADDRESSES["sgp"], "spare")


@asynccontextmanager
async def three_sites(
    directory: Path,
    *,
    started: tuple[str, ...] = ("fra", "nyc", "sgp", "spare"),
    steering: str = "answer",
    grace: float = 20.0,
    more: str = "",
    redis: bool = False,
) -> AsyncIterator[Scene]:
    """Build the network and start the appliances on these hosts."""
    hosts = {name: [address] for name, address in INTERNAL.items()}
    for name, address in RELAY_ADDRESSES.items():
        hosts[name].append(address)
    hosts["fra"].append(SIGNALING_NAME)
    with internet(dict(hosts), LINKS) as net:
        net.give("spare", RELAY_ADDRESSES["sgp"])
        net.give("nyc", SIGNALING_NAME)
        async with AsyncExitStack() as undo:
            scene = Scene(net, directory, steering, grace, more, undo)
            undo.push_async_callback(scene.kill_redis)
            if redis:
                await scene.start_redis()
            for name in started:
                await scene.start(name)
            owners = [name for name in started if name in {"fra", "nyc"}]
            for name in owners:
                await wait_status(scene.appliances[name], lambda one: _heard(one) == len(owners))
            yield scene


def positions(directory: Path) -> Path:
    """Make a database of positions that knows where the client is; return its path."""
    path = directory / "positions.mmdb"
    write_positions(path, {f"{INTERNAL['client']}/32": place_record("SG", 1.29, 103.85)})
    return path


def _heard(status: Status) -> int:
    """Return how many hosts with transceivers this one knows the room of."""
    return sum(cluster.heard for cluster in status.clusters)


def _toml(keys: tuple[dict[str, object], ...]) -> str:
    tables = (f'{{ id = {each["id"]}, key = "{each["key"]}" }}' for each in keys)
    return f"[{', '.join(tables)}]"
