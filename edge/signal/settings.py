"""The limits of the signaling server."""

from attrs import frozen


@frozen
class SignalSettings:
    """Limits and times (seconds) of one worker's signaling server."""

    path: str = "/v1/session"
    """Of the WebSocket endpoint."""
    grace: float = 2.0
    """How long a session outlives its WebSocket."""
    connections_max: int = 2_000
    """More are answered 503."""
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
    """How long the client may take to make room for one message."""
    reports_max: int = 64
    """How many messages may wait for a slow client."""
    ping_interval: float = 20.0
    """How often to ping, and how long to wait for the pong."""
    close_timeout: float = 1.0
    """How long to wait for the client's part in closing, and for shutting down in order."""
    head_timeout: float = 10.0
    """How long the client may take for its request head."""
    head_bytes_max: int = 16_384
    headers_max: int = 100
