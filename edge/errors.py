"""Every exception that edge raises on purpose.

Protocol errors say whose fault they are. A remote error carries a ``reason``: a short, fixed,
kebab-case word from the raising module's small set. It is what gets counted and exported, so it
never contains anything that the peer sent.
"""


class EdgeError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(EdgeError):
    """The operator's configuration cannot be used. The text names file, line and key path."""


class BootError(EdgeError):
    """The service or one of its workers cannot start; as a rule trying again would not help."""


class TransientBootError(BootError):
    """It could not start this time: trying again may help."""


class LocalProtocolError(EdgeError):
    """We used a protocol core in a way that it does not allow: a bug of ours."""


class RemoteProtocolError(EdgeError):
    """The peer sent something that we do not accept.

    ``reason`` is the metric label; the message is for people and may say more.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class StunError(RemoteProtocolError):
    """Not a STUN message that we answer."""


class UfragError(RemoteProtocolError):
    """Not a ufrag that we issued."""


class DtlsError(RemoteProtocolError):
    """The DTLS handshake or association cannot go on."""


class SrtpError(RemoteProtocolError):
    """An SRTP or SRTCP packet failed authentication, replay protection or size limits."""


class RtpError(RemoteProtocolError):
    """Malformed RTP or RTCP."""


class SdpError(RemoteProtocolError):
    """An offer that cannot be parsed, or that we refuse."""


class SignalError(RemoteProtocolError):
    """A signaling message that breaks the protocol or a limit."""

    def __init__(self, reason: str, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after
        """Seconds after which another try may succeed; None: nobody knows."""


class RedirectError(EdgeError):
    """No session here: another cluster is this client's."""

    def __init__(self, signaling: str) -> None:
        super().__init__(f"this client is sent to {signaling}")
        self.signaling = signaling
        """The WebSocket URL of that cluster."""


class FrameError(RemoteProtocolError):
    """A malformed batch frame on the internal hop."""


class FleetError(RemoteProtocolError):
    """Another host, or who claims to be one, breaks the protocol of the control channel."""


class AudioError(RemoteProtocolError):
    """Sound that a codec cannot decode."""


class BackendError(RemoteProtocolError):
    """A backend that breaks its protocol or a limit, or refuses the session."""


class StoreError(RemoteProtocolError):
    """Redis cannot be asked, refuses, or holds what cannot be used."""


class AccessError(RemoteProtocolError):
    """Someone who may not do what he asks for, or not now."""

    def __init__(self, reason: str, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after
        """Seconds after which another try may succeed; None: it will not."""
