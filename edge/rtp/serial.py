"""Arithmetic on the wrapping counters of RTP (RFC 1982 in spirit)."""


def sequence_difference(later: int, earlier: int) -> int:
    """Return ``later - earlier`` of two 16-bit sequence numbers, -32768..32767."""
    return ((later - earlier + 0x8000) & 0xFFFF) - 0x8000


def timestamp_difference(later: int, earlier: int) -> int:
    """Return ``later - earlier`` of two 32-bit values, -2**31..2**31-1."""
    return ((later - earlier + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
