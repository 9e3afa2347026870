"""What an operator's server asks for when it wants a client secret, and what it gets."""

import msgspec
from attrs import field, frozen

from edge.access.metadata import metadata_problem
from edge.access.reasons import AccessReason, refuse
from edge.access.tokens import Duration, Label, RouteName

_DETAIL_CHARS_MAX = 200


class SecretRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/client_secrets``. All fields may be left out."""

    route: RouteName | None = None
    """The only route that the secret opens; None: any."""
    max_duration: Duration | None = None
    """Seconds that the session may last."""
    metadata: dict[str, object] | None = None
    """For the backend."""
    tenant: Label | None = None
    """Sessions of one tenant are counted together."""
    lifetime: Duration | None = None
    """Seconds within which the secret has to be used."""


@frozen
class ClientSecret:
    """A minted secret."""

    value: str = field(repr=False)
    expires_at: int
    """Unix seconds."""


_decoder = msgspec.json.Decoder(SecretRequest)


def decode_secret_request(body: bytes) -> SecretRequest:
    """Decode a body; an empty one asks for nothing special.

    Raises:
        AccessError: request-malformed; the text names the field at fault.

    """
    try:
        request = _decoder.decode(body or b"{}")
    except (msgspec.DecodeError, RecursionError) as exc:
        raise refuse(AccessReason.REQUEST_MALFORMED, str(exc)[:_DETAIL_CHARS_MAX]) from exc
    problem = metadata_problem(request.metadata) if request.metadata is not None else None
    if problem is not None:
        raise refuse(AccessReason.REQUEST_MALFORMED, problem)
    return request
