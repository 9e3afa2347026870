"""A fleet of real appliances gives clients the cluster and the relays that are near to them."""

import re
import signal
from pathlib import Path

import trio

from edge.client import open_call
from tests.integration.test_commands import edge
from tests.support.appliance import running_appliance, wait_status
from tests.support.positions import FRANKFURT, NEW_YORK, write_positions
from tests.support.signal_server import OFFER, HttpClient
from tests.support.two_sites import TwoSites, two_sites

SDP = "application/sdp"
IN_NEW_YORK = "203.0.113.7"
IN_FRANKFURT = "192.0.2.7"
TRUSTED = 'trusted_proxies = ["127.0.0.1"]'


async def post(origin: str, source: str, path: str = "/v1/whip") -> tuple[int, str, str]:
    """Offer from behind a proxy; return status, location and answer."""
    host, _, port = origin.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        client = HttpClient(stream)
        reply = await client.request("POST", path, OFFER, Content_Type=SDP, X_Forwarded_For=source)
        return reply.status, reply.headers.get("location", ""), reply.text


def candidates(answer: str) -> list[str]:
    """Return the UDP candidates' addresses, by priority."""
    found = re.findall(r"a=candidate:\d+ 1 udp (\d+) (\S+) \d+ typ host\r", answer)
    return [host for _, host in sorted(found, key=lambda each: -int(each[0]))]


async def wait_heard(sites: TwoSites, source: str, expected: str) -> tuple[int, str, str]:
    """Offer until hosts have heard of each other: once a second they tell."""
    origin = await sites.frankfurt.origin()
    with trio.fail_after(20):
        while True:
            status, location, answer = await post(origin, source)
            if re.match(expected, location):
                return status, location, answer
            await trio.sleep(0.2)


def databases(folder: Path) -> tuple[Path, str]:
    path = folder / "positions.mmdb"
    write_positions(path, {"192.0.2.0/24": FRANKFURT, "203.0.113.0/24": NEW_YORK})
    return path, f'[steering]\ndatabase = "{path}"\nsecond_relay = true\n'


async def test_offers_are_answered_for_the_nearest_cluster(tmp_path: Path) -> None:
    database, table = databases(tmp_path)
    async with two_sites(tmp_path, signal=TRUSTED, steering_table=table) as sites:
        status, _, answer = await wait_heard(sites, IN_NEW_YORK, r"/v1/whip/sessions/2\.")
        assert status == 201
        assert candidates(answer) == ["198.51.100.2", "198.51.100.1", "2001:db8:1::1"]
        origin = await sites.frankfurt.origin()
        _, location, answer = await post(origin, IN_FRANKFURT)
        assert location.startswith("/v1/whip/sessions/1.")
        assert candidates(answer) == ["198.51.100.1", "2001:db8:1::1", "198.51.100.2"]
        _, location, _ = await post(origin, f"{IN_NEW_YORK}, 198.18.0.1")
        assert location.startswith("/v1/whip/sessions/1."), "a client's word on its address"

        write_positions(tmp_path / "fresh", {"203.0.113.0/24": FRANKFURT})
        (tmp_path / "fresh").rename(database)
        sites.frankfurt.process.send_signal(signal.SIGHUP)
        await wait_heard(sites, IN_NEW_YORK, r"/v1/whip/sessions/1\.")


async def test_redirects_are_followed_by_the_client(tmp_path: Path) -> None:
    table = '[steering]\ndefault_cluster = "nyc"\n'
    async with two_sites(
        tmp_path, steering="redirect", signal=TRUSTED, steering_table=table
    ) as sites:
        there = await sites.new_york.origin()
        status, location, _ = await wait_heard(sites, IN_NEW_YORK, r"http://")
        assert (status, location) == (307, f"http://{there}/v1/whip?steered=1")
        here, _ = await sites.urls()
        async with open_call(here) as call:
            answer = await call.offer(OFFER)
            assert call.session is not None
            assert call.session.startswith("2.")
            assert candidates(answer) == ["198.51.100.2"]
        async with open_call(f"{here}?steered=1") as call:
            await call.offer(OFFER)
            assert call.session is not None
            assert call.session.startswith("1."), "who was sent here is not sent on"


async def test_when_the_other_cluster_is_gone_offers_are_answered_here(tmp_path: Path) -> None:
    _, table = databases(tmp_path)
    async with two_sites(tmp_path, signal=TRUSTED, steering_table=table) as sites:
        await wait_heard(sites, IN_NEW_YORK, r"/v1/whip/sessions/2\.")
        sites.new_york.process.kill()
        _, _, answer = await wait_heard(sites, IN_NEW_YORK, r"/v1/whip/sessions/1\.")
        with trio.fail_after(10):
            while candidates(answer)[0] != "198.51.100.1":
                await trio.sleep(0.2)
                _, _, answer = await post(await sites.frankfurt.origin(), IN_NEW_YORK)


async def test_a_drained_cluster_sends_its_clients_on(tmp_path: Path) -> None:
    _, table = databases(tmp_path)
    async with two_sites(tmp_path, signal=TRUSTED, steering_table=table) as sites:
        await wait_heard(sites, IN_NEW_YORK, r"/v1/whip/sessions/2\.")
        for directory, source, cluster in (
            (sites.new_york.directory, IN_NEW_YORK, 1),  # the one that would be asked
            (sites.frankfurt.directory, IN_FRANKFURT, 2),  # the one that clients come to
        ):
            assert (await edge(directory, "drain"))[0] == 0
            status, _, _ = await wait_heard(sites, source, rf"/v1/whip/sessions/{cluster}\.")
            assert status == 201
            assert (await edge(directory, "undrain"))[0] == 0
            await wait_heard(sites, source, rf"/v1/whip/sessions/{3 - cluster}\.")


async def test_a_lone_host_behind_a_proxy_counts_its_clients(tmp_path: Path) -> None:
    limits = "[access]\naddress_sessions_max = 1"
    async with running_appliance(tmp_path, signal=TRUSTED, more=limits) as appliance:
        origin = await appliance.origin()
        statuses = [
            (await post(origin, source))[0]
            for source in (IN_NEW_YORK, IN_NEW_YORK, IN_FRANKFURT, "1.1.1.1, 192.0.2.7", "garbage")
        ]
        assert statuses == [201, 429, 201, 429, 201]
        await wait_status(
            appliance,
            lambda status: (
                sum(
                    each.statistics.drops.get("forwarded-malformed", 0)
                    for each in status.workers
                    if each.kind == "transceiver" and each.statistics is not None
                )
                == 1
            ),
        )
