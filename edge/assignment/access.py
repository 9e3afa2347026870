"""What a transceiver worker is told of who may open a session, and where it counts them."""

from edge.access.quota import Limits
from edge.access.settings import AccessSettings, ApiKey, KeyTerms, TrustedKey, derive_own_key
from edge.access.tables import TableSizes
from edge.assignment.neighbourhood import Neighbourhood
from edge.config import Config
from edge.config.access import KeyTable
from edge.keys import KeySet
from edge.routing.numbers import SLOTS_MAX
from edge.transceiver.settings import AccessShare


def access_share(config: Config, keys: KeySet, neighbourhood: Neighbourhood) -> AccessShare:
    return AccessShare(
        _settings(config, keys),
        neighbourhood.access_memory,
        access_sizes(config),
        neighbourhood.access_hash_key,
    )


def access_sizes(config: Config) -> TableSizes:
    """Return how much the tables of who was let in hold."""
    access = config.access
    return TableSizes(access.tokens_max, access.accounts_max, SLOTS_MAX)


def _settings(config: Config, keys: KeySet) -> AccessSettings:
    access = config.access
    return AccessSettings(
        own_key=derive_own_key(keys.password_key),
        open=access.is_open(on_loopback=config.signal.on_loopback),
        token_keys=tuple(TrustedKey(each.key(), _terms(each)) for each in access.token_keys),
        api_keys=tuple(
            ApiKey(each.name, bytes(each.key), _terms(each)) for each in access.api_keys
        ),
        origins=access.origins,
        default_route=str(config.signal.default_route),
        lifetime=access.default_lifetime,
        lifetime_max=access.lifetime_max,
        max_duration=access.session_duration_max or None,
        tenant=Limits(access.tenant_sessions_max, access.tenant_offers_per_minute),
        address=Limits(access.address_sessions_max, access.address_offers_per_minute),
    )


def _terms(key: KeyTable) -> KeyTerms:
    return KeyTerms(
        routes=frozenset(str(route) for route in key.routes),
        limits=Limits(key.sessions_max, key.offers_per_minute),
        max_duration=key.session_duration_max or None,
    )
