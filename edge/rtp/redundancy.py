"""RTP payloads that carry older packets' sound again (RFC 2198).

| bytes | content, for each redundant block, oldest first |
| --- | --- |
| 0 | 1 (1 bit), payload type (7) |
| 1..3 | timestamp offset back from the packet's own (14 bits), length of the block's data (10) |

| then | content, for the primary block |
| --- | --- |
| 0 | 0 (1 bit), payload type (7) |

Then the data of all blocks in the same order; the primary's is what is left.
"""

from typing import Final, NamedTuple

from edge.errors import RtpError

BLOCKS_MAX: Final = 16
"""Blocks in one packet, the primary included. Browsers send two or three."""


class RedundantBlock(NamedTuple):
    """One block: what would be a packet's payload without redundancy."""

    payload_type: int
    timestamp_offset: int
    """Ticks that the block is older than its packet; 0 for the primary."""
    payload: bytes


def decode_redundancy(payload: bytes) -> tuple[RedundantBlock, ...]:
    """Return the blocks of one payload, the primary last. Blocks may be empty.

    Raises:
        RtpError: ``redundancy-truncated``, a header or block reaches beyond the payload;
            ``redundancy-blocks``, more than ``BLOCKS_MAX``.

    """
    headers: list[tuple[int, int, int]] = []
    at, end = 0, len(payload)
    while at < end and payload[at] >= 0x80:
        if at + 4 > end:
            raise RtpError("redundancy-truncated")
        offset_and_length = int.from_bytes(payload[at + 1 : at + 4])
        headers.append((payload[at] & 0x7F, offset_and_length >> 10, offset_and_length & 0x3FF))
        at += 4
        if len(headers) >= BLOCKS_MAX:
            raise RtpError("redundancy-blocks")
    if at == end:
        raise RtpError("redundancy-truncated")
    primary = payload[at]
    at += 1
    blocks: list[RedundantBlock] = []
    for payload_type, timestamp_offset, length in headers:
        if at + length > end:
            raise RtpError("redundancy-truncated")
        blocks.append(RedundantBlock(payload_type, timestamp_offset, payload[at : at + length]))
        at += length
    blocks.append(RedundantBlock(primary, 0, payload[at:]))
    return tuple(blocks)
