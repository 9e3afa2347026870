"""From measured costs to what a fleet of a million concurrent sessions takes (docs/operations.md).

The costs are those of docs/benchmarks.md on one kind of machine, by core, as measured, with no
allowance for anything; ``FILL`` is the allowance.
"""

from attrs import frozen

SESSIONS = 1_000_000
CALL_MEAN = 180.0
PACKETS = 50
"""Per second and direction: one per 20 ms."""
PACKET_BYTES = 160
"""Of a datagram: 32 kbit/s of Opus, RTP and SRTP, with IP and UDP."""
FRAME_SHARE_BYTES = 40
"""What a packet takes more between hosts: its row, and its part of header and tag."""
FILL = 0.6
"""How full hosts are on an ordinary day, so that a site may be lost."""
CORES = 8
"""Of a host: two for relays, the rest for transceivers."""
RELAY_CORES = 2
RELAY_US = 2.2
"""CPU per packet that a relay forwards at tens of thousands a second, with coalesce_us = 200."""
MODES = (("echo", 600), ("Opus passed through", 300), ("PCM, decoded and encoded", 100))
"""Sessions of one transceiver worker with a core of its own, as far as was measured."""
RENEWAL = 150.0
"""Seconds between two writings of a flow in use: half of ``redis.flow_lifetime``."""
FLOW_WRITES = 2
"""When it is confirmed, and when it ends."""
HEARTBEAT = 3.0
READ_INTERVAL = 4.0
ENTRY_BYTES = 150
"""Of a host in the directory, about."""


@frozen
class Needs:
    """What so many sessions of one kind take."""

    hosts: int
    packets_per_host: float
    relay_load: float
    """Share of its relays' cores."""
    bits_per_host: float
    """Each way, from or to clients."""
    bits_between: float
    """The same between hosts, if all of its calls come by other hosts' relays."""


def needs(per_worker: int, sessions: int = SESSIONS) -> Needs:
    """Return what sessions take whose transceiver workers hold ``per_worker`` each."""
    per_host = per_worker * (CORES - RELAY_CORES) * FILL
    hosts = -(-sessions // int(per_host))
    packets = per_host * PACKETS
    return Needs(
        hosts=hosts,
        packets_per_host=2 * packets,
        relay_load=packets * RELAY_US / 1e6 / RELAY_CORES,
        bits_per_host=packets * PACKET_BYTES * 8,
        bits_between=packets * (PACKET_BYTES + FRAME_SHARE_BYTES) * 8,
    )


def redis_writes(sessions: int = SESSIONS, hosts: int = 1000) -> tuple[float, float]:
    """Return writes per second for flows and for hosts."""
    flows = sessions * (FLOW_WRITES / CALL_MEAN + 1 / RENEWAL)
    return flows, hosts / HEARTBEAT


def directory_bits(hosts: int, relay_workers: int = RELAY_CORES) -> float:
    """Return bits per second that Redis sends to all relay workers that read the directory."""
    return hosts * relay_workers * hosts * ENTRY_BYTES * 8 / READ_INTERVAL


def print_arithmetic() -> None:
    print(f"\n{SESSIONS:,} sessions, hosts with {CORES} cores, {100 * FILL:.0f} % full\n")
    print(
        "| sessions | per worker | hosts | packets/s and host | relay cores % | Mbit/s | between |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, per_worker in MODES:
        one = needs(per_worker)
        print(
            f"| {name} | {per_worker} | {one.hosts:,} | {one.packets_per_host:,.0f} |"
            f" {100 * one.relay_load:.0f} | {one.bits_per_host / 1e6:.0f} |"
            f" {one.bits_between / 1e6:.0f} |"
        )
    flows, hosts = redis_writes()
    print(f"\nRedis: {flows:,.0f} writes/s for flows, {hosts:,.0f} for 1,000 hosts", end="; ")
    print(f"the directory of 1,000 hosts is read at {directory_bits(1000) / 1e9:.1f} Gbit/s")
    print(f"Offers: {SESSIONS / CALL_MEAN:,.0f} per second in all")
