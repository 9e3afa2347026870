"""aiortc calls the running appliance and hears its own tone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AES128_CM_SHA1_80,
    SRTPProtectionProfile,
)
from trio_websocket import open_websocket_url

from tests.support.aiortc_client import TONE_HZ, AiortcClient, aiortc_client
from tests.support.appliance import Appliance, running_appliance

PROFILES = (SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80)


@asynccontextmanager
async def signaled(client: AiortcClient, appliance: Appliance, offer: str) -> AsyncIterator[str]:
    """Exchange offer and answer; yield the answer, and hang up afterwards."""
    url = f"ws://{await appliance.origin()}/v1/session"
    async with open_websocket_url(url, subprotocols=["edge.v1"]) as websocket:

        async def say(message: dict[str, Any]) -> None:
            await websocket.send_message(msgspec.json.encode(message).decode())

        with trio.fail_after(30):
            await say({"type": "offer", "sdp": offer})
            answer = msgspec.json.decode(await websocket.get_message())
            assert answer["type"] == "answer", answer
            await client.accept(answer["sdp"])
            yield answer["sdp"]
            await say({"type": "bye"})


@pytest.mark.parametrize(("setup", "answered"), [("actpass", "active"), ("active", "passive")])
@pytest.mark.parametrize("profile", PROFILES, ids=lambda one: one.openssl_profile.decode())
async def test_the_tone_comes_back(
    tmp_path: Path, profile: SRTPProtectionProfile, setup: str, answered: str
) -> None:
    async with running_appliance(tmp_path) as appliance, aiortc_client() as client:
        offer = await client.offer(setup=setup)
        await client.force_profile(profile)
        async with signaled(client, appliance, offer) as answer:
            assert f"a=setup:{answered}\r\n" in answer
            while (await client.heard_hz()) != TONE_HZ:
                await trio.sleep(0.1)
            assert await client.state() == "connected"
            inbound = await client.statistics("inbound-rtp")
            assert inbound.packetsReceived > 20
            assert inbound.packetsLost == 0
        with trio.fail_after(20):
            while not sum(one.ended.get("client-bye", 0) for one in await appliance.transceivers()):
                await trio.sleep(0.05)


async def test_our_reports_give_it_its_figures(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        aiortc_client() as client,
        signaled(client, appliance, await client.offer()),
    ):
        while not (figures := await client.statistics("remote-inbound-rtp")):
            await trio.sleep(0.1)
        while not figures.roundTripTime:
            await trio.sleep(0.1)
            figures = await client.statistics("remote-inbound-rtp")
        assert figures.roundTripTime < 5
        assert figures.packetsLost == 0
        while not (sender := await client.statistics("remote-outbound-rtp")):
            await trio.sleep(0.1)
        assert sender.packetsSent > 0
