"""Secrets in log lines: masked, whoever put them there, and what operators need is not."""

import base64
import random
import secrets
import time

import pytest

from edge.logs.redaction import MASK, redact
from edge.logs.text import TEXT_CHARS_MAX
from edge.routing.ufrag import KEY_BYTES, KEY_IDS, RoutingKey, UfragIssuer, derive_password

TOKEN = (
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwiZXhwIjoxfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)


@pytest.mark.parametrize("key_id", KEY_IDS)
def test_ufrags_of_ours(key_id: int) -> None:
    entropy = random.Random(key_id).randbytes
    issuer = UfragIssuer(7, 3, RoutingKey(key_id, entropy(KEY_BYTES)), entropy)
    for _ in range(200):
        ufrag = issuer.issue(1_700_000_000.0)
        for text in (ufrag, f"a check for {ufrag}, late", f"USERNAME {ufrag}:9uB6", f"'{ufrag}'"):
            assert ufrag not in redact(text)
        assert redact(f"USERNAME {ufrag}:9uB6 is odd") == f"USERNAME {MASK} is odd"


def test_ice_passwords_of_ours() -> None:
    entropy = random.Random(1).randbytes
    key = entropy(32)
    for number in range(200):
        password = derive_password(key, f"ufrag{number}")
        if any(each.isdigit() for each in password):
            assert redact(f"password {password}") == f"password {MASK}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=ice-pwd:asd88fgpdd777uzjYhagZg\r\n", f"a=ice-pwd:{MASK}\r\n"),
        ("a=ice-ufrag:8hhY\\r\\na=mid:0", f"a=ice-ufrag:{MASK}\\r\\na=mid:0"),
        ("Authorization: Bearer abcdef.ghi/jkl=", f"Authorization: Bearer {MASK}"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", f"{{'authorization': 'Basic {MASK}'}}"),
        ("sent bearer 0123456789", f"sent bearer {MASK}"),
        ("wss://user:secret@backend.example/path", f"wss://{MASK}@backend.example/path"),
        ("GET /v1?access_token=abc&route=x", f"GET /v1?access_token={MASK}&route=x"),
        ('{"client_secret": "abc", "route": "x"}', f'{{"client_secret": "{MASK}", "route": "x"}}'),
        ("Key(id=1, key=b'\\x00\\x01')", f"Key(id=1, key=b'{MASK}')"),
        ("openai-insecure-api-key.sk-proj-abcdefgh", f"openai-insecure-api-key.sk-{MASK}"),
        (f"token {TOKEN} was used", f"token {MASK} was used"),
        (f"ek_{TOKEN}", f"ek_{MASK}"),
        ("000102030405060708090a0b0c0d0e0f", MASK),
        (
            "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\nthen",
            f"{MASK}\nthen",
        ),
        ("-----BEGIN EC PRIVATE KEY-----\nMIGH", MASK),
    ],
)
def test_shapes_of_secrets(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_random_words() -> None:
    for seed in range(200):
        word = base64.urlsafe_b64encode(random.Random(seed).randbytes(18)).decode()
        if any(each.isdigit() for each in word):
            assert redact(f"/v1/whip/0.513.abc.{word}") == f"/v1/whip/0.513.abc.{MASK}"


@pytest.mark.parametrize(
    "text",
    [
        f"session 1.513.{secrets.token_urlsafe(12)} ended: client-bye",
        "media on udp [2001:db8::1]:3478",
        "ready: 2 relay and 2 transceiver workers",
        "reload: nothing was changed: /etc/edge/edge.toml:3: keys.routing[0].key: not 32 digits",
        "access.token_keys[0].secret: at least 32 characters",
        '  File "/opt/edge/versions/0.1.0-1/lib/python3.11/site-packages/OpenSSL/SSL.py", line 12',
        "backend wss://backend.example:8443/v1/realtime?model=gpt-realtime",
        "call 6a1f7f0e-6f0e-4c53-9c35-0e7c4d5a8b11: AES128_CM_HMAC_SHA1_80, max_tokens=5",
        "edge.transceiver.driver:SessionDriver._crash_now",
    ],
)
def test_what_operators_need_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "A1a",
        "a-",
        "eyJ-",
        "eyJ.",
        "://",
        "token-",
        "'key",
        "authorization ",
        "ice-pwd ",
        "=A9z/",
    ],
)
def test_hostile_texts_take_no_time(piece: str) -> None:
    text = (piece * TEXT_CHARS_MAX)[:TEXT_CHARS_MAX]
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 0.5
