"""The flow table: tentative, confirmed, protected, expired, bounded."""

from edge.routing.flows import UNKNOWN, FlowTable, Verdict

CLIENT = b"c" * 28
OTHER = b"o" * 28


def make_table(confirmed_max: int = 100, tentative_max: int = 10) -> FlowTable:
    return FlowTable(confirmed_max, tentative_max)


def test_a_proposed_flow_is_found_but_stays_out_of_the_hot_table() -> None:
    table = make_table()
    assert table.find(CLIENT) == UNKNOWN
    assert not table.propose(CLIENT, 1)
    assert table.find(CLIENT) == 1
    assert CLIENT not in table.current


def test_confirmation_moves_a_flow_into_the_hot_table() -> None:
    table = make_table()
    table.propose(CLIENT, 1)
    assert table.confirm(CLIENT, 1) is Verdict.ADDED
    assert table.current == {CLIENT: 1}
    assert table.confirm(CLIENT, 1) is Verdict.KNOWN
    assert table.propose(CLIENT, 1)
    assert table.statistics().tentative == 0


def test_a_confirmed_flow_is_not_re_pointed() -> None:
    table = make_table()
    table.confirm(CLIENT, 1)
    assert not table.propose(CLIENT, 2)
    assert table.find(CLIENT) == 1
    assert table.confirm(CLIENT, 2) is Verdict.CONFLICT
    assert table.find(CLIENT) == 1
    assert table.statistics().conflicts == 1


def test_a_confirmed_flow_without_packets_is_gone_after_two_generations() -> None:
    table = make_table()
    table.confirm(CLIENT, 1)
    table.rotate()
    table.rotate()
    assert table.find(CLIENT) == UNKNOWN
    assert table.confirm(CLIENT, 2) is Verdict.ADDED


def test_a_flow_in_use_survives_any_number_of_generations() -> None:
    table = make_table()
    table.confirm(CLIENT, 1)
    for _ in range(10):
        table.rotate()
        assert CLIENT not in table.current
        assert table.find(CLIENT) == 1
        assert table.current[CLIENT] == 1


def test_the_old_generation_protects_too() -> None:
    table = make_table()
    table.confirm(CLIENT, 1)
    table.rotate()
    assert table.confirm(CLIENT, 2) is Verdict.CONFLICT
    assert table.find(CLIENT) == 1


def test_tentative_flows_last_one_to_two_generations() -> None:
    table = make_table()
    table.propose(CLIENT, 1)
    table.rotate()
    assert table.find(CLIENT) == 1
    table.propose(OTHER, 2)
    table.rotate()
    assert table.find(CLIENT) == UNKNOWN
    assert table.find(OTHER) == 2


def test_tentative_flows_push_out_the_oldest() -> None:
    table = make_table(tentative_max=2)
    for number in range(3):
        table.propose(bytes([number]) * 28, number)
    assert table.find(bytes(28)) == UNKNOWN
    assert table.find(bytes([2]) * 28) == 2
    assert table.statistics().tentative == 2
    assert table.statistics().evicted == 1


def test_the_confirmed_table_is_bounded_and_says_so() -> None:
    table = make_table(confirmed_max=1)
    assert table.confirm(CLIENT, 1) is Verdict.ADDED
    assert table.confirm(OTHER, 1) is Verdict.FULL
    assert table.statistics().full == 1
    table.release(CLIENT, 1)
    assert table.confirm(OTHER, 1) is Verdict.ADDED


def test_release_ends_only_the_owners_own_flow() -> None:
    table = make_table()
    table.confirm(CLIENT, 1)
    table.release(CLIENT, 2)
    assert table.find(CLIENT) == 1
    table.rotate()
    table.release(CLIENT, 1)
    assert table.find(CLIENT) == UNKNOWN
    table.propose(CLIENT, 3)
    table.release(CLIENT, 3)
    assert table.find(CLIENT) == UNKNOWN


def test_a_confirmation_that_must_be_met_is_for_who_sent_that_owner_a_check() -> None:
    table = make_table()
    assert table.confirm(CLIENT, 1, only_met=True) is Verdict.UNMET
    table.propose(CLIENT, 2)
    assert table.confirm(CLIENT, 1, only_met=True) is Verdict.UNMET
    assert table.find(CLIENT) == 2, "nothing has changed"
    assert table.confirm(CLIENT, 2, only_met=True) is Verdict.ADDED
    assert table.confirm(CLIENT, 2, only_met=True) is Verdict.KNOWN
    assert table.confirm(CLIENT, 1, only_met=True) is Verdict.CONFLICT
