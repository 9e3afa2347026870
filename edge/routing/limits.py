"""How many connectivity checks a relay passes on for one session.

A check costs its transceiver far more than any other packet: MESSAGE-INTEGRITY, an answer, perhaps
a notice. Whoever has a ufrag, if only his own, could keep a transceiver busy with it. Clients send
20 to 50 checks a second while they connect, and one every few seconds afterwards.

Checks from addresses that are not known to belong to the session share one small allowance, however
many addresses there are. One that is known has its own, so that a flood from elsewhere does not
keep the session's client from being answered.

Checks are counted per second and per relay worker. The first so many of a second pass.
"""

STRAY_CHECKS_MAX = 100
"""Per second, for one ufrag, from all addresses that do not have its flow."""
KNOWN_CHECKS_MAX = 500
"""Per second, for one ufrag, from one address that has its flow."""
COUNTS_MAX = 65_536
"""Counters kept; beyond that the second ends early."""

PERIOD = 1.0


class CheckLimiter:
    """Counts the checks of one relay worker. Times: seconds on the caller's monotonic clock."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._ends_at = 0.0

    def admit(self, ufrag: bytes, client: bytes | None, now: float) -> bool:
        """Return whether a check may pass. ``client``: its address if known to be the session's."""
        if now >= self._ends_at or len(self._counts) >= COUNTS_MAX:
            self._counts.clear()
            self._ends_at = now + PERIOD
        key, limit = ufrag, STRAY_CHECKS_MAX
        if client is not None:
            key, limit = ufrag + client, KNOWN_CHECKS_MAX
        count = self._counts.get(key, 0)
        if count >= limit:
            return False
        self._counts[key] = count + 1
        return True
