"""The metrics that are scraped, as Prometheus's own parser reads them."""

from collections.abc import Mapping

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.control import messages
from edge.control.statistics import TransceiverStatistics
from edge.control.status import DrainStatus, Status, WorkerKind
from edge.metrics.collector import encode_metrics
from edge.metrics.endpoint import health
from edge.signal.messages import Verdict
from tests.support.statuses import relay, status, transceiver, worker

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(of: Status) -> Series:
    """Return all samples by name and labels; no two may be the same."""
    series: Series = {}
    for family in text_string_to_metric_families(encode_metrics(of).decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in series
            series[key] = sample.value
    return series


def value(series: Series, name: str, labels: Mapping[str, str] | None = None) -> float:
    return series[name, frozenset((labels or {}).items())]


T = {"worker": "transceiver-0"}
R = {"worker": "relay-0"}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("edge_build_info", {"version": "1.2.3"}, 1),
        ("edge_uptime_seconds", {}, 61.4),
        ("edge_draining", {}, 0),
        ("edge_workers", {"state": "running"}, 2),
        ("edge_worker_up", R, 1),
        ("edge_worker_restarts_total", T, 2),
        ("edge_worker_cpu_seconds_total", R, 1.5),
        ("edge_worker_resident_max_bytes", T, 90_000_000),
        ("edge_relay_received_packets_total", R, 10),
        ("edge_relay_received_bytes_total", R, 1000),
        ("edge_relay_first_checks_total", R, 3),
        ("edge_relay_dropped_packets_total", R | {"reason": "unknown-flow"}, 1),
        ("edge_relay_flows", R | {"state": "confirmed"}, 6),
        ("edge_relay_flow_events_total", R | {"event": "taken-over"}, 12),
        ("edge_relay_tcp_connections", R | {"state": "confirmed"}, 3),
        ("edge_relay_tcp_refused_connections_total", R | {"reason": "too-many"}, 1),
        ("edge_relay_trunk_delivered_packets_total", R, 61),
        ("edge_relay_trunk_sent_frames_total", R, 10),
        ("edge_transceiver_trunk_turned_ways_total", T, 1),
        ("edge_redis_up", R, 1),
        ("edge_redis_failures_total", R | {"reason": "connection-lost"}, 2),
        ("edge_redis_events_total", R | {"event": "redis-hit"}, 5),
        ("edge_redis_hosts", R, 6),
        ("edge_registered", {}, 1),
        ("edge_registration_writes_total", {}, 9),
        ("edge_registration_conflicts_total", {}, 2),
        ("edge_sessions", T, 2),
        ("edge_sessions_by_key", T | {"key": "3"}, 1),
        ("edge_sessions_ended_total", T | {"reason": "client-bye"}, 3),
        ("edge_sessions_verdicts_total", T | {"verdict": "no-check"}, 1),
        ("edge_dtls_failures_total", T | {"reason": "dtls-timeout"}, 1),
        ("edge_offers_total", T | {"placement": "elsewhere"}, 4),
        ("edge_transceiver_received_bytes_total", T, 900),
        ("edge_transceiver_sent_packets_total", T, 8),
        ("edge_frames_skipped_total", T, 7),
        ("edge_frames_on_time_ratio", T, 0.97),
        ("edge_heard_frames_total", T | {"source": "concealed"}, 2),
        ("edge_backend_links", T | {"state": "open"}, 1),
        ("edge_backend_failures_total", T | {"reason": "time-out"}, 1),
        ("edge_backend_sent_messages_total", T, 12),
    ],
)
def test_a_figure_is_where_it_is_looked_for(
    name: str, labels: Mapping[str, str], expected: float
) -> None:
    assert value(scrape(status()), name, labels) == expected


def test_histograms_are_cumulative_and_have_sums() -> None:
    series = scrape(status())
    ice = T | {"stage": "ice"}
    assert value(series, "edge_setup_seconds_bucket", ice | {"le": "0.02"}) == 0
    assert value(series, "edge_setup_seconds_bucket", ice | {"le": "0.05"}) == 1
    assert value(series, "edge_setup_seconds_bucket", ice | {"le": "15.0"}) == 1
    assert value(series, "edge_setup_seconds_bucket", ice | {"le": "+Inf"}) == 2
    assert value(series, "edge_setup_seconds_count", ice) == 2
    assert value(series, "edge_setup_seconds_sum", ice) == pytest.approx(99.03)


def test_lateness_is_in_seconds() -> None:
    series = scrape(status())
    assert value(series, "edge_frame_lateness_seconds_bucket", T | {"le": "0.001"}) == 150
    assert value(series, "edge_frame_lateness_seconds_bucket", T | {"le": "0.005"}) == 199
    assert value(series, "edge_frame_lateness_seconds_count", T) == 200
    assert value(series, "edge_frame_lateness_seconds_sum", T) == 0.25


def test_both_directions_of_a_network_are_told_apart() -> None:
    series = scrape(status())
    received, sent = T | {"direction": "received"}, T | {"direction": "sent"}
    assert value(series, "edge_rtp_jitter_seconds_sum", received) == 0.004
    assert value(series, "edge_rtp_jitter_seconds_sum", sent) == 0.006
    assert value(series, "edge_rtp_loss_ratio_bucket", received | {"le": "0.0"}) == 1
    assert value(series, "edge_rtp_loss_ratio_bucket", sent | {"le": "0.2"}) == 0
    assert value(series, "edge_rtp_round_trip_seconds_sum", T) == 0.08


def test_what_has_not_happened_yet_is_zero() -> None:
    """Otherwise the first one would not be an increase."""
    series = scrape(status())
    for verdict in Verdict:
        assert (
            "edge_sessions_verdicts_total",
            frozenset((T | {"verdict": verdict}).items()),
        ) in series
    assert value(series, "edge_heard_frames_total", T | {"source": "fec"}) == 0
    assert value(series, "edge_backend_ends_total", T | {"reason": "lost"}) == 0
    not_sent = T | {"reason": "send-buffer-full"}
    assert value(series, "edge_transceiver_dropped_packets_total", not_sent) == 0
    assert value(series, "edge_redis_events_total", R | {"event": "flow-removed"}) == 0


def test_a_worker_that_has_not_been_heard_from_is_down_and_says_nothing() -> None:
    series = scrape(status(worker("transceiver", 5, "backing-off")))
    assert value(series, "edge_worker_up", {"worker": "transceiver-5"}) == 0
    assert not [name for name, _ in series if name.startswith("edge_sessions")]


def test_a_worker_that_is_leaving_has_no_room() -> None:
    """For an hour after a reload both generations are there, and only one takes calls."""
    old = worker("transceiver", 0, "leaving", transceiver())
    new = worker("transceiver", 1, "running", transceiver())
    series = scrape(status(old, new))
    assert value(series, "edge_sessions", T) == 2
    assert value(series, "edge_sessions_max", T) == 0
    assert value(series, "edge_sessions_max", {"worker": "transceiver-1"}) == 100


def test_what_an_older_worker_does_not_tell_is_left_out() -> None:
    """After an upgrade the new supervisor reads the heartbeats of old workers."""
    new = transceiver()
    old = TransceiverStatistics(
        **{
            name: getattr(new, name)
            for name in new.__struct_fields__
            if name not in {"setup", "quality", "media", "links", "process", "bytes_received"}
        }
    )
    series = scrape(status(worker("transceiver", 0, "running", old)))
    names = {name for name, _ in series}
    assert "edge_sessions" in names
    assert not names & {"edge_setup_seconds_count", "edge_heard_frames_total", "edge_backend_links"}


def test_two_workers_of_one_name_do_not_spoil_the_scrape() -> None:
    """Prometheus refuses all of a scrape that has a series twice."""
    twice = worker("relay", 1, "stopping", relay()), worker("relay", 1, "starting", relay())
    assert value(scrape(status(*twice)), "edge_worker_up", {"worker": "relay-1"}) == 0


def test_the_fullest_heartbeat_fits_its_message() -> None:
    """Every reason that there could be, at the highest counts."""
    many = {f"a-reason-that-is-rather-long-{number}": 2**53 for number in range(300)}
    full = msgspec.structs.replace(
        transceiver(), drops=many, ended=many, verdicts=many, packets_received=2**53
    )
    assert len(messages.encode_message(messages.Pong(2**31, full))) < messages.MESSAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"relay": ["running"], "transceiver": ["running"]}, 200),
        ({"relay": ["running"], "transceiver": ["backing-off", "running"]}, 200),
        ({"relay": ["running"], "transceiver": ["leaving", "starting"]}, 200),
        ({"relay": ["running"], "transceiver": ["backing-off"]}, 503),
        ({"relay": ["starting"], "transceiver": ["running"]}, 503),
        ({"relay": ["running"]}, 200),  # a host that only relays
        ({}, 503),
    ],
)
def test_health_is_that_calls_can_be_served(states: dict[str, list[str]], expected: int) -> None:
    kinds: tuple[WorkerKind, ...] = ("relay", "transceiver")
    workers = [
        worker(kind, index, state)
        for kind in kinds
        for index, state in enumerate(states.get(kind, []))
    ]
    response = health(msgspec.structs.replace(status(), workers=workers))
    assert response.status == expected
    assert response.body.startswith(b"ok\n" if expected == 200 else b"not serving\n")
    for each in workers:
        assert (f"-{each.index} {each.state}\n".encode() in response.body) is (
            each.state not in {"running", "leaving"}
        )


def test_who_drains_wants_no_new_calls() -> None:
    drain = DrainStatus(since=3.0, deadline=None)
    draining = msgspec.structs.replace(status(), drain=drain)
    assert health(draining).status == 503
    assert health(draining).body == b"draining\n"
    assert value(scrape(draining), "edge_draining") == 1
