"""What is fuzzed with coverage feedback: everything that reads bytes before they are authentic.

    python -m tests.fuzz.targets TARGET [CORPUS FOLDER…] [libFuzzer options]

A target takes any bytes. It fails by raising: anything but the one error of the module under test,
or an AssertionError where two readings of the same bytes disagree. New finds go into the first
folder; ``corpus/TARGET`` has what is worth starting from.
"""

import base64
import hmac
import struct
import sys
import zlib
from contextlib import suppress

import atheris  # type: ignore[import-untyped] # it has no annotations

with atheris.instrument_imports(include=["edge"]):
    from edge.errors import FrameError, StunError, UfragError
    from edge.ice import stun
    from edge.ice.credentials import Credentials
    from edge.routing import frames
    from edge.routing.peek import is_binding_request, peek_ufrag
    from edge.routing.sockaddr import decode_sockaddr
    from edge.routing.ufrag import UFRAG_BYTES, RoutedUfrag, RoutingKey, UfragIssuer, UfragOpener

LOCAL = Credentials("AbCdEfGhIjKlMnOpQrStUvWx", "p" * 32)
KEY = RoutingKey(0, bytes(range(16)))

_OPENER = UfragOpener([KEY])


def fuzz_peek(data: bytes) -> None:
    """The relay's reading of USERNAME."""
    is_binding_request(data)
    with suppress(StunError):
        ufrag = peek_ufrag(data)
        assert ufrag
        assert b":" not in ufrag
        assert ufrag + b":" in data
        assert peek_ufrag(memoryview(data)) == ufrag


def fuzz_frame(data: bytes) -> None:
    """The frames between relay and transceiver, and the addresses in them."""
    with suppress(FrameError):
        frame = frames.decode_frame(memoryview(data))
        assert frames.encode_frame(*frame) == data[:6] + bytes(2) + data[8:]
        for row in frame.rows:
            with suppress(FrameError):
                decode_sockaddr(row.client)


def fuzz_ufrag(data: bytes) -> None:
    """Routed ufrags: one that opens is, but for its last byte, what the issuer makes of it."""
    for ufrag in (data, data.decode("latin-1"), base64.b64encode(data[:UFRAG_BYTES])):
        with suppress(UfragError):
            routed = _OPENER.open(ufrag)
            sealed = base64.b64decode(ufrag)
            assert _issued(routed, _nonce(sealed))[:17] == sealed[:17]


def fuzz_request(data: bytes) -> None:
    """Checks: the bytes as they are, and as the attributes of a message that is authentic."""
    for message in (data, _sealed(data)):
        try:
            request = stun.decode_request(message, LOCAL)
        except StunError:
            continue
        if isinstance(request, stun.Refusal):
            stun.decode_response(stun.encode_response(request, LOCAL), LOCAL)
        with suppress(StunError):  # a relay gives up earlier than a transceiver
            assert peek_ufrag(message) == LOCAL.ufrag.encode()


def fuzz_planted(data: bytes) -> None:
    """A fault that must be found."""
    assert data[:1] != b"E"


TARGETS = {
    "peek": fuzz_peek,
    "frame": fuzz_frame,
    "ufrag": fuzz_ufrag,
    "request": fuzz_request,
    "planted": fuzz_planted,
}


def _nonce(sealed: bytes) -> bytes:
    """Return the nonce of a ufrag that has opened."""
    return _OPENER._decryptors[KEY.id].update(sealed[1:17])[8:13]


def _issued(routed: RoutedUfrag, nonce: bytes) -> bytes:
    """Return the 18 bytes of a ufrag that says the same."""

    def entropy(size: int) -> bytes:
        return nonce.ljust(size, b"\0")

    issuer = UfragIssuer(routed.cluster, routed.transceiver, KEY, entropy)
    return base64.b64decode(issuer.issue(routed.issued_at))


def _sealed(attributes: bytes) -> bytes:
    """Add what makes a Binding request with these attributes, cut to whole words, authentic."""
    attributes = attributes[: len(attributes) & ~3]
    head = struct.pack("!HHI12s", 1, len(attributes) + 24, 0x2112A442, b"transaction!")
    mac = hmac.digest(LOCAL.password.encode(), head + attributes, "sha1")
    attributes += struct.pack("!HH", 0x0008, 20) + mac
    head = struct.pack("!HHI12s", 1, len(attributes) + 8, 0x2112A442, b"transaction!")
    check = zlib.crc32(head + attributes) ^ 0x5354554E
    return head + attributes + struct.pack("!HHI", 0x8028, 4, check)


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
