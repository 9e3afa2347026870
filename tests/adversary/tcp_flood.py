"""Floods a TCP port, as a process of its own: the calls beside it must not wait for the flooder.

``hold PORT COUNT SOURCES FILE`` opens so many connections from so many addresses of this machine,
sends one of the file's pieces on each (those of ``flooding.write_packets``), prints a line and
keeps them until standard input ends. ``churn PORT SECONDS SOURCES`` opens and closes them.
"""

import socket
import struct
import sys
import time
from pathlib import Path

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


def connect(port: int, number: int, sources: int) -> socket.socket:
    source = (f"127.0.1.{number % sources + 1}", 0)
    return socket.create_connection(("127.0.0.1", port), source_address=source)


def hold(port: int, count: int, sources: int, file: str) -> None:
    pieces = split(Path(file).read_bytes())
    held: list[socket.socket] = []
    for number in range(count):
        tcp = connect(port, number, sources)
        held.append(tcp)
        tcp.send(pieces[number % len(pieces)])
    print("held", flush=True)
    sys.stdin.read()
    for tcp in held:
        tcp.close()


def churn(port: int, seconds: int, sources: int) -> None:
    number = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with connect(port, number, sources) as tcp:
            if number % 2:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        number += 1
    print(f"{number / seconds:.0f} connections per second", flush=True)


def split(data: bytes) -> list[bytes]:
    pieces: list[bytes] = []
    while data:
        end = 2 + int.from_bytes(data[:2])
        pieces.append(data[2:end])
        data = data[end:]
    return pieces


if __name__ == "__main__":
    mode, port, count, sources, *rest = sys.argv[1:]
    if mode == "hold":
        hold(int(port), int(count), int(sources), *rest)
    else:
        churn(int(port), int(count), int(sources))
