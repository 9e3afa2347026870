"""Listeners that several generations of workers share."""

import trio
import trio.testing

from edge.signal.intake import Door


async def test_a_door_waits_then_accepts_then_leaves_the_rest_to_others() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()
    ours = Door(listener, is_open=False)
    others = Door(listener, is_open=True)
    accepted: list[str] = []

    async def accept(door: Door, name: str) -> None:
        while True:
            stream = await door.accept()
            accepted.append(name)
            await stream.aclose()

    async def connect() -> None:
        known = len(accepted)
        async with await trio.open_tcp_stream(*address):
            with trio.fail_after(5):
                while len(accepted) == known:
                    await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, ours, "ours")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(accept, others, "others")
        await connect()
        assert accepted == ["others"]
        others.leave()
        ours.open()
        for _ in range(3):
            await connect()
        assert accepted == ["others", "ours", "ours", "ours"]
        ours.leave()
        await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_tcp_stream(*address):
            await trio.testing.wait_all_tasks_blocked()
            assert len(accepted) == 4
            stream = await listener.accept()
            await stream.aclose()
        nursery.cancel_scope.cancel()
    await listener.aclose()


async def test_a_door_that_is_left_between_two_accepts_stays_shut() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    door = Door(listener, is_open=True)
    async with await trio.open_tcp_stream(*listener.socket.getsockname()):
        stream = await door.accept()
        await stream.aclose()
    door.leave()
    async with await trio.open_tcp_stream(*listener.socket.getsockname()):
        with trio.move_on_after(0.05) as waited:
            await door.accept()
        assert waited.cancelled_caught
    await listener.aclose()
