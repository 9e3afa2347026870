"""The metrics of a real appliance, scraped while calls come and go."""

import os
import signal
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.support.appliance import Appliance, running_appliance, start_edge, write_config
from tests.support.native_backend import appliance_with_backend, wait_frames
from tests.support.speech import speech
from tests.support.talker import opus_payloads, said, talking

ENDPOINT = '["127.0.0.1:0"]'
TIME_LIMIT = 40.0
HEARD = 15.0
"""How long figures may take to get from a worker to a scrape."""

Series = dict[str, float]
"""By name and labels but the worker's, summed over workers: ``name{label="value"}``."""


async def scrape(appliance: Appliance) -> Series:
    (address,) = (await appliance.status()).metrics

    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            body: bytes = answer.read()
            return body.decode()

    series: Series = {}
    for family in text_string_to_metric_families(await trio.to_thread.run_sync(read)):
        for sample in family.samples:
            labels = {name: text for name, text in sample.labels.items() if name != "worker"}
            shown = ",".join(f'{name}="{text}"' for name, text in sorted(labels.items()))
            key = f"{sample.name}{{{shown}}}" if shown else sample.name
            series[key] = series.get(key, 0.0) + sample.value
    return series


async def wait_series(appliance: Appliance, good: Callable[[Series], bool]) -> Series:
    with trio.fail_after(HEARD):
        while not good(series := await scrape(appliance)):
            await trio.sleep(0.1)
    return series


async def test_a_call_with_a_backend_is_in_all_figures(tmp_path: Path) -> None:
    lost = frozenset({40, 80, 81, 120})
    payloads = opus_payloads(speech(3.0, 24_000, 9), 24_000)
    with trio.fail_after(TIME_LIMIT):
        async with appliance_with_backend(tmp_path, metrics=ENDPOINT) as (appliance, backend):
            before = await scrape(appliance)
            assert before["edge_sessions"] == 0
            assert before['edge_sessions_verdicts_total{verdict="ok"}'] == 0
            async with talking(await appliance.origin(), said(payloads, lost=lost)) as call:
                await wait_frames(await backend.visitor(), len(payloads))
                during = await wait_series(appliance, lambda now: now["edge_sessions"] == 1)
                assert during['edge_backend_links{state="open"}'] == 1
                assert during["edge_backend_connect_seconds_count"] == 1
                await call.wait_said()
            after = await wait_series(
                appliance, lambda now: now['edge_sessions_verdicts_total{verdict="ok"}'] == 1
            )
    assert after["edge_sessions"] == after['edge_backend_links{state="open"}'] == 0
    assert after["edge_sessions_opened_total"] == after["edge_sessions_reached_media_total"] == 1
    for stage in ("ice", "dtls", "media"):
        assert after[f'edge_setup_seconds_count{{stage="{stage}"}}'] == 1
        assert 0 <= after[f'edge_setup_seconds_sum{{stage="{stage}"}}'] < 5
    assert after['edge_setup_seconds_sum{stage="dtls"}'] > 0
    assert after['edge_heard_frames_total{source="concealed"}'] >= len(lost)
    assert after['edge_heard_frames_total{source="received"}'] >= len(payloads) - len(lost)
    assert after['edge_rtp_loss_ratio_count{direction="received"}'] >= 2
    assert after['edge_rtp_loss_ratio_sum{direction="received"}'] > 0
    assert after['edge_rtp_jitter_seconds_count{direction="received"}'] >= 2
    assert after["edge_jitter_buffer_delay_seconds_count"] == 1
    assert after["edge_backend_sent_messages_total"] >= len(payloads)
    received = after["edge_transceiver_received_packets_total"]
    assert received == after["edge_relay_forwarded_packets_total"]
    assert after["edge_transceiver_received_bytes_total"] > 20 * received
    assert after["edge_worker_cpu_seconds_total"] > 0


async def test_what_is_played_is_counted_by_its_lateness(tmp_path: Path) -> None:
    payloads = opus_payloads(speech(2.0, 48_000, 9), 48_000)
    with trio.fail_after(TIME_LIMIT):
        async with running_appliance(
            tmp_path, metrics=ENDPOINT, routes={"default": 'kind = "loopback"'}
        ) as appliance:
            async with talking(await appliance.origin(), said(payloads)) as call:
                await call.wait_said()
                await call.wait_heard(50)
            after = await wait_series(
                appliance, lambda now: now['edge_sessions_verdicts_total{verdict="ok"}'] == 1
            )
    assert after["edge_frame_lateness_seconds_count"] >= 50
    assert after['edge_frame_lateness_seconds_bucket{le="+Inf"}'] >= 50
    assert after["edge_frame_lateness_seconds_sum"] > 0
    assert after['edge_rtp_jitter_seconds_count{direction="sent"}'] >= 1, "the talker reports"
    assert after["edge_transceiver_sent_packets_total"] >= 50


async def test_a_worker_that_dies_shows(tmp_path: Path) -> None:
    with trio.fail_after(TIME_LIMIT):
        async with running_appliance(tmp_path, metrics=ENDPOINT) as appliance:
            victim = (await appliance.workers("transceiver"))[0]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            series = await wait_series(
                appliance, lambda now: now["edge_worker_restarts_total"] == 1
            )
            assert series["edge_worker_up"] >= 3
            await wait_series(appliance, lambda now: now["edge_worker_up"] == 4)


async def test_an_address_that_is_taken_is_a_boot_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, trio.fail_after(TIME_LIMIT):
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = write_config(tmp_path, metrics=f'["{address}"]')
        process = await start_edge("run", "--config", str(path))
        assert process.stderr is not None
        said_last = b"".join([chunk async for chunk in process.stderr]).decode()
        assert await process.wait() == os.EX_CONFIG
        assert f"cannot listen on tcp {address} for metrics" in said_last
        assert "Traceback" not in said_last


async def test_no_address_means_no_endpoint(tmp_path: Path) -> None:
    with trio.fail_after(TIME_LIMIT):
        async with running_appliance(tmp_path) as appliance:
            assert (await appliance.status()).metrics == []
