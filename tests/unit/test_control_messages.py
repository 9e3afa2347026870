"""Supervisor and workers of different versions understand each other's orders."""

import msgspec
import pytest

from edge.control.messages import TakeSessions, decode_to_worker, encode_message


class FormerTakeSessions(msgspec.Struct, frozen=True, tag="take-sessions"):
    """The order as workers know it that have never heard of deadlines."""

    sequence: int
    wanted: bool


@pytest.mark.parametrize(
    "order", [TakeSessions(7, wanted=False, ends_at=12.5), TakeSessions(8, wanted=True)]
)
def test_a_former_worker_obeys_a_drain_with_a_deadline(order: TakeSessions) -> None:
    former = msgspec.msgpack.decode(encode_message(order), type=FormerTakeSessions)
    assert former == FormerTakeSessions(order.sequence, order.wanted)


def test_a_former_supervisor_knows_no_deadline() -> None:
    data = msgspec.msgpack.encode(FormerTakeSessions(7, wanted=False))
    assert decode_to_worker(data) == TakeSessions(7, wanted=False, ends_at=None)


def test_an_order_of_a_later_version_is_none() -> None:
    class Later(msgspec.Struct, tag="later"):
        sequence: int

    assert decode_to_worker(msgspec.msgpack.encode(Later(1))) is None
