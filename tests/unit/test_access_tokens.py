"""Client secrets: what opens, what does not and why, and that nothing secret shows."""

import base64
import hmac
import json
import traceback
from typing import Any

import jwt
import msgspec
import pytest
from attrs import evolve
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.access.keys import KeyRing, PublicKey, SharedKey
from edge.access.tokens import LEEWAY, TOKEN_CHARS_MAX, Grant, mint, open_token
from edge.errors import AccessError

NOW = 1_800_000_000.0
LIFETIME_MAX = 600.0
SHARED = SharedKey("main", b"a shared secret of 32 bytes or so")
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CLAIMS: dict[str, Any] = {"exp": NOW + 60, "jti": "j1", "aud": "edge"}


def pem(key: Any) -> str:
    public = key.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = public.public_bytes(serialization.Encoding.PEM, form)
    return encoded.decode()


PUBLIC = PublicKey("signer", pem(PRIVATE))
KEYS = KeyRing([SHARED, PUBLIC])


def sign(claims: dict[str, Any], kid: str | None = "main", **header: Any) -> str:
    if kid is not None:
        header["kid"] = kid
    return jwt.encode(claims, SHARED.secret, "HS256", header)


def forge(header: dict[str, Any], payload: bytes, secret: bytes) -> str:
    """Sign by hand what PyJWT would not."""

    def encode(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = encode(json.dumps(header).encode()) + b"." + encode(payload)
    return (signed + b"." + encode(hmac.digest(secret, signed, "sha256"))).decode()


def refusal(token: str, now: float = NOW, keys: KeyRing = KEYS) -> str:
    with pytest.raises(AccessError) as caught:
        open_token(token, keys, LIFETIME_MAX, now)
    shown = "".join(traceback.format_exception(caught.value))
    assert not token or token not in shown
    assert all(part not in shown for part in token.split(".") if len(part) > 16)
    return caught.value.reason


def test_a_minted_token_grants_what_was_said() -> None:
    grant = Grant(
        expires_at=NOW + 60,
        route="support",
        max_duration=90.0,
        tenant="t-1",
        metadata={"user": "ü", "tags": [1, None]},
        issuer="backend",
    )
    token = mint(SHARED, grant, NOW, lambda n: b"\x01" * n)
    opened = open_token(token, KEYS, LIFETIME_MAX, NOW)
    assert opened == evolve(grant, key="main", token_id="AQEBAQEBAQEBAQEBAQEBAQ")


def test_any_jwt_library_reads_what_is_minted() -> None:
    token = mint(SHARED, Grant(expires_at=NOW + 60), NOW, bytes)
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, SHARED.secret, ["HS256"], options=options, audience="edge")
    assert claims == {
        "aud": "edge",
        "exp": NOW + 60,
        "iat": NOW,
        "jti": "AAAAAAAAAAAAAAAAAAAAAA",
    }
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "main", "typ": "JWT"}


def test_eddsa_tokens_open_with_the_public_key() -> None:
    token = jwt.encode(CLAIMS, PRIVATE, "EdDSA", {"kid": "signer"})
    assert open_token(token, KEYS, LIFETIME_MAX, NOW).key == "signer"
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    assert refusal(jwt.encode(CLAIMS, other, "EdDSA", {"kid": "signer"})) == "token-signature"


def test_the_key_chooses_the_algorithm_not_the_token() -> None:
    payload = json.dumps(CLAIMS).encode()
    unsigned = jwt.encode(CLAIMS, "", "none", {"kid": "main"})
    assert refusal(unsigned) == "token-malformed"
    assert refusal(unsigned + "AA") == "token-key"
    long = SHARED.secret * 2
    assert refusal(jwt.encode(CLAIMS, long, "HS512", {"kid": "main"})) == "token-key"
    # The classic: the public key, which everybody may know, taken for an HMAC secret.
    confused = forge({"alg": "HS256", "kid": "signer"}, payload, PUBLIC.pem.encode())
    assert refusal(confused) == "token-key"
    signed_by_the_wrong_kind = jwt.encode(CLAIMS, PRIVATE, "EdDSA", {"kid": "main"})
    assert refusal(signed_by_the_wrong_kind) == "token-key"


@pytest.mark.parametrize("kid", [None, "other", "signer", "", "MAIN"])
def test_the_kid_selects_the_key(kid: str | None) -> None:
    assert refusal(sign(CLAIMS, kid)) == "token-key"


def test_the_wrong_secret_is_a_wrong_signature() -> None:
    token = jwt.encode(CLAIMS, b"another secret of at least 32 bytes", "HS256", {"kid": "main"})
    assert refusal(token) == "token-signature"
    good = sign(CLAIMS)
    head, payload, signature = good.split(".")
    other = sign(CLAIMS | {"route": "vip"}).split(".")[1]
    assert refusal(f"{head}.{other}.{signature}") == "token-signature"
    assert refusal(f"{head}.{payload}.AAAA") == "token-signature"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "a.b.c",
        "sk-this-is-not-a-token-at-all",
        "....",
        "ä.ö.ü",
        "\ud800.a.b",
        "a" * (TOKEN_CHARS_MAX + 1),
        "bm90.anNvbg.AAAA",
        "W10.e30.AAAA",
        "eyJhbGciOiJIUzI1NiIsImtpZCI6N30.e30.AAAA",
        sign(CLAIMS) + "\n",
        sign(CLAIMS) + "==",
        sign(CLAIMS, crit=["exp"]),
        forge({"alg": "HS256", "kid": "main", "b64": False, "crit": ["b64"]}, b"{}", b"x"),
    ],
)
def test_what_is_no_jwt_is_malformed(token: str) -> None:
    assert refusal(token) == "token-malformed"


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CLAIMS.items() if key != name}


@pytest.mark.parametrize(
    "claims",
    [
        without("exp"),
        without("jti"),
        without("aud"),
        CLAIMS | {"exp": str(NOW + 60)},
        CLAIMS | {"exp": None},
        CLAIMS | {"exp": True},
        CLAIMS | {"exp": NOW + LIFETIME_MAX + LEEWAY + 1},
        CLAIMS | {"exp": 10**300},
        CLAIMS | {"jti": ""},
        CLAIMS | {"jti": 7},
        CLAIMS | {"jti": "x" * 129},
        CLAIMS | {"jti": "two\nlines"},
        CLAIMS | {"aud": "edges"},
        CLAIMS | {"aud": ["other"]},
        CLAIMS | {"aud": []},
        CLAIMS | {"sub": "a\nb"},
        CLAIMS | {"route": "no/slashes"},
        CLAIMS | {"route": ""},
        CLAIMS | {"max_duration": 0},
        CLAIMS | {"max_duration": -5},
        CLAIMS | {"max_duration": "60"},
        CLAIMS | {"metadata": []},
        CLAIMS | {"metadata": {"long": "x" * 4096}},
        CLAIMS | {"metadata": {"a": [[[[[[[[1]]]]]]]]}},
        CLAIMS | {"nbf": "soon"},
    ],
)
def test_bad_claims_are_refused(claims: dict[str, Any]) -> None:
    assert refusal(sign(claims)) == "token-claims"


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b"7",
        b"\xff",
        b'{"exp": NaN}',
        b'{"exp": 1e400, "jti": "j", "aud": "edge"}',
        b'{"exp": ' + b"9" * 5000 + b', "jti": "j", "aud": "edge"}',
        b'{"metadata": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
def test_a_signed_payload_that_is_no_object_of_claims_is_refused(payload: bytes) -> None:
    assert refusal(forge({"alg": "HS256", "kid": "main"}, payload, SHARED.secret)) == "token-claims"


def test_unknown_claims_and_several_audiences_are_fine() -> None:
    token = sign(CLAIMS | {"aud": ["other", "edge"], "https://example.com/x": 1})
    assert open_token(token, KEYS, LIFETIME_MAX, NOW).token_id == "j1"


def test_times_have_a_small_leeway() -> None:
    token = sign(CLAIMS)
    assert open_token(token, KEYS, LIFETIME_MAX, NOW + 60 + LEEWAY - 1).expires_at == NOW + 60
    assert refusal(token, NOW + 60 + LEEWAY) == "token-expired"
    for name in ("nbf", "iat"):
        ahead = sign(CLAIMS | {name: NOW + LEEWAY + 1})
        assert refusal(ahead) == "token-not-yet"
        assert open_token(ahead, KEYS, LIFETIME_MAX, NOW + 1).key == "main"


def test_the_longest_metadata_fits() -> None:
    metadata = {"text": "ü" * 2042}
    grant = Grant(
        expires_at=NOW + 60, tenant="t" * 128, issuer="i" * 64, route="r" * 64, metadata=metadata
    )
    token = mint(SHARED, grant, NOW, bytes)
    assert len(msgspec.json.encode(metadata)) > 4090
    assert len(token) <= TOKEN_CHARS_MAX
    assert open_token(token, KEYS, LIFETIME_MAX, NOW).metadata == metadata


def test_a_grant_travels_between_workers() -> None:
    token = mint(SHARED, Grant(expires_at=NOW + 60, metadata={"a": [1]}), NOW, bytes)
    grant = open_token(token, KEYS, LIFETIME_MAX, NOW)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(grant), type=Grant) == grant


def test_secrets_have_no_repr() -> None:
    token = mint(SHARED, Grant(expires_at=NOW + 60, metadata={"pin": 4711}), NOW, bytes)
    grant = open_token(token, KEYS, LIFETIME_MAX, NOW)
    assert "4711" not in repr(grant)
    assert grant.token_id is not None
    assert grant.token_id not in repr(grant)
    assert "secret of" not in repr(SHARED)


@pytest.mark.parametrize(
    "secret", [b"", b"x" * 31, PUBLIC.pem.encode(), b'{"kty": "oct", "k": "%s"}' % (b"A" * 43)]
)
def test_weak_and_mistaken_secrets_are_no_keys(secret: bytes) -> None:
    with pytest.raises(ValueError, match=r"bytes or more|looks like") as caught:
        SharedKey("main", secret)
    assert not secret or secret.decode() not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519 AAAA",
        "ä",
        pem(Ed448PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP256R1())),
    ],
)
def test_other_public_keys_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a"):
        PublicKey("signer", text)


def test_a_private_key_is_refused_without_showing_it() -> None:
    secret = PRIVATE.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    with pytest.raises(ValueError, match="not a public key") as caught:
        PublicKey("signer", secret)
    assert secret.splitlines()[1] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a\n"])
def test_key_names_are_fit_for_logs(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        SharedKey(name, SHARED.secret)


def test_key_ids_are_unique() -> None:
    with pytest.raises(ValueError, match="main"):
        KeyRing([SHARED, SHARED])
