"""The limits of the signaling server."""

from attrs import frozen


@frozen
class SignalSettings:
    """Limits and times (seconds) of one worker's signaling server."""

    path: str = "/v1/session"
    """Of the WebSocket endpoint."""
    routes: frozenset[str] = frozenset()
    """The operator's routes. A realtime call whose model is one of them goes there."""
    grace: float = 20.0
    """How long a session outlives its WebSocket."""
    connections_max: int = 2_000
    """More are answered 503."""
    connections_per_source_max: int = 64
    """Of one IPv4 address or IPv6 /64; more are answered 503. Loopback is not counted: a proxy
    stands there. 0: no limit."""
    accepts_per_second: float = 300.0
    """How many connections are taken per listener. More wait in the kernel, for as long as it lets
    them."""
    accepts_at_once: int = 100
    """How many are taken without a pause after a quiet time."""
    turn_interval: float = 0.001
    """How far apart connections that have something to say at the same time are heard."""
    waiting_max: int = 512
    """How many connections may be without a complete request. Beyond it the one that has been so
    for longest is closed, so that idle ones cannot keep others out."""
    message_bytes_max: int = 131_072
    """Longer messages close the connection with 1009. JSON escapes make an offer of
    ``sdp.OFFER_BYTES_MAX`` longer than it is."""
    connection_bytes_max: int = 2_097_152
    """What one connection may send in its life: bounds what the WebSocket library may pile up for
    it, whatever its frames are."""
    refusals_max: int = 10
    """How many refused messages close the connection with 1008."""
    idle_timeout: float = 30.0
    """How long a connection may be without a session."""
    send_timeout: float = 10.0
    """How long the client may take to make room for one message or response."""
    reports_max: int = 64
    """How many messages may wait for a slow client."""
    ping_interval: float = 20.0
    """How often to ping, and how long to wait for the pong."""
    heartbeat_interval: float = 10.0
    """How often to send a message to a client that has a session: browsers show no pings to
    scripts. A client that misses one has time to resume within the grace."""
    close_timeout: float = 1.0
    """How long to wait for the client's part in closing, and for shutting down in order."""
    handshake_timeout: float = 10.0
    """How long the client may take for TLS."""
    head_timeout: float = 10.0
    """How long the client may take for its request head."""
    head_bytes_max: int = 16_384
    headers_max: int = 100
    body_timeout: float = 10.0
    """How long the client may take for its request's body."""
    keep_alive_timeout: float = 15.0
    """How long a connection may wait for its next request."""
    requests_max: int = 100
    """How many requests one connection may carry."""
    open_timeout: float = 10.0
    """How long the owner of a session may take to answer for it."""
    busy_retry: float = 5.0
    """The Retry-After of a refusal that does not know better."""
