"""docs/access.md: its examples run, and its tables are complete."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.access.client_secrets import SecretRequest, decode_secret_request
from edge.access.keys import KeyRing, PublicKey, SharedKey
from edge.access.origins import OriginPattern
from edge.access.reasons import AccessReason, http_status, refuse
from edge.access.tokens import LEEWAY, TOKEN_CHARS_MAX, open_token

DOCUMENT = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
LIFETIME_MAX = 600.0


def examples() -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    for block in re.findall("```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(block, namespace)
    return namespace


def test_a_secret_is_minted_offline_with_a_shared_key() -> None:
    mint: Callable[[str, str], str] = examples()["mint"]
    secret = "a secret that both sides have been told"
    keys = KeyRing([SharedKey("main", secret.encode())])
    grant = open_token(mint(secret, "u-17"), keys, LIFETIME_MAX, time.time())
    assert (grant.tenant, grant.route, grant.max_duration) == ("acme", "support", 600)
    assert grant.metadata == {"user": "u-17"}


def test_a_secret_is_minted_offline_with_a_private_key() -> None:
    mint: Callable[[str, str], str] = examples()["mint_with_private_key"]
    private = Ed25519PrivateKey.generate()
    private_pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    keys = KeyRing([PublicKey("signer", public_pem.decode())])
    token = mint(private_pem.decode(), "u-17")
    assert open_token(token, keys, LIFETIME_MAX, time.time()).metadata == {"user": "u-17"}


def test_the_request_is_one() -> None:
    body = re.search(r"application/json\n\n(\{.*\})", DOCUMENT)
    assert body is not None
    request = decode_secret_request(body[1].encode())
    assert all(getattr(request, name) is not None for name in SecretRequest.__struct_fields__)


def test_reasons_and_statuses() -> None:
    told = {
        reason: int(status)
        for reasons, status in re.findall(
            r"^\| (`[a-z`, -]+) \| (\d{3}) \|", DOCUMENT, re.MULTILINE
        )
        for reason in re.findall("`([a-z-]+)`", reasons)
    }
    assert told == {reason: http_status(refuse(reason)) for reason in AccessReason}


def test_limits() -> None:
    assert f"longer than {TOKEN_CHARS_MAX:,} characters" in DOCUMENT
    assert f"with {LEEWAY:g} s for clocks" in DOCUMENT


def test_origins() -> None:
    entries = re.findall(r"^\| `(\S+)` \| (?:this|any|pages|all)", DOCUMENT, re.MULTILINE)
    assert len(entries) == 5
    for entry in entries:
        OriginPattern.parse(entry)
