"""Access as a whole: who gets in, on what terms, and what it is called when he does not."""

import itertools
import pickle
from contextlib import nullcontext
from hashlib import sha256
from typing import Any

import jwt
import msgspec
import pytest
from attrs import evolve

from edge.access.client_secrets import SecretRequest, decode_secret_request
from edge.access.keys import SharedKey
from edge.access.origins import OriginPattern
from edge.access.policy import AccessPolicy
from edge.access.quota import Limits
from edge.access.reasons import AccessReason, challenge, http_status, refuse
from edge.access.settings import (
    AccessSettings,
    ApiKey,
    KeyTerms,
    TrustedKey,
    api_key_digest,
    derive_own_key,
)
from edge.access.tables import AccessTables, TableSizes, open_tables
from edge.access.tokens import Grant, mint
from edge.errors import AccessError

NOW = 1_800_000_000.0
SIZES = TableSizes(tokens_max=100, accounts_max=100, workers=2)
CLIENT = "192.0.2.1"
API_KEY = "an API key that is long enough to pass"
OTHER_API_KEY = "another API key that is long enough, too"
MAIN = SharedKey("main", b"a shared secret of 32 bytes or so")
SETTINGS = AccessSettings(
    own_key=derive_own_key(bytes(32)),
    token_keys=(TrustedKey(MAIN),),
    api_keys=(ApiKey("backend", api_key_digest(API_KEY)),),
)


def make_memory() -> memoryview:
    return memoryview(bytearray(SIZES.memory_bytes))


def make_tables(memory: memoryview | None = None, worker: int = 0) -> AccessTables:
    return open_tables(memory or make_memory(), nullcontext, bytes(16), worker, SIZES)


def make_policy(tables: AccessTables | None = None, **changes: Any) -> AccessPolicy:
    numbers = itertools.count()
    return AccessPolicy(
        evolve(SETTINGS, **changes), tables or make_tables(), lambda n: next(numbers).to_bytes(n)
    )


_ids = itertools.count()


def make_token(key: SharedKey = MAIN, **terms: Any) -> str:
    grant = evolve(Grant(expires_at=NOW + 60, token_id=f"j{next(_ids)}"), **terms)
    return mint(key, grant, NOW, bytes)


def refusal(policy: AccessPolicy, credentials: str | None, route: str | None = None) -> AccessError:
    with pytest.raises(AccessError) as caught:
        policy.authorize(credentials, route, CLIENT, NOW)
    return caught.value


def test_closed_means_credentials() -> None:
    error = refusal(make_policy(), None)
    assert error.reason == "credentials-missing"
    assert http_status(error) == 401
    assert challenge(error) == "Bearer"


def test_open_means_without_but_bad_ones_are_refused() -> None:
    policy = make_policy(open=True)
    grant = policy.authorize(None, "support", CLIENT, NOW)
    assert grant == Grant(route="support")
    assert policy.admit(grant, CLIENT, NOW).max_duration is None
    assert refusal(policy, make_token() + "x").reason == "token-signature"
    assert policy.authorize(make_token(), None, CLIENT, NOW).key == "token:main"


def test_open_without_any_keys_takes_no_offence_at_strange_ones() -> None:
    """Stock clients insist on sending some key."""
    policy = make_policy(open=True, token_keys=(), api_keys=())
    assert policy.authorize("sk-whatever", None, CLIENT, NOW) == Grant()


def test_a_token_opens_one_session() -> None:
    memory = make_memory()
    one = make_policy(make_tables(memory))
    other = make_policy(make_tables(memory, 1))
    token = make_token(tenant="t", metadata={"user": 7}, route="support", max_duration=30.0)
    grant = one.authorize(token, None, CLIENT, NOW)
    assert (grant.tenant, grant.metadata, grant.route) == ("t", {"user": 7}, "support")
    travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(grant), type=Grant)
    admission = other.admit(travelled, CLIENT, NOW)
    assert admission.max_duration == 30.0
    for policy in (one, other):
        grant = policy.authorize(token, None, CLIENT, NOW)
        with pytest.raises(AccessError, match="used already") as caught:
            policy.admit(grant, CLIENT, NOW)
        assert caught.value.reason == "token-used"
        assert challenge(caught.value) == 'Bearer error="invalid_token"'
    admission.release()
    admission.withdraw()
    with pytest.raises(AccessError, match="used already"):
        one.admit(grant, CLIENT, NOW)


def test_a_session_that_did_not_come_about_costs_no_token() -> None:
    policy = make_policy(address=Limits(sessions_max=1))
    grant = policy.authorize(make_token(), None, CLIENT, NOW)
    policy.admit(grant, CLIENT, NOW).withdraw()
    policy.admit(grant, CLIENT, NOW)


def test_a_refused_session_costs_no_token_and_a_used_token_no_place() -> None:
    policy = make_policy(address=Limits(sessions_max=2))
    first, second, third = (policy.authorize(make_token(), None, CLIENT, NOW) for _ in range(3))
    admission = policy.admit(first, CLIENT, NOW)
    for _ in range(5):
        with pytest.raises(AccessError, match="used already"):
            policy.admit(first, CLIENT, NOW)
    policy.admit(second, CLIENT, NOW)
    with pytest.raises(AccessError) as caught:
        policy.admit(third, CLIENT, NOW)
    assert caught.value.reason == "quota-sessions"
    assert http_status(caught.value) == 429
    admission.release()
    policy.admit(third, CLIENT, NOW)


def test_a_route_is_the_tokens_or_the_one_asked_for() -> None:
    policy = make_policy()
    assert policy.authorize(make_token(), "a", CLIENT, NOW).route == "a"
    assert policy.authorize(make_token(), None, CLIENT, NOW).route is None
    assert policy.authorize(make_token(route="a"), None, CLIENT, NOW).route == "a"
    assert policy.authorize(make_token(route="a"), "a", CLIENT, NOW).route == "a"
    error = refusal(policy, make_token(route="a"), "b")
    assert error.reason == "route-forbidden"
    assert http_status(error) == 403
    assert challenge(error) is None


def test_a_key_is_good_for_its_routes_only() -> None:
    terms = KeyTerms(routes=frozenset({"a"}))
    policy = make_policy(
        token_keys=(TrustedKey(MAIN, terms),),
        api_keys=(ApiKey("backend", api_key_digest(API_KEY), terms),),
    )
    for credentials in (make_token(), API_KEY):
        assert policy.authorize(credentials, "a", CLIENT, NOW).route == "a"
        assert refusal(policy, credentials, "b").reason == "route-forbidden"
        assert refusal(policy, credentials).reason == "route-forbidden", "the default one"
    assert refusal(policy, make_token(route="b")).reason == "route-forbidden"
    with pytest.raises(AccessError) as caught:
        policy.mint_secret(API_KEY, SecretRequest(route="b"), NOW)
    assert caught.value.reason == "route-forbidden"
    secret = policy.mint_secret(API_KEY, SecretRequest(), NOW).value
    assert policy.authorize(secret, "a", CLIENT, NOW).route == "a"
    assert refusal(policy, secret, "b").reason == "route-forbidden"
    by_default = make_policy(token_keys=(TrustedKey(MAIN, terms),), default_route="a")
    assert by_default.authorize(make_token(), None, CLIENT, NOW).route is None


@pytest.mark.parametrize(
    ("of_token", "of_key", "of_all", "expected"),
    [
        (None, None, None, None),
        (30.0, None, None, 30.0),
        (30.0, 20.0, None, 20.0),
        (30.0, 20.0, 10.0, 10.0),
        (5.0, 20.0, 10.0, 5.0),
        (None, None, 10.0, 10.0),
    ],
)
def test_the_shortest_duration_counts(
    of_token: float | None, of_key: float | None, of_all: float | None, expected: float | None
) -> None:
    key = TrustedKey(MAIN, KeyTerms(max_duration=of_key))
    policy = make_policy(token_keys=(key,), max_duration=of_all)
    grant = policy.authorize(make_token(max_duration=of_token), None, CLIENT, NOW)
    assert policy.admit(grant, CLIENT, NOW).max_duration == expected


def test_bad_credentials_count_on_the_address() -> None:
    policy = make_policy(address=Limits(offers_per_minute=5))
    for _ in range(5):
        assert refusal(policy, "rubbish").reason == "token-malformed"
    error = refusal(policy, make_token())
    assert error.reason == "quota-offers"
    assert error.retry_after == pytest.approx(12)
    assert http_status(error) == 429
    policy.authorize(make_token(), None, "192.0.2.2", NOW)


def test_loopback_is_not_counted() -> None:
    policy = make_policy(open=True, address=Limits(sessions_max=1, offers_per_minute=1))
    for _ in range(10):
        policy.admit(policy.authorize(None, None, "127.0.0.1", NOW), "127.0.0.1", NOW)
    policy.authorize(None, None, CLIENT, NOW)
    assert refusal(policy, None).reason == "quota-offers"


def test_tenants_of_a_key_are_counted_apart_and_keys_as_a_whole() -> None:
    limits = KeyTerms(limits=Limits(sessions_max=3))
    policy = make_policy(token_keys=(TrustedKey(MAIN, limits),), tenant=Limits(sessions_max=2))

    def open_as(tenant: str | None) -> None:
        policy.admit(policy.authorize(make_token(tenant=tenant), None, CLIENT, NOW), CLIENT, NOW)

    open_as("a")
    open_as("a")
    with pytest.raises(AccessError, match="at once"):
        open_as("a")
    open_as("b")
    with pytest.raises(AccessError, match="at once"):
        open_as(None)
    with pytest.raises(AccessError, match="at once"):
        open_as("c")


def test_offers_of_a_key_are_limited() -> None:
    terms = KeyTerms(limits=Limits(offers_per_minute=2))
    policy = make_policy(api_keys=(ApiKey("backend", api_key_digest(API_KEY), terms),))
    secrets = [policy.mint_secret(API_KEY, SecretRequest(), NOW).value for _ in range(3)]
    policy.authorize(secrets[0], None, CLIENT, NOW)
    policy.authorize(API_KEY, None, CLIENT, NOW)
    assert refusal(policy, secrets[1]).reason == "quota-offers"
    policy.authorize(make_token(), None, CLIENT, NOW)


def test_an_api_key_opens_sessions_from_any_address() -> None:
    policy = make_policy(address=Limits(sessions_max=1, offers_per_minute=1))
    for _ in range(5):
        grant = policy.authorize(API_KEY, "a", CLIENT, NOW)
        assert grant == Grant(key="api:backend", route="a")
        policy.admit(grant, CLIENT, NOW)


def test_secrets_that_are_minted_here_open_on_every_host_with_the_same_keys() -> None:
    request = decode_secret_request(
        b'{"route": "support", "max_duration": 600, "metadata": {"user": "u-1"},'
        b' "tenant": "acme", "lifetime": 120}'
    )
    secret = make_policy().mint_secret(API_KEY, request, NOW)
    assert secret.expires_at == NOW + 120
    assert secret.value not in repr(secret)
    grant = make_policy().authorize(secret.value, None, CLIENT, NOW + 119)
    assert grant == Grant(
        expires_at=NOW + 120,
        route="support",
        max_duration=600,
        tenant="acme",
        metadata={"user": "u-1"},
        issuer="backend",
        key="api:backend",
        token_id=grant.token_id,
    )
    assert refusal(make_policy(own_key=derive_own_key(b"\x01" * 32)), secret.value).reason == (
        "token-signature"
    )


def test_secrets_of_an_api_key_that_is_gone_open_nothing() -> None:
    secret = make_policy().mint_secret(API_KEY, SecretRequest(), NOW).value
    other = (ApiKey("other", api_key_digest(API_KEY)),)
    assert refusal(make_policy(api_keys=other), secret).reason == "token-key"


def test_only_the_holder_of_an_api_key_mints() -> None:
    policy = make_policy()
    for shown, reason in (
        (None, "credentials-missing"),
        ("", "api-key-unknown"),
        (OTHER_API_KEY, "api-key-unknown"),
        (API_KEY[:-1], "api-key-unknown"),
        ("sha256:" + sha256(API_KEY.encode()).hexdigest(), "api-key-unknown"),
        ("\ud800", "api-key-unknown"),
        ("x" * 100_000, "api-key-unknown"),
        (make_token(), "api-key-unknown"),
    ):
        with pytest.raises(AccessError) as caught:
            policy.mint_secret(shown, SecretRequest(), NOW)
        assert caught.value.reason == reason
        assert http_status(caught.value) == 401


def test_a_secret_lives_no_longer_than_allowed() -> None:
    policy = make_policy(lifetime=30.0, lifetime_max=300.0)
    assert policy.mint_secret(API_KEY, SecretRequest(), NOW).expires_at == NOW + 30
    with pytest.raises(AccessError, match=r"\$\.lifetime") as caught:
        policy.mint_secret(API_KEY, SecretRequest(lifetime=301), NOW)
    assert http_status(caught.value) == 400
    assert refusal(policy, make_token(expires_at=NOW + 400)).reason == "token-claims"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b"\xff",
        b'{"rout": "a"}',
        b'{"route": "a b"}',
        b'{"max_duration": 0}',
        b'{"lifetime": -1}',
        b'{"tenant": ""}',
        b'{"tenant": "a\\nb"}',
        b'{"metadata": 7}',
        b'{"metadata": {"a": ' + b"[" * 9 + b"]" * 9 + b"}}",
        b'{"metadata": {"a": ' + b"[" * 2000 + b"]" * 2000 + b"}}",
        b'{"metadata": {"a": "' + b"x" * 4096 + b'"}}',
    ],
)
def test_requests_that_make_no_sense(body: bytes) -> None:
    with pytest.raises(AccessError) as caught:
        decode_secret_request(body)
    assert caught.value.reason == "request-malformed"


def test_an_empty_body_asks_for_nothing_special() -> None:
    assert decode_secret_request(b"") == SecretRequest()


def test_api_keys_are_configured_in_the_clear_or_hashed() -> None:
    digest = sha256(API_KEY.encode()).digest()
    assert api_key_digest(API_KEY) == digest
    assert api_key_digest("sha256:" + digest.hex().upper()) == digest
    for text in ("", "short-but-secret", "sha256:" + digest.hex()[:20]):
        with pytest.raises(ValueError, match="32 characters") as caught:
            api_key_digest(text)
        assert not text or text not in str(caught.value)


def test_origins() -> None:
    policy = make_policy(origins=(OriginPattern.parse("https://app.example.com"),))
    policy.check_origin(None)
    policy.check_origin("https://app.example.com")
    with pytest.raises(AccessError) as caught:
        policy.check_origin("https://evil.example")
    assert http_status(caught.value) == 403
    make_policy().check_origin("http://localhost:8080")


def test_every_reason_has_a_status_and_a_sentence() -> None:
    statuses = {reason: http_status(refuse(reason)) for reason in AccessReason}
    assert set(statuses.values()) == {400, 401, 403, 429, 503}
    assert all(str(refuse(reason)) for reason in AccessReason)


def test_settings_reach_workers_and_show_no_secrets() -> None:
    assert pickle.loads(pickle.dumps(SETTINGS)) == SETTINGS
    shown = repr(SETTINGS)
    assert "shared secret" not in shown
    assert repr(SETTINGS.own_key.secret)[2:-1] not in shown
    assert repr(SETTINGS.api_keys[0].digest)[2:-1] not in shown


def test_the_own_keys_id_is_taken() -> None:
    with pytest.raises(ValueError, match="edge"):
        make_policy(token_keys=(TrustedKey(SharedKey("edge", MAIN.secret)),))


def test_a_foreign_token_cannot_pass_for_one_of_ours() -> None:
    forged = jwt.encode(
        {"exp": NOW + 60, "jti": "j", "aud": "edge", "iss": "backend"},
        MAIN.secret,
        "HS256",
        {"kid": "edge"},
    )
    assert refusal(make_policy(), forged).reason == "token-signature"
    grant = make_policy().authorize(make_token(issuer="backend"), None, CLIENT, NOW)
    assert grant.key == "token:main"
