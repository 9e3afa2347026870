"""UDP in batches, and the sockets for it."""

from edge.udp.frame import FrameSender
from edge.udp.receive import RECEIVE_ROWS, ReceiveBatch
from edge.udp.send import BATCH_ROWS, SendBatch
from edge.udp.sockets import (
    bind_udp_socket,
    block_for,
    leave_group,
    make_udp_socket,
    open_udp_socket,
    share_port,
)
from edge.udp.system import PAYLOAD_BYTES_MAX, PAYLOAD_OFFSET

__all__ = [
    "BATCH_ROWS",
    "PAYLOAD_BYTES_MAX",
    "PAYLOAD_OFFSET",
    "RECEIVE_ROWS",
    "FrameSender",
    "ReceiveBatch",
    "SendBatch",
    "bind_udp_socket",
    "block_for",
    "leave_group",
    "make_udp_socket",
    "open_udp_socket",
    "share_port",
]
