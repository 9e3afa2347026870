"""What metrics cost: the worker's share of a heartbeat, with many sessions, and a scrape."""

import json
import random
import socket
import time
from collections.abc import Callable
from statistics import median

import msgspec
import trio

from edge.control import messages
from edge.control.statistics import TransceiverStatistics
from edge.dtls.keying import Role
from edge.histogram import Histogram
from edge.media.frames import Label
from edge.media.punctuality import Punctuality
from edge.metrics.collector import encode_metrics
from edge.transceiver.driven import Driven
from edge.transceiver.driver import Driver
from edge.transceiver.tally import Tally
from tests.support.calls import make_session
from tests.support.statuses import relay, status, tally, transceiver, worker

SESSIONS = 500
ROUNDS = 200


def microseconds(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median CPU time of one call."""
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        action()
        times.append(time.thread_time() - began)
    return round(median(times) * 1e6, 1)


def many(action: Callable[[], object], calls: int = 10_000) -> Callable[[], None]:
    """Return an action that is so many others."""

    def repeat() -> None:
        for _ in range(calls):
            action()

    return repeat


def full(counted: Tally) -> TransceiverStatistics:
    """Return statistics with as many reasons as are seen in the worst of tests."""
    drops = {f"reason-number-{number}": number for number in range(60)}
    return msgspec.structs.replace(transceiver(counted), drops=drops)


async def measure() -> dict[str, float]:
    figures: dict[str, float] = {}
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as public,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as internal,
    ):
        driver = Driver([public], internal, [], Punctuality())
        entropy = random.Random(1).randbytes
        for number in range(SESSIONS):
            session, _, _ = make_session(Role.CLIENT, entropy, now=trio.current_time())
            ufrag = f"ufrag{number}".encode()
            driver.add(Driven(str(number), ufrag, session, lambda _: None, 0), 0.0)
        counted = tally()
        statistics = full(counted)
        figures["walk over 500 sessions for their keys"] = microseconds(driver.sessions_by_key)
        figures["tally, as messages"] = microseconds(
            lambda: (
                counted.setup_counts(),
                counted.quality_counts(),
                counted.media_counts(),
                counted.link_counts(),
            )
        )
        pong = messages.Pong(1, statistics)
        figures["heartbeat, encoded"] = microseconds(lambda: messages.encode_message(pong))
        data = messages.encode_message(pong)
        figures["heartbeat, bytes"] = len(data)
        figures["heartbeat, decoded"] = microseconds(lambda: messages.decode_from_worker(data))
    histogram, heard = Histogram((0.001, 0.01, 0.1, 1.0)), Tally().heard

    def hear() -> None:
        heard[Label.RECEIVED] += 1

    figures["one value, counted"] = microseconds(many(lambda: histogram.note(0.02)), 9) / 10_000
    figures["one frame, counted"] = microseconds(many(hear), 9) / 10_000
    for workers in (2, 32):
        scraped = status(
            *(worker("relay", number, statistics=relay()) for number in range(workers)),
            *(worker("transceiver", number, statistics=statistics) for number in range(workers)),
        )
        name = f"scrape, {workers} relays and {workers} transceivers"
        figures[name] = microseconds(lambda one=scraped: encode_metrics(one), 20)  # type: ignore[misc]
        figures[f"{name}, bytes"] = len(encode_metrics(scraped))
    return figures


def main() -> None:
    figures = trio.run(measure)
    for name, value in figures.items():
        unit = "" if name.endswith("bytes") else " µs"
        print(f"{name:50} {value:12,.2f}{unit}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
