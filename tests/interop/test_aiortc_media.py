"""aiortc talks to a backend, and to the loopback, and hears its own tone."""

from pathlib import Path

import pytest
import trio

from tests.interop.test_aiortc import signaled
from tests.support.aiortc_client import TONE_HZ, aiortc_client
from tests.support.appliance import running_appliance
from tests.support.native_backend import example_backend


@pytest.mark.parametrize("kind", ["websocket", "loopback"])
async def test_the_tone_comes_back_through_decoder_and_encoder(tmp_path: Path, kind: str) -> None:
    async with example_backend() as url:
        lines = f'\nurl = "{url}"\nrate_hz = 24000' if kind == "websocket" else ""
        async with (
            running_appliance(tmp_path, routes={"default": f'kind = "{kind}"{lines}'}) as appliance,
            aiortc_client() as client,
            signaled(client, appliance, await client.offer()),
        ):
            with trio.fail_after(20):
                while (await client.heard_hz()) != TONE_HZ:
                    await trio.sleep(0.1)
                while (await client.statistics("inbound-rtp")).packetsReceived < 100:
                    await trio.sleep(0.1)
                while (await client.heard_hz()) != TONE_HZ:  # still
                    await trio.sleep(0.1)
            inbound = await client.statistics("inbound-rtp")
            assert inbound.packetsLost == 0
