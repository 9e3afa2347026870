"""Access and TLS on the real appliance: what the operator configures is in force on all workers."""

import json
import signal
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import trio
from attrs import frozen

from tests.integration.test_doors_access import trusting, write_certificate
from tests.support.appliance import Appliance, running_appliance, wait_status
from tests.support.caller import calling, make_offer, new_credentials

API_KEY = "an-api-key-of-forty-characters-or-so-----"
AT_ONCE = "drain_limit = 0.0"
"""These clients have no media, and do not hang up."""
ACCESS = f"""
[access]
open = "off"
[[access.api_keys]]
name = "shop"
key = "{API_KEY}"
sessions_max = 3
session_duration_max = 1.5
"""


@frozen
class Reply:
    status: int
    headers: dict[str, str]
    body: str


def send(url: str, method: str, body: str, context: ssl.SSLContext | None, **headers: str) -> Reply:
    request = urllib.request.Request(url, body.encode(), method=method)
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return Reply(response.status, dict(response.headers), response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, dict(error.headers), error.read().decode())


async def post(url: str, body: str, context: ssl.SSLContext | None = None, **headers: str) -> Reply:
    def run() -> Reply:
        return send(url, "POST", body, context, **headers)

    return await trio.to_thread.run_sync(run)


async def mint(origin: str, **fields: Any) -> str:
    url = f"http://{origin}/v1/client_secrets"
    reply = await post(
        url,
        json.dumps(fields),
        Authorization=f"Bearer {API_KEY}",
        Content_Type="application/json",
    )
    assert reply.status == 200, reply
    value: str = json.loads(reply.body)["value"]
    return value


async def call(origin: str, credentials: str | None) -> Reply:
    headers = {"Authorization": f"Bearer {credentials}"} if credentials is not None else {}
    url, body = f"http://{origin}/v1/realtime/calls", make_offer(new_credentials())
    return await post(url, body, None, Content_Type="application/sdp", **headers)


async def sessions(appliance: Appliance, number: int) -> None:
    await wait_status(
        appliance,
        lambda status: (
            sum(getattr(each.statistics, "sessions", 0) for each in status.workers) == number
        ),
    )


async def test_keys_secrets_and_quotas_hold_on_all_workers(tmp_path: Path) -> None:
    async with running_appliance(
        tmp_path, transceivers=3, more=ACCESS, supervisor=AT_ONCE
    ) as appliance:
        origin = await appliance.origin()
        assert (await call(origin, None)).status == 401
        assert (await call(origin, "an.unknown.token")).status == 401
        secret = await mint(origin)
        opened = await call(origin, secret)
        assert opened.status == 201
        owners = {opened.headers["Location"].split("/")[-1].split(".")[1]}
        for _ in range(6):  # whichever worker is asked
            assert (await call(origin, secret)).status == 401, "it was used"
        for _ in range(2):
            opened = await call(origin, await mint(origin))
            assert opened.status == 201
            owners.add(opened.headers["Location"].split("/")[-1].split(".")[1])
        assert owners == {"0", "1", "2"}
        for _ in range(4):
            refused = await call(origin, await mint(origin))
            assert refused.status == 429
            assert float(refused.headers["Retry-After"]) > 0
        with trio.fail_after(10.0):  # each has lasted as long as it may
            while [one.ended for one in await appliance.transceivers()] != 3 * [{"time-limit": 1}]:
                await trio.sleep(0.1)
        assert (await call(origin, await mint(origin))).status == 201
        for line in appliance.lines:
            assert API_KEY not in line
            assert secret not in line


async def test_a_certificate_is_replaced_under_running_calls(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    certificate, key = write_certificate(folder)
    former = trusting(certificate)
    former.check_hostname = False  # the certificate is for a name, and the appliance has none here
    tls = f'tls_certificate = "{certificate}"\ntls_key = "{key}"'
    async with running_appliance(
        tmp_path, transceivers=2, signal=tls, supervisor=AT_ONCE
    ) as appliance:
        origin = await appliance.origin()
        url = f"https://{origin}/v1/realtime/calls"

        async def offered(context: ssl.SSLContext) -> bool:
            body = make_offer(new_credentials())
            try:
                reply = await post(url, body, context, Content_Type="application/sdp")
            except urllib.error.URLError as error:
                if isinstance(error.reason, ssl.SSLCertVerificationError):
                    return False
                raise
            assert reply.status == 201
            return True

        assert await offered(former)
        key.write_text("nonsense")
        appliance.process.send_signal(signal.SIGHUP)
        await appliance.wait_line(r"reload: nothing was changed: .*key\.pem cannot be used for TLS")
        assert await offered(former)
        write_certificate(folder)
        present = trusting(certificate)
        present.check_hostname = False
        appliance.lines.clear()
        appliance.process.send_signal(signal.SIGHUP)
        for worker in (0, 1):
            await appliance.wait_line(f"transceiver-{worker}: the certificate was read again")
        for _ in range(8):
            assert await offered(present)
            assert not await offered(former)
        await sessions(appliance, 10)


async def test_without_keys_on_loopback_everybody_may_call(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path, supervisor=AT_ONCE) as appliance,
        calling(await appliance.origin()) as one,
    ):
        await one.wait_echo()
        assert (await call(await appliance.origin(), None)).status == 201
