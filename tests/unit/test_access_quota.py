"""Quotas: for the host, whichever worker counts; bounded; fair about whom they forget."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from edge.access.quota import Account, Lease, Limits, Quotas, address_name, quotas_bytes
from edge.access.slots import PROBES
from edge.errors import AccessError

NOW = 1_800_000_000.0
HASH_KEY = bytes(16)
WORKERS = 3


def make_memory(accounts_max: int = 100) -> memoryview:
    return memoryview(bytearray(quotas_bytes(accounts_max, WORKERS)))


def view(memory: memoryview, worker: int = 0) -> Quotas:
    return Quotas(memory, nullcontext, HASH_KEY, worker, WORKERS)


def account(name: str, sessions_max: int = 0, offers_per_minute: int = 0) -> Account:
    return Account(name, Limits(sessions_max, offers_per_minute))


def refused_session(quotas: Quotas, *accounts: Account, now: float = NOW) -> AccessError:
    with pytest.raises(AccessError) as caught:
        quotas.open_session(accounts, now)
    return caught.value


def refused_offer(quotas: Quotas, *accounts: Account, now: float = NOW) -> AccessError:
    with pytest.raises(AccessError) as caught:
        quotas.count_offer(accounts, now)
    return caught.value


def test_sessions_are_counted_over_all_workers() -> None:
    memory = make_memory()
    workers = [view(memory, index) for index in range(WORKERS)]
    tenant = account("t", sessions_max=3)
    leases = [worker.open_session([tenant], NOW) for worker in workers]
    for worker in workers:
        error = refused_session(worker, tenant)
        assert error.reason == "quota-sessions"
        assert error.retry_after
    leases[1].release()
    leases[1].release()
    workers[2].open_session([tenant], NOW)
    assert refused_session(workers[0], tenant).reason == "quota-sessions"


def test_one_full_account_leaves_the_others_alone() -> None:
    quotas = view(make_memory())
    key, tenant = account("key", sessions_max=5), account("t", sessions_max=1)
    quotas.open_session([key, tenant], NOW)
    for _ in range(10):
        refused_session(quotas, key, tenant)
    leases = [quotas.open_session([key], NOW) for _ in range(4)]
    assert refused_session(quotas, key).reason == "quota-sessions"
    for lease in leases:
        lease.release()


def test_zero_is_no_limit_and_no_account() -> None:
    memory = make_memory(0)
    quotas = view(memory)
    for number in range(1000):
        quotas.count_offer([account(str(number))], NOW)
        quotas.open_session([account(str(number))], NOW).release()
    assert bytes(memory) == bytes(len(memory))


def test_a_successor_gives_back_what_died_with_its_worker() -> None:
    memory = make_memory()
    tenant = account("t", sessions_max=2)
    view(memory, 0).open_session([tenant], NOW)
    view(memory, 1).open_session([tenant], NOW)
    successor = view(memory, 1)
    successor.open_session([tenant], NOW)
    assert refused_session(successor, tenant).reason == "quota-sessions"


def test_a_minute_of_offers_may_come_at_once_then_they_trickle() -> None:
    memory = make_memory()
    one, other = view(memory, 0), view(memory, 1)
    address = account("a", offers_per_minute=6)
    for number in range(6):
        (one, other)[number % 2].count_offer([address], NOW)
    error = refused_offer(other, address)
    assert error.reason == "quota-offers"
    assert error.retry_after == pytest.approx(10.0)
    assert refused_offer(one, address, now=NOW + 9).retry_after == pytest.approx(1.0)
    one.count_offer([address], NOW + 10.001)
    refused_offer(other, address, now=NOW + 10.001)
    for _ in range(6):
        other.count_offer([address], NOW + 100)
    refused_offer(one, address, now=NOW + 100)


def test_refused_offers_cost_nothing() -> None:
    quotas = view(make_memory())
    small, large = account("s", offers_per_minute=1), account("l", offers_per_minute=3)
    quotas.count_offer([large, small], NOW)
    for _ in range(10):
        refused_offer(quotas, large, small)
    quotas.count_offer([large], NOW)
    quotas.count_offer([large], NOW)
    refused_offer(quotas, large)


def test_a_clock_that_was_set_back_does_not_lock_anyone_out() -> None:
    quotas = view(make_memory())
    address = account("a", offers_per_minute=2)
    quotas.count_offer([address], NOW)
    quotas.count_offer([address], NOW - 3600)
    wait = refused_offer(quotas, address, now=NOW - 3600).retry_after
    assert wait == pytest.approx(30)
    quotas.count_offer([address], NOW - 3600 + 30.001)


def test_who_had_spent_all_while_the_clock_was_ahead_waits_no_longer_than_others() -> None:
    quotas = view(make_memory())
    address = account("a", offers_per_minute=2)
    for _ in range(2):
        quotas.count_offer([address], NOW + 3600)
    assert refused_offer(quotas, address).retry_after == pytest.approx(30)
    assert refused_offer(quotas, address, now=NOW + 15).retry_after == pytest.approx(15)
    quotas.count_offer([address], NOW + 30.001)
    refused_offer(quotas, address, now=NOW + 30.002)


def test_who_has_sessions_is_not_forgotten_and_the_longest_idle_goes_first() -> None:
    quotas = view(make_memory(0))  # the smallest: 16 slots
    busy = [account(f"b{number}", 1, 1) for number in range(PROBES - 2)]
    for each in busy:
        quotas.count_offer([each], NOW)
        quotas.open_session([each], NOW)
    old, young, new = (account(name, 1, 1) for name in ("old", "young", "new"))
    quotas.count_offer([old], NOW + 1)
    quotas.count_offer([young], NOW + 2)
    quotas.count_offer([new], NOW + 3)
    refused_offer(quotas, young, now=NOW + 4)
    refused_offer(quotas, new, now=NOW + 4)
    for each in busy:
        assert refused_session(quotas, each).reason == "quota-sessions"
    quotas.count_offer([old], NOW + 4)  # its bucket was forgotten for another's


def test_among_accounts_that_are_all_busy_a_newcomer_waits() -> None:
    quotas = view(make_memory(0))
    leases = [quotas.open_session([account(str(number), 1)], NOW) for number in range(PROBES)]
    error = refused_session(quotas, account("new", 1))
    assert error.reason == "access-busy"
    assert error.retry_after
    leases[5].release()
    quotas.open_session([account("new", 1)], NOW)


def test_accounts_of_one_session_do_not_push_each_other_out() -> None:
    quotas = view(make_memory(0))
    for number in range(PROBES - 1):
        quotas.open_session([account(f"b{number}", 1)], NOW)
    key, tenant = account("key", 1), account("t", 1)
    assert refused_session(quotas, key, tenant).reason == "access-busy"
    quotas.open_session([tenant], NOW)


def test_it_is_bounded_and_holds_what_it_was_made_for() -> None:
    memory = make_memory(500)
    quotas = view(memory)
    leases: list[Lease] = [
        quotas.open_session([account(str(number), 1)], NOW) for number in range(500)
    ]
    for number in range(20_000):  # a flood of strangers
        quotas.count_offer([account(f"x{number}", 1, 1)], NOW)
    assert all(
        refused_session(quotas, account(str(number), 1)).reason == "quota-sessions"
        for number in range(500)
    )
    for lease in leases:
        lease.release()


def test_a_lock_that_is_not_to_be_had_is_busy_but_a_release_needs_none() -> None:
    is_free = True

    @contextmanager
    def lock() -> Iterator[None]:
        if not is_free:
            raise TimeoutError
        yield

    quotas = Quotas(make_memory(), lock, HASH_KEY, 0, WORKERS)
    tenant = account("t", 1, 1)
    lease = quotas.open_session([tenant], NOW)
    is_free = False
    assert refused_offer(quotas, tenant).reason == "access-busy"
    assert refused_session(quotas, tenant).reason == "access-busy"
    lease.release()
    is_free = True
    quotas.open_session([tenant], NOW)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%2", "fe80::/64"),
        ("127.8.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
    ],
)
def test_what_an_address_is_counted_as(source: str, name: str | None) -> None:
    assert address_name(source) == name
