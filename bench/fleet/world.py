"""A world to steer in: sites in cities, hosts in clusters, clients around where people are."""

import random
from collections.abc import Iterator, Sequence

from attrs import frozen

from edge.fleet.map import Cluster, FleetMap, Member, Site
from edge.steering.position import Position
from edge.steering.visitor import Visitor, Whereabouts

CITIES = (  # name, degrees north and east, millions of people around
    ("fra", 50.11, 8.68, 60), ("lon", 51.51, -0.13, 60), ("par", 48.86, 2.35, 50),
    ("ams", 52.37, 4.90, 30), ("mad", 40.42, -3.70, 45), ("mil", 45.46, 9.19, 40),
    ("waw", 52.23, 21.01, 45), ("sto", 59.33, 18.07, 20), ("ist", 41.01, 28.98, 60),
    ("kyv", 50.45, 30.52, 40), ("cai", 30.04, 31.24, 90), ("dxb", 25.20, 55.27, 50),
    ("nyc", 40.71, -74.01, 60), ("atl", 33.75, -84.39, 50), ("chi", 41.88, -87.63, 50),
    ("dfw", 32.78, -96.80, 45), ("den", 39.74, -104.99, 20), ("lax", 34.05, -118.24, 45),
    ("sea", 47.61, -122.33, 15), ("yyz", 43.65, -79.38, 20), ("mex", 19.43, -99.13, 90),
    ("bog", 4.71, -74.07, 60), ("gru", -23.55, -46.63, 110), ("eze", -34.60, -58.38, 35),
    ("scl", -33.45, -70.67, 18), ("jnb", -26.20, 28.05, 50), ("nbo", -1.29, 36.82, 60),
    ("los", 6.52, 3.38, 120), ("bom", 19.08, 72.88, 200), ("del", 28.61, 77.21, 300),
    ("maa", 13.08, 80.27, 150), ("dac", 23.81, 90.41, 160), ("sin", 1.35, 103.82, 60),
    ("cgk", -6.21, 106.85, 150), ("mnl", 14.60, 120.98, 90), ("hkg", 22.32, 114.17, 80),
    ("tpe", 25.03, 121.57, 25), ("sel", 37.57, 126.98, 50), ("tyo", 35.68, 139.69, 100),
    ("syd", -33.87, 151.21, 22),
)  # fmt: skip
SCATTER_DEGREES = 5.0
"""Standard deviation of where the people of a city are."""


@frozen
class Clients:
    """Draws clients by population; those of ``crowded`` cities come ``crowd`` times as often."""

    rng: random.Random
    crowded: frozenset[str] = frozenset()
    crowd: float = 1.0

    def draw(self) -> Iterator[Visitor]:
        weights = [
            people * (self.crowd if name in self.crowded else 1) for name, _, _, people in CITIES
        ]
        rng = self.rng
        while True:
            for _, north, east, _ in rng.choices(CITIES, weights, k=256):
                latitude = max(-90.0, min(90.0, rng.gauss(north, SCATTER_DEGREES)))
                longitude = (rng.gauss(east, SCATTER_DEGREES) + 180) % 360 - 180
                address = f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}"
                yield Visitor(address, Whereabouts(Position(latitude, longitude)))


def make_fleet(hosts: int) -> FleetMap:
    """Return a fleet of about so many hosts: clusters by population, at every city's site.

    ``here`` is a relay-only host, so that every cluster is another one.
    """
    people = sum(each[3] for each in CITIES)
    sites, clusters, members = [], [], []
    for number, (name, north, east, near) in enumerate(CITIES, 1):
        site = Site(name, name, north, east, tuple(_relays(number)))
        cluster = Cluster(number, name, site, f"wss://{name}.example.net/v1/session")
        sites.append(site)
        clusters.append(cluster)
        for host in range(max(1, round(hosts * near / people))):
            address = f"10.{100 + number}.0.{host}"
            members.append(Member(f"{name}{host}", site, cluster, host, address))
    here = Member("relay", sites[0], None, 0, "10.99.0.1")
    return FleetMap(here, (here, *members), tuple(clusters), tuple(sites), 3500, 3600, 3490)


def _relays(number: int) -> Sequence[tuple[str, int]]:
    return [(f"198.51.{number}.{host}", 3478) for host in (1, 2)]
