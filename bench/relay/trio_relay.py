"""The plain Trio peer: one ``recvfrom`` and one ``sendto`` per packet.

Run as ``python -m bench.relay.trio_relay TRANSCEIVER_PORT...``; prints "ready PORT".
"""

import sys

import trio

from edge.routing import frames
from edge.routing.peek import is_binding_request, peek_ufrag
from edge.routing.sockaddr import encode_sockaddr
from edge.udp import open_udp_socket

RECEIVE_BUFFER_BYTES = 4 << 20


async def main(transceivers: list[tuple[str, int]]) -> None:
    public, internal = (
        trio.socket.from_stdlib_socket(
            open_udp_socket(
                "127.0.0.1", 0, receive_buffer_bytes=RECEIVE_BUFFER_BYTES, reuse_port=True
            )
        )
        for _ in range(2)
    )
    print("ready", public.getsockname()[1], flush=True)
    flows: dict[tuple[str, int], tuple[bytes, int]] = {}
    while True:
        packet, client = await public.recvfrom(2048)
        if packet and is_binding_request(packet):
            owner = int(peek_ufrag(packet)[1:])
            flows[client] = encode_sockaddr(*client), owner
        if (flow := flows.get(client)) is None:
            continue
        address, owner = flow
        row = frames.ROW_HEAD.pack(address, len(packet), 0) + packet
        await internal.sendto(row, transceivers[owner])


if __name__ == "__main__":
    trio.run(main, [("127.0.0.1", int(text)) for text in sys.argv[1:]])
