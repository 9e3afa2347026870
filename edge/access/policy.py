"""Who may open a session, on what terms, and how many.

Two workers may have a part in one session: the one that a client's request reached, and the one
that will own the session.

- The first calls ``authorize``: are the credentials good, is the route theirs, are there too many
  offers? The ``Grant`` that comes out can be sent to another worker.
- The owner calls ``admit``: it uses the token up and takes a place for the session, which counts
  until it is released.

Everything that has to be the same for all workers is in ``AccessTables``. Times: unix seconds.
"""

import hmac
from collections.abc import Sequence

from attrs import evolve

from edge.access.client_secrets import ClientSecret, SecretRequest
from edge.access.keys import KeyRing
from edge.access.origins import AllowedOrigins
from edge.access.quota import Account, Lease, address_name
from edge.access.reasons import AccessReason, refuse
from edge.access.replay import UsedTokens
from edge.access.settings import ANYTHING, AccessSettings, ApiKey, KeyTerms, digest_api_key
from edge.access.tables import AccessTables
from edge.access.tokens import LEEWAY, TOKEN_CHARS_MAX, Grant, mint, open_token
from edge.errors import AccessError
from edge.machine import Entropy


class Admission:
    """A session's permit, held by its owner."""

    def __init__(
        self, lease: Lease, max_duration: float | None, token: str | None, used: UsedTokens
    ) -> None:
        self.max_duration = max_duration
        """Seconds that the session may last; None: as long as it likes."""
        self._lease = lease
        self._token = token
        self._used = used

    def release(self) -> None:
        """Give the session's place back: it is over. Again does nothing."""
        self._token = None
        self._lease.release()

    def withdraw(self) -> None:
        """Give the place back and make the token good again: no session came of it."""
        token = self._token
        self.release()
        if token is None:
            return
        try:
            self._used.forget(token)
        except AccessError:
            return  # the lock was not to be had: the token stays used, which harms nobody else


class AccessPolicy:
    """Decides for one worker.

    Raises:
        ValueError: two token keys have one id, or one has the id of the own key.

    """

    def __init__(self, settings: AccessSettings, tables: AccessTables, entropy: Entropy) -> None:
        self._settings = settings
        self._tables = tables
        self._entropy = entropy
        self._keys = KeyRing([settings.own_key, *(each.key for each in settings.token_keys)])
        self._terms = {_token_name(each.key.id): each.terms for each in settings.token_keys}
        self._terms |= {_api_name(each.name): each.terms for each in settings.api_keys}
        self._has_keys = bool(self._terms)
        self.origins = AllowedOrigins(settings.origins)

    def check_origin(self, origin: str | None) -> None:
        """Refuse pages of strangers. ``origin``: the header, None without one.

        Raises:
            AccessError: origin-forbidden.

        """
        if not self.origins.allows(origin):
            raise refuse(AccessReason.ORIGIN_FORBIDDEN)

    def authorize(
        self, credentials: str | None, route: str | None, source: str, now: float
    ) -> Grant:
        """Return what an offer is good for, its route settled.

        ``credentials``: a client secret or an API key, without ``Bearer``. ``route``: the one asked
        for, None for the default one. ``source``: the client's numeric address. The offer counts,
        on its address also if the secret is bad.

        Raises:
            AccessError: credentials-missing, token-..., route-forbidden, quota-offers or
                access-busy; never token-used, which ``admit`` finds out.

        """
        settings, quotas = self._settings, self._tables.quotas
        if settings.open and (credentials is None or not self._has_keys):
            quotas.count_offer(self._address(source), now)
            return Grant(route=route)
        if credentials is None:
            raise refuse(AccessReason.CREDENTIALS_MISSING)
        api_key = self._find_api_key(credentials)
        if api_key is not None:
            grant = Grant(key=_api_name(api_key.name))
        else:
            quotas.count_offer(self._address(source), now)
            grant = self._open_token(credentials, now)
        quotas.count_offer(self._key_and_tenant(grant), now)
        return evolve(grant, route=self._settle_route(grant, route))

    def admit(self, grant: Grant, source: str, now: float) -> Admission:
        """Use a grant up for one session.

        Raises:
            AccessError: token-used, quota-sessions or access-busy. Nothing was used up.

        """
        accounts = self._key_and_tenant(grant)
        if grant.token_id is not None or not grant.key:
            accounts = (*accounts, *self._address(source))
        lease = self._tables.quotas.open_session(accounts, now)
        token = None
        if grant.token_id is not None and grant.expires_at is not None:
            token = f"{grant.key}:{grant.token_id}"
            try:
                self._tables.used.claim(token, grant.expires_at + LEEWAY, now)
            except AccessError:
                lease.release()
                raise
        durations = (
            grant.max_duration,
            self._terms_of(grant).max_duration,
            self._settings.max_duration,
        )
        limits = [duration for duration in durations if duration is not None]
        return Admission(lease, min(limits, default=None), token, self._tables.used)

    def mint_secret(self, api_key: str | None, request: SecretRequest, now: float) -> ClientSecret:
        """Return a client secret for the holder of an API key.

        Raises:
            AccessError: credentials-missing, api-key-unknown, route-forbidden or request-malformed.

        """
        if api_key is None:
            raise refuse(AccessReason.CREDENTIALS_MISSING)
        holder = self._find_api_key(api_key)
        if holder is None:
            raise refuse(AccessReason.API_KEY_UNKNOWN)
        routes = holder.terms.routes
        if request.route is not None and routes and request.route not in routes:
            raise refuse(AccessReason.ROUTE_FORBIDDEN)
        settings = self._settings
        lifetime = settings.lifetime if request.lifetime is None else request.lifetime
        if lifetime > settings.lifetime_max:
            text = f"more than {settings.lifetime_max:g} seconds - at `$.lifetime`"
            raise refuse(AccessReason.REQUEST_MALFORMED, text)
        grant = Grant(
            expires_at=now + lifetime,
            route=request.route,
            max_duration=request.max_duration,
            tenant=request.tenant,
            metadata=request.metadata or {},
            issuer=holder.name,
        )
        return ClientSecret(mint(settings.own_key, grant, now, self._entropy), int(now + lifetime))

    def _open_token(self, token: str, now: float) -> Grant:
        grant = open_token(token, self._keys, self._settings.lifetime_max, now)
        if grant.key == self._settings.own_key.id:
            grant = evolve(grant, key=_api_name(grant.issuer or ""))
        else:
            grant = evolve(grant, key=_token_name(grant.key))
        if grant.key not in self._terms:  # the API key that it was minted with is gone
            raise refuse(AccessReason.TOKEN_KEY)
        return grant

    def _find_api_key(self, text: str) -> ApiKey | None:
        """Return the key with this text, after looking at all of them."""
        if len(text) > TOKEN_CHARS_MAX:
            return None
        digest = digest_api_key(text)
        found = None
        for each in self._settings.api_keys:
            if hmac.compare_digest(each.digest, digest):
                found = each
        return found

    def _settle_route(self, grant: Grant, asked: str | None) -> str | None:
        if grant.route is not None and asked not in {None, grant.route}:
            raise refuse(AccessReason.ROUTE_FORBIDDEN)
        route = asked if grant.route is None else grant.route
        routes = self._terms_of(grant).routes
        if routes and (route or self._settings.default_route) not in routes:
            raise refuse(AccessReason.ROUTE_FORBIDDEN)
        return route

    def _terms_of(self, grant: Grant) -> KeyTerms:
        return self._terms.get(grant.key, ANYTHING)

    def _key_and_tenant(self, grant: Grant) -> Sequence[Account]:
        if not grant.key:
            return ()
        key = Account(grant.key, self._terms_of(grant).limits)
        if grant.tenant is None:
            return (key,)
        return key, Account(f"tenant:{grant.key}:{grant.tenant}", self._settings.tenant)

    def _address(self, source: str) -> Sequence[Account]:
        name = address_name(source)
        return () if name is None else (Account(f"address:{name}", self._settings.address),)


def _api_name(name: str) -> str:
    return f"api:{name}"


def _token_name(key_id: str) -> str:
    return f"token:{key_id}"
