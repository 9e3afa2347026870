"""UDP sockets: made, bound, taken out of their group, told how long to wait.

They are shared with other processes by dup, and so is O_NONBLOCK: whoever must not wait says so by
MSG_DONTWAIT in every call.
"""

import socket
import struct
from ipaddress import ip_address

from edge.errors import BootError

_SO_RCVBUFFORCE = 33
_DISCARD_PORT = 9


def open_udp_socket(
    host: str, port: int, *, receive_buffer_bytes: int, reuse_port: bool
) -> socket.socket:
    """Make and bind a UDP socket.

    Raises:
        BootError: the address is taken, not ours or not valid.

    """
    udp = make_udp_socket(host, receive_buffer_bytes=receive_buffer_bytes, reuse_port=reuse_port)
    try:
        bind_udp_socket(udp, host, port)
    except BootError:
        udp.close()
        raise
    return udp


def make_udp_socket(host: str, *, receive_buffer_bytes: int, reuse_port: bool) -> socket.socket:
    """Make a non-blocking UDP socket for an address, not yet bound. IPv6 sockets take IPv6 only.

    ``receive_buffer_bytes`` is asked for by force where we are allowed to, else up to the limit of
    net.core.rmem_max; read SO_RCVBUF to see what was got.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if reuse_port:
        share_port(udp)
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)
    except PermissionError:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    return udp


def bind_udp_socket(udp: socket.socket, host: str, port: int) -> None:
    """Bind a socket of ``make_udp_socket``; from now on it gets packets.

    Raises:
        BootError: the address is taken, not ours or not valid.

    """
    try:
        udp.bind((host, port))
    except OSError as exc:
        raise BootError(f"cannot open UDP {host} port {port}: {exc.strerror}") from exc


def share_port(one: socket.socket) -> None:
    """Let the port be shared with sockets of this user that were made for it, too (SO_REUSEPORT).

    One that is bound already, TCP or UDP, has had the port for itself until now.
    """
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def block_for(udp: socket.socket, milliseconds: int) -> None:
    """Let receive calls without MSG_DONTWAIT wait so long, rounded up to the kernel's ticks.

    Holds for every duplicate of the socket, in other processes too.
    """
    udp.setblocking(True)  # noqa: FBT003 - the standard library's signature
    udp.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, milliseconds * 1000)
    )


def leave_group(public: socket.socket) -> None:
    """Keep new packets from a SO_REUSEPORT socket; what is queued in it can still be read.

    A connected socket is passed over when the kernel picks one of a group (Linux 5.4 and later).
    """
    host = public.getsockname()[0]
    if ip_address(host).is_unspecified:
        host = "::1" if public.family == socket.AF_INET6 else "127.0.0.1"
    public.connect((host, _DISCARD_PORT))
