"""Two real appliances of one fleet: a cluster in Frankfurt and one in New York."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import frozen

from tests.support.appliance import Appliance, running_appliance

FRANKFURT_RELAYS = ("198.51.100.1:3478", "[2001:db8:1::1]:3478")
NEW_YORK_RELAYS = ("198.51.100.2:3478",)
NOWHERE = "ws://127.0.0.1:9/v1/session"

_FLEET = """
[fleet]
host = "{host}"
steering = "{steering}"
[sites.fra]
latitude = 50.11
longitude = 8.68
relays = [{fra_relays}]
[sites.nyc]
latitude = 40.71
longitude = -74.01
relays = [{nyc_relays}]
[clusters.fra]
id = 1
site = "fra"
signaling = "{fra_signaling}"
[clusters.nyc]
id = 2
site = "nyc"
signaling = "{nyc_signaling}"
[hosts.fra1]
site = "fra"
cluster = "fra"
internal = "{fra_internal}"
[hosts.nyc1]
site = "nyc"
cluster = "nyc"
internal = "{nyc_internal}"
[keys]
routing = [{{ id = 0, key = "000102030405060708090a0b0c0d0e0f" }}]
password = "{password}"
fleet = [{{ id = 1, key = "{password}" }}]
{steering_table}
"""


@frozen
class TwoSites:
    """Where the fleet is."""

    frankfurt: Appliance
    new_york: Appliance
    frankfurt_config: Path

    async def urls(self) -> tuple[str, str]:
        """Return where the WebSockets of both are."""
        origins = [await each.origin() for each in (self.frankfurt, self.new_york)]
        return f"ws://{origins[0]}/v1/session", f"ws://{origins[1]}/v1/session"


@asynccontextmanager
async def two_sites(
    directory: Path,
    *,
    steering: str = "answer",
    relays: bool = True,
    signal: str = "",
    steering_table: str = "",
) -> AsyncIterator[TwoSites]:
    """Run both. ``signal`` and ``steering_table`` are configuration of the one in Frankfurt.

    Without ``relays`` sites have none, so that answers name those of the session's owner.
    """
    pid = os.getpid()
    internal = f"127.{50 + pid % 100}.{pid // 100 % 250}."
    words = {
        "fra_relays": _quoted(FRANKFURT_RELAYS) if relays else "",
        "nyc_relays": _quoted(NEW_YORK_RELAYS) if relays else "",
        "fra_internal": f"{internal}1",
        "nyc_internal": f"{internal}2",
        "password": "0f" * 32,
    }
    folders = [directory / "fra", directory / "nyc"]
    for folder in folders:
        folder.mkdir()
    new_york_config = _FLEET.format(
        host="nyc1",
        steering="answer",
        fra_signaling=NOWHERE,
        nyc_signaling=NOWHERE,
        steering_table="",
        **words,
    )
    async with running_appliance(
        folders[1], relays=1, transceivers=1, more=new_york_config
    ) as new_york:
        config = _FLEET.format(
            host="fra1",
            steering=steering,
            fra_signaling=NOWHERE,
            nyc_signaling=f"ws://{await new_york.origin()}/v1/session",
            steering_table=steering_table,
            **words,
        )
        async with running_appliance(
            folders[0], relays=1, transceivers=1, signal=signal, more=config
        ) as frankfurt:
            yield TwoSites(frankfurt, new_york, folders[0] / "edge.toml")


def _quoted(addresses: tuple[str, ...]) -> str:
    return ", ".join(f'"{each}"' for each in addresses)
