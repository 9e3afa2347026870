"""Numbers of transceivers: a host and a slot."""

import pytest

from edge.errors import LocalProtocolError
from edge.routing.numbers import HOSTS_MAX, SLOTS_MAX, split_number, transceiver_number


def test_a_host_that_is_alone_counts_its_slots() -> None:
    assert [transceiver_number(0, slot) for slot in range(SLOTS_MAX)] == list(range(SLOTS_MAX))


@pytest.mark.parametrize(("host", "slot"), [(0, 0), (1, 0), (3, 63), (HOSTS_MAX - 1, 63)])
def test_a_number_says_host_and_slot(host: int, slot: int) -> None:
    number = transceiver_number(host, slot)
    assert 0 <= number <= 0xFFFF
    assert split_number(number) == (host, slot)


@pytest.mark.parametrize(("host", "slot"), [(-1, 0), (HOSTS_MAX, 0), (0, -1), (0, SLOTS_MAX)])
def test_there_are_no_others(host: int, slot: int) -> None:
    with pytest.raises(LocalProtocolError):
        transceiver_number(host, slot)
