"""Who may come in by which door: TLS, origins, client secrets, quotas; and what logs say of it."""

import itertools
import json
import logging
import os
import ssl
import time
import warnings
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from trio_websocket import (
    WebSocketConnection,
    wrap_client_stream,
)

from edge.access.origins import OriginPattern
from edge.access.policy import AccessPolicy
from edge.access.quota import Limits
from edge.access.settings import AccessSettings, ApiKey, api_key_digest, derive_own_key
from edge.access.tables import TableSizes, open_tables
from edge.access.tokens import Grant, mint
from edge.errors import ConfigError
from edge.signal.tls import TlsIdentity
from tests.support.signal_server import OFFER, Server, connected, http_client, request, serving

CALLS = "/v1/realtime/calls"
SECRETS = "/v1/client_secrets"
SDP = "application/sdp"
JSON = "application/json"
PAGE = "https://app.example.com"
API_KEY = "sk-an-api-key-that-is-long-enough-to-pass"
SIZES = TableSizes(tokens_max=100, accounts_max=100)
OWN_KEY = derive_own_key(bytes(32))
ACCESS = AccessSettings(
    own_key=OWN_KEY,
    api_keys=(ApiKey("backend", api_key_digest(API_KEY)),),
    origins=(OriginPattern.parse(PAGE),),
)
_names = itertools.count()


def make_policy(**changes: Any) -> AccessPolicy:
    memory = memoryview(bytearray(SIZES.memory_bytes))
    tables = open_tables(memory, nullcontext, bytes(16), 0, SIZES)
    return AccessPolicy(evolve(ACCESS, **changes), tables, os.urandom)


def make_secret(**terms: Any) -> str:
    now = time.time()
    grant = Grant(expires_at=now + 60, token_id=f"t{next(_names)}", issuer="backend")
    return mint(OWN_KEY, evolve(grant, **terms), now, os.urandom)


def authorization(credentials: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credentials}", "Content_Type": SDP}


# Client secrets over HTTP


async def test_a_client_secret_opens_one_call_on_its_terms() -> None:
    secret = make_secret(route="sales", tenant="acme", metadata={"user": 7}, max_duration=60.0)
    async with serving(make_policy()) as server:
        reply = await request(server, "POST", CALLS, OFFER, **authorization(secret))
        assert reply.status == 201
        (asked,) = server.host.requests
        assert (asked.route, asked.metadata) == ("sales", {"user": 7})
        assert asked.grant is not None
        assert (asked.grant.tenant, asked.grant.max_duration) == ("acme", 60)
        again = await request(server, "POST", CALLS, OFFER, **authorization(secret))
        assert (again.status, json.loads(again.body)["error"]["code"]) == (401, "unauthorized")
        # The call's own address needs no credentials.
        assert (await request(server, "DELETE", reply.headers["location"])).status == 200


@pytest.mark.parametrize("path", [CALLS, "/v1/whip"])
async def test_who_shows_nothing_or_nonsense_is_told_what_to_show(path: str) -> None:
    async with serving(make_policy()) as server:
        for headers, challenge in (
            ({}, "Bearer"),
            ({"Authorization": "Basic dTpw"}, "Bearer"),
            ({"Authorization": "Bearer"}, "Bearer"),
            ({"Authorization": "Bearer not.a.token"}, 'Bearer error="invalid_token"'),
            ({"Authorization": f"Bearer {make_secret(expires_at=1.0)}"}, None),
        ):
            reply = await request(server, "POST", path, OFFER, Content_Type=SDP, **headers)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == challenge or challenge is None
        assert server.host.requests == []


async def test_a_secret_is_for_its_route() -> None:
    async with serving(make_policy()) as server:
        secret = make_secret(route="sales")
        reply = await request(server, "POST", "/v1/whip/default", OFFER, **authorization(secret))
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (403, "forbidden")
        reply = await request(server, "POST", "/v1/whip/sales", OFFER, **authorization(secret))
        assert reply.status == 201


async def test_a_quota_that_is_used_up_says_when_to_try_again() -> None:
    keys = (
        evolve(ACCESS.api_keys[0], terms=evolve(ACCESS.api_keys[0].terms, limits=Limits(1, 2))),
    )
    async with serving(make_policy(api_keys=keys)) as server:
        replies = [
            await request(server, "POST", CALLS, OFFER, **authorization(make_secret()))
            for _ in range(3)
        ]
        assert [reply.status for reply in replies] == [201, 429, 429]
        assert [reply.headers.get("retry-after") for reply in replies] == [None, "10", "30"]


async def test_an_api_key_opens_calls_too() -> None:
    async with serving(make_policy()) as server:
        for _ in range(2):
            reply = await request(server, "POST", CALLS, OFFER, **authorization(API_KEY))
            assert reply.status == 201


# Making client secrets


async def mint_over_http(server: Server, body: object, key: str = API_KEY) -> Any:
    text = json.dumps(body)
    headers = {"Authorization": f"Bearer {key}", "Content_Type": JSON}
    reply = await request(server, "POST", SECRETS, text, **headers)
    assert reply.headers["content-type"] == JSON
    return reply.status, json.loads(reply.body)


async def test_a_server_mints_a_secret_and_its_client_uses_it() -> None:
    async with serving(make_policy()) as server:
        status, secret = await mint_over_http(server, {"route": "sales", "lifetime": 30})
        assert status == 200
        assert set(secret) == {"value", "expires_at"}
        assert 25 < secret["expires_at"] - time.time() < 35
        reply = await request(server, "POST", CALLS, OFFER, **authorization(secret["value"]))
        assert (reply.status, server.host.requests[0].route) == (201, "sales")


@pytest.mark.parametrize("path", [SECRETS, "/v1/realtime/client_secrets"])
async def test_the_shape_of_openai(path: str) -> None:
    body = {
        "expires_after": {"anchor": "created_at", "seconds": 120},
        "session": {"type": "realtime", "model": "sales", "audio": {"output": {"voice": "alloy"}}},
    }
    headers = {"Authorization": f"Bearer {API_KEY}", "Content_Type": JSON}
    async with serving(make_policy()) as server:
        reply = await request(server, "POST", path, json.dumps(body), **headers)
        secret = json.loads(reply.body)
        assert 115 < secret["expires_at"] - time.time() < 125
        assert secret["session"]["object"] == "realtime.session"
        assert secret["session"]["model"] == "sales"
        assert reply.headers["cache-control"] == "no-store"
        await request(server, "POST", CALLS, OFFER, **authorization(secret["value"]))
        assert server.host.requests[0].route == "sales"


async def test_who_may_not_mint() -> None:
    async with serving(make_policy()) as server:
        assert (await mint_over_http(server, {}, "sk-another-key-that-is-long-enough"))[0] == 401
        assert (await mint_over_http(server, {}, make_secret()))[0] == 401
        refused: tuple[object, ...] = (
            {"rout": "sales"},
            {"lifetime": 1e9},
            {"lifetime": -1},
            [],
            {"session": 1},
        )
        for body in refused:
            status, error = await mint_over_http(server, body)
            assert (status, error["error"]["code"]) == (400, "malformed-message")
        assert (await request(server, "GET", SECRETS)).headers["allow"] == "OPTIONS, POST"


# Origins


async def test_pages_of_allowed_origins_can_read_every_answer() -> None:
    async with serving(make_policy()) as server:
        for method, path, status in (
            ("POST", CALLS, 401),
            ("GET", CALLS, 405),
            ("DELETE", f"{CALLS}/1.0.a.b", 404),
            ("POST", "/v1/whip", 401),
            ("POST", SECRETS, 401),
        ):
            kind = JSON if path == SECRETS else SDP
            reply = await request(server, method, path, "{}", Content_Type=kind, Origin=PAGE)
            assert reply.status == status
            assert reply.headers["access-control-allow-origin"] == PAGE
            assert "Location" in reply.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in reply.headers
            assert reply.headers["vary"] == "Origin"


async def test_pages_of_strangers_are_refused_and_cannot_read_it() -> None:
    async with serving(make_policy()) as server:
        headers = authorization(make_secret())
        for origin in ("https://evil.example", "null", f"{PAGE}:444", "http://edge.test"):
            reply = await request(server, "POST", CALLS, OFFER, Origin=origin, **headers)
            assert (reply.status, json.loads(reply.body)["error"]["code"]) == (403, "forbidden")
            assert not any(name.startswith("access-control") for name in reply.headers)
        two = f"{PAGE}\r\nOrigin: {PAGE}"
        assert (await request(server, "POST", CALLS, OFFER, Origin=two, **headers)).status == 403
        assert server.host.requests == []
        own = "https://edge.test"  # what the client's Host header says
        reply = await request(server, "POST", CALLS, OFFER, Origin=own, **headers)
        assert reply.status == 201


async def test_preflights() -> None:
    async with serving(make_policy()) as server:
        asked = {"Access_Control_Request_Method": "PATCH", "Origin": PAGE}
        reply = await request(
            server,
            "OPTIONS",
            "/v1/whip/sessions/1.0.a.b",
            Access_Control_Request_Headers="authorization,content-type,x-stainless-os",
            **asked,
        )
        assert reply.status == 200
        assert reply.headers["access-control-allow-methods"] == "DELETE, OPTIONS, PATCH"
        assert reply.headers["access-control-allow-headers"].split(",")[2] == "x-stainless-os"
        assert reply.headers["access-control-max-age"] == "7200"
        usual = await request(server, "OPTIONS", CALLS, Access_Control_Request_Headers="*", **asked)
        assert usual.headers["access-control-allow-headers"] == (
            "Authorization, Content-Type, If-Match"
        )
        strange = await request(server, "OPTIONS", CALLS, **{**asked, "Origin": "https://evil.x"})
        assert strange.status == 403


# edge.v1


async def ask(client: WebSocketConnection) -> Any:
    await client.send_message(json.dumps({"type": "offer", "sdp": OFFER}))
    return json.loads(await client.get_message())


@pytest.mark.parametrize("where", ["header", "subprotocol"])
async def test_a_websocket_carries_its_credentials_in_two_ways(where: str) -> None:
    secret = make_secret(route="sales")
    headers = [(b"Authorization", f"Bearer {secret}".encode())] if where == "header" else []
    protocols = ["edge.v1"] + ([f"edge.token.{secret}"] if where == "subprotocol" else [])
    async with (
        serving(make_policy()) as server,
        connected(server, protocols, headers) as client,
    ):
        assert client.subprotocol == "edge.v1"
        assert (await ask(client))["type"] == "answer"
        assert server.host.requests[0].route == "sales"


async def test_a_websocket_is_told_in_the_same_words() -> None:
    limits = evolve(ACCESS.api_keys[0].terms, limits=Limits(1, 0))
    keys = (evolve(ACCESS.api_keys[0], terms=limits),)
    async with serving(make_policy(api_keys=keys)) as server:
        async with connected(server) as client:
            assert (await ask(client))["code"] == "unauthorized"
        for code in ("answer", "too-many-requests"):
            protocols = ["edge.v1", f"edge.token.{make_secret()}"]
            async with connected(server, protocols) as client:
                answer = await ask(client)
                assert code in {answer["type"], answer.get("code")}
        assert answer["retry_after"] == 10


async def test_a_websocket_of_a_strangers_page_is_refused() -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with serving(make_policy()) as server:
        for headers, status in (
            ({"Origin": PAGE}, 101),
            ({"Origin": "https://evil.example"}, 403),
            ({"Authorization": "Basic dTpw"}, 401),
        ):
            reply = await request(server, "GET", "/v1/session", **handshake, **headers)
            assert reply.status == status


# TLS


def write_certificate(folder: Path, name: str = "edge.test") -> tuple[Path, Path]:
    """Write a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].chmod(0o600)
    return paths


def trusting(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def test_all_doors_work_over_tls(tmp_path: Path) -> None:
    paths = write_certificate(tmp_path)
    context = trusting(paths[0])
    async with serving(tls=TlsIdentity(*paths)) as server:
        async with http_client(server, context) as client:
            for path in (CALLS, "/v1/whip"):
                reply = await client.request("POST", path, OFFER, Content_Type=SDP)
                assert reply.status == 201
            assert isinstance(client.stream, trio.SSLStream)
            assert client.stream.selected_alpn_protocol() == "http/1.1"
            assert client.stream.version() == "TLSv1.3"
        async with http_client(server, context) as client, trio.open_nursery() as nursery:
            assert isinstance(client.stream, trio.SSLStream)
            websocket = await wrap_client_stream(
                nursery, client.stream, "edge.test", "/v1/session", subprotocols=["edge.v1"]
            )
            assert (await ask(websocket))["type"] == "answer"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
async def test_old_versions_of_tls(tmp_path: Path, newest: ssl.TLSVersion) -> None:
    paths = write_certificate(tmp_path)
    context = trusting(paths[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = newest
        context.maximum_version = newest
    async with serving(tls=TlsIdentity(*paths)) as server, http_client(server, context) as client:
        if newest is ssl.TLSVersion.TLSv1_2:
            assert (await client.request("GET", "/")).status == 200
        else:
            with pytest.raises(trio.BrokenResourceError):
                await client.request("GET", "/")


async def test_a_new_certificate_is_for_new_connections(tmp_path: Path) -> None:
    paths = write_certificate(tmp_path)
    former = trusting(paths[0])
    identity = TlsIdentity(*paths)
    async with serving(tls=identity) as server, http_client(server, former) as client:
        assert (await client.request("GET", "/")).status == 200
        write_certificate(tmp_path)
        identity.reload()
        assert (await client.request("GET", "/")).status == 200
        async with http_client(server, trusting(paths[0])) as newer:
            assert (await newer.request("GET", "/")).status == 200
        async with http_client(server, former) as late:
            with pytest.raises(trio.BrokenResourceError):
                await late.request("GET", "/")


async def test_a_bad_certificate_leaves_the_former(tmp_path: Path) -> None:
    paths = write_certificate(tmp_path)
    context = trusting(paths[0])
    identity = TlsIdentity(*paths)
    async with serving(tls=identity) as server:
        other = tmp_path / "other"
        other.mkdir()
        for spoil, says in (
            (lambda: paths[0].write_text("nonsense"), "cannot be used for TLS"),
            (lambda: paths[0].write_bytes(write_certificate(other)[0].read_bytes()), "mismatch"),
            (lambda: paths[1].chmod(0o644), "mode 0644"),
            (paths[1].unlink, "No such file"),
        ):
            spoil()
            with pytest.raises(ConfigError, match=says) as caught:
                identity.reload()
            assert "PRIVATE" not in str(caught.value)
        async with http_client(server, context) as client:
            assert (await client.request("GET", "/")).status == 200


async def test_a_handshake_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    tls = TlsIdentity(*write_certificate(tmp_path))
    async with serving(tls=tls, handshake_timeout=0.2) as server:
        for opening in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            await stream.send_all(opening)
            with trio.fail_after(2):
                try:
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
            await stream.aclose()


# Logs


async def test_no_secret_is_in_any_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    paths = write_certificate(tmp_path)
    secrets = [make_secret() for _ in range(6)]
    broken = secrets[0][:-4] + "AAAA"
    async with (
        serving(make_policy(), TlsIdentity(*paths)) as server,
        http_client(server, trusting(paths[0])) as client,
    ):
        for each in (secrets[0], secrets[0], broken, API_KEY):
            await client.request("POST", CALLS, OFFER, **authorization(each))
        reply = await client.request("POST", "/v1/whip", OFFER, **authorization(secrets[1]))
        place = reply.headers["location"]
        await client.request("PATCH", place, "a=x\r\n", If_Match="*", Content_Type=SDP)
        await client.request("DELETE", place, **authorization(secrets[2]))
        await client.request("GET", f"/?token={secrets[3]}")
        headers = {"Authorization": f"Bearer {API_KEY}", "Content_Type": JSON}
        minted = await client.request("POST", SECRETS, "{}", **headers)
        secrets.append(json.loads(minted.body)["value"])
    async with serving(make_policy()) as server:
        server.host.failure = RuntimeError("out of order")
        for each in secrets[4:6]:
            protocols = ["edge.v1", f"edge.token.{each}"]
            async with connected(server, protocols) as websocket:
                await ask(websocket)
            await request(server, "POST", CALLS, OFFER, **authorization(each))
    ours = "\n".join(
        record.getMessage() + (record.exc_text or "")
        for record in caplog.records
        if record.name.startswith("edge")
    )
    assert "session 1.0.session-0 opened over HTTP" in ours
    assert "out of order" in ours
    for each in (*secrets, broken, API_KEY, "secret-0", "secret-1", "ice-pwd"):
        assert each not in ours
