"""What only OpenSSL's own retransmission timer repairs, with new record sequence numbers.

The only DTLS tests that sleep, for 1.1 s each: that timer follows the real clock.
"""

import time

from edge.dtls.transport import DtlsTransport
from tests.protocol.test_dtls_handshake import both_told, dtls_link, keys
from tests.protocol.test_dtls_loss import split
from tests.support.link import Path


def test_change_cipher_spec_that_overtakes_its_flight() -> None:
    # OpenSSL drops it after having noted its sequence number, and so drops every byte-for-byte
    # repetition of it as a replay.
    path = Path(alter=lambda datagram: split(datagram)[::-1])
    link = dtls_link(forward=path, backward=path)
    assert not link.run(lambda: both_told(link), deadline=0.9)
    time.sleep(1.1)
    assert link.run(lambda: both_told(link), deadline=5.0)
    keys(link)


def test_lost_hello_is_repeated_by_openssl_as_well() -> None:
    link = dtls_link(forward=Path(loss=1.0))
    link.run(lambda: False, deadline=0.1)
    client = link.left.machine
    assert isinstance(client, DtlsTransport)
    before = client._flight
    time.sleep(1.1)
    link.run(lambda: False, deadline=1.2)
    (old,), (new,) = before, client._flight
    assert old[:11] != new[:11]  # a new sequence number
    assert old[13:] == new[13:]  # the same message
