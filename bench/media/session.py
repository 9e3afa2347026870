"""A session with a media path of one's own, connected to a client without any network."""

import random

from edge.dtls.context import DtlsContexts
from edge.dtls.keying import Role
from edge.ice.credentials import Credentials
from edge.media.endpoint import MediaEndpoint
from edge.srtp.session import SrtpSession
from edge.transceiver.session import Peer as PeerFacts
from edge.transceiver.session import Session
from tests.support.calls import CLIENT, IDENTITIES, LIMITS, SERVER, SERVER_CONTEXTS, UNIX_TIME
from tests.support.link import Endpoint, Link
from tests.support.peer import PAYLOAD_TYPE, Peer

SETTLE = 1.0


def connect(media: MediaEndpoint) -> tuple[Session, SrtpSession, float]:
    """Return the session, the client's keys and the time at which all is connected."""
    entropy = random.Random(1).randbytes
    server, client = Credentials("serverufrag", "s" * 32), Credentials("clientufrag", "c" * 32)
    facts = PeerFacts(
        role=Role.CLIENT,
        fingerprints=(IDENTITIES[1].fingerprint(),),
        payload_types=frozenset({PAYLOAD_TYPE}),
        mid=b"0",
        mid_extension=4,
        may_send=True,
    )
    session = Session(
        server,
        facts,
        media,
        SERVER_CONTEXTS,
        LIMITS,
        cname=b"cname",
        wall_offset=UNIX_TIME,
        entropy=entropy,
        now=0.0,
    )
    contexts, fingerprint = DtlsContexts(IDENTITIES[1]), IDENTITIES[0].fingerprint()
    peer = Peer(client, server, SERVER, Role.SERVER, contexts, fingerprint, entropy, frames=0)
    peer.start(0.0)
    link = Link(Endpoint(peer, CLIENT), Endpoint(session, SERVER))
    link.run(lambda: False, deadline=SETTLE)
    assert peer.srtp is not None
    return session, peer.srtp, link.now
