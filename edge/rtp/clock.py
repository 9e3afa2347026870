"""The clocks that RTP relates to each other: NTP wall time and the media clock.

A 64-bit NTP timestamp (RFC 5905 §6) counts 1/2**32 s since 1900-01-01, modulo 2**64. Its middle 32
bits, the compact form of RTCP's LSR, DLSR and round-trip time, count 1/65536 s.
"""

from typing import Final

CLOCK_RATE_HZ: Final = 48_000
"""Ticks of the RTP clock of Opus, whatever the audio rate (RFC 7587 §4.1)."""

_UNIX_EPOCH = 2_208_988_800
"""Seconds from the NTP epoch (1900) to the Unix epoch (1970)."""


def ntp_from_unix(unix: float) -> int:
    """Return the 64-bit NTP timestamp of Unix time ``unix`` (seconds)."""
    return round((unix + _UNIX_EPOCH) * 2**32) & 0xFFFF_FFFF_FFFF_FFFF


def unix_from_ntp(ntp: int) -> float:
    """Return the Unix time of a 64-bit NTP timestamp.

    A clear top bit means the era that begins in 2036 (RFC 4330 §3): the result lies in 1968..2104.
    """
    era = 0 if ntp >> 63 else 2**64
    return (ntp + era) / 2**32 - _UNIX_EPOCH


def compact_ntp(ntp: int) -> int:
    """Return the middle 32 bits of a 64-bit NTP timestamp (RFC 3550 §4)."""
    return (ntp >> 16) & 0xFFFF_FFFF
