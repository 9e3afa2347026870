"""What anybody of the group ``edge`` can write to the control socket costs no call anything."""

from pathlib import Path

import trio

from edge.operate.protocol import Refused, decode_reply
from tests.support.appliance import running_appliance
from tests.support.caller import calling

LINES = (
    b"[" * 1990 + b"]" * 1990,
    b'{"do":"status","more":' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}",
    b'{"do":"end","session":"\xff\xff"}',
    b'{"do":"\xff"}',
    b'{"do":"session","session":"\\ud83d"}',
    b'{"do":"end","session":"\\u0000"}',
    b'{"do":"drain","deadline":1e999}',
    b'{"version":99999999999999999999}',
    b"\xf0\x9f",
    b"\x00" * 4000,
)


async def test_nonsense_is_refused_and_the_call_goes_on(tmp_path: Path) -> None:
    async with (
        running_appliance(tmp_path) as appliance,
        calling(await appliance.origin()) as call,
    ):
        await call.wait_echo(10)
        for line in LINES:
            async with await trio.open_unix_socket(str(appliance.control_socket)) as stream:
                await stream.send_all(line + b"\n")
                await stream.send_eof()
                with trio.fail_after(10):
                    answered = b"".join([chunk async for chunk in stream])
            (reply,) = (decode_reply(each) for each in answered.splitlines())
            if b'"status"' not in line:
                assert isinstance(reply, Refused), line
                assert reply.code in ("bad-request", "unknown-session", "version"), line
        await call.wait_echo(call.peer.record.echoed + 20)
        assert appliance.process.poll() is None
