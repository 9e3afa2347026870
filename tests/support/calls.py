"""A session and a client that fit each other, without signaling."""

import random

from attrs import frozen

from edge.backend.echo import Echo
from edge.dtls.certificate import Identity
from edge.dtls.context import DtlsContexts
from edge.dtls.keying import Role
from edge.ice.credentials import Credentials
from edge.machine import Address, Entropy
from edge.media.endpoint import MediaEndpoint
from edge.srtp.profile import PREFERENCE, SrtpProfile
from edge.transceiver.session import Peer as PeerFacts
from edge.transceiver.session import Session, SessionLimits
from tests.support.link import Endpoint, Link, Path
from tests.support.peer import PAYLOAD_TYPE, Peer

CLIENT = Address("192.0.2.1", 40_000)
SERVER = Address("198.51.100.1", 3478)
LIMITS = SessionLimits(setup_timeout=15.0, consent_timeout=30.0)
UNIX_TIME = 1_800_000_000.0
"""What the virtual clock's zero is on the wall."""

IDENTITIES = [Identity.create(random.Random(seed).randbytes, UNIX_TIME) for seed in (1, 2, 3)]
SERVER_CONTEXTS = DtlsContexts(IDENTITIES[0])


@frozen
class Call:
    """Both ends and the network between them."""

    session: Session
    peer: Peer
    link: Link


def make_call(
    *,
    role: Role = Role.CLIENT,
    seed: int = 0,
    path: Path | None = None,
    frames: int | None = None,
    profiles: tuple[SrtpProfile, ...] = PREFERENCE,
    client_identity: Identity = IDENTITIES[1],
    limits: SessionLimits = LIMITS,
) -> Call:
    """Make a call whose server side has ``role`` in DTLS. The offer names ``IDENTITIES[1]``."""
    entropy = random.Random(seed).randbytes
    session, server, client = make_session(role, entropy, limits)
    peer = Peer(
        client,
        server,
        SERVER,
        Role.SERVER if role is Role.CLIENT else Role.CLIENT,
        DtlsContexts(client_identity, profiles),
        IDENTITIES[0].fingerprint(),
        entropy,
        frames=frames,
    )
    link = Link(
        Endpoint(peer, CLIENT), Endpoint(session, SERVER), seed=seed, forward=path, backward=path
    )
    return Call(session, peer, link)


def make_session(
    role: Role,
    entropy: Entropy,
    limits: SessionLimits = LIMITS,
    now: float = 0.0,
    media: MediaEndpoint | None = None,
) -> tuple[Session, Credentials, Credentials]:
    """Return a session, an echo as a rule, its own credentials and those of its client."""
    server = Credentials("serverufrag", "s" * 32)
    facts = PeerFacts(
        role=role,
        fingerprints=(IDENTITIES[1].fingerprint(),),
        payload_types=frozenset({PAYLOAD_TYPE}),
        mid=b"0",
        mid_extension=4,
        may_send=True,
    )
    session = Session(
        server,
        facts,
        media or Echo(facts.payload_types, entropy),
        SERVER_CONTEXTS,
        limits,
        cname=b"cname",
        wall_offset=UNIX_TIME,
        entropy=entropy,
        now=now,
    )
    return session, server, Credentials("clientufrag", "c" * 32)
