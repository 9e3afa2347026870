"""What one relay worker grants to clients that come over TCP."""

from attrs import frozen


@frozen
class StreamLimits:
    """Per relay worker. Times: seconds."""

    connections: int = 1_000
    half_open: int = 256
    """Connections that no transceiver has confirmed; when there are more, the oldest goes."""
    per_source: int = 256
    """Connections of one IPv4 address, or of one IPv6 /64. A company may be behind one address."""
    proof_time: float = 5.0
    """How long a connection may be without a good ufrag, and then without being confirmed."""
    slow_time: float = 10.0
    """How long something may wait to be written without a break."""
    silence_time: float = 60.0
    """How long a client may send nothing. libnice sends something every 25 s."""
