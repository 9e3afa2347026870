"""Decode, authenticate and encode ICE's STUN messages; every refusal has its reason."""

from collections.abc import Sequence

import pytest
from aioice import stun as aioice_stun

from edge.errors import StunError
from edge.ice.credentials import Credentials
from edge.ice.stun import (
    Check,
    Refusal,
    Success,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from edge.machine import Address
from tests.support.stun_messages import (
    CONTROLLED,
    CONTROLLING,
    PRIORITY,
    TRANSACTION_ID,
    USE_CANDIDATE,
    seal,
)

LOCAL = Credentials("YbzzFnV+ByDtEbRvszE+6OYL", "localpasswordlocalpassword")
REMOTE = Credentials("h6vY", "remotepasswordremotepassword")
USERNAME = (0x0006, f"{LOCAL.ufrag}:{REMOTE.ufrag}".encode())
CHECK = Check(TRANSACTION_ID, REMOTE.ufrag, 0x6E7F1EFF, nominated=False)


def request(*attributes: tuple[int, bytes], password: str | None = LOCAL.password) -> bytes:
    return seal(attributes, password)


def why_refused(data: bytes, local: Credentials = LOCAL) -> str:
    with pytest.raises(StunError) as refusal:
        decode_request(data, local)
    return refusal.value.reason


def test_a_check() -> None:
    assert decode_request(request(USERNAME, PRIORITY, CONTROLLING), LOCAL) == CHECK


def test_username_need_not_come_first() -> None:
    assert decode_request(request(CONTROLLING, PRIORITY, USERNAME), LOCAL) == CHECK


def test_a_nominating_check() -> None:
    check = decode_request(request(USERNAME, PRIORITY, CONTROLLING, USE_CANDIDATE), LOCAL)
    assert isinstance(check, Check)
    assert check.nominated


def test_the_network_cost_attribute_of_chromium_is_skipped() -> None:
    cost = (0xC057, b"\x00\x01\x00\x0a")
    assert decode_request(request(USERNAME, cost, PRIORITY, CONTROLLING), LOCAL) == CHECK


def test_dtls_records_inside_a_check_are_skipped() -> None:
    record = (0xC070, bytes(1200))
    assert decode_request(request(USERNAME, PRIORITY, record), LOCAL) == CHECK


def test_what_follows_integrity_does_not_count() -> None:
    data = seal(
        [USERNAME, PRIORITY], LOCAL.password, after_integrity=[USE_CANDIDATE, (0x7FFF, b"")]
    )
    assert decode_request(data, LOCAL) == CHECK


def test_the_first_username_counts() -> None:
    other = (0x0006, b"other:h6vY")
    assert decode_request(request(USERNAME, other, PRIORITY), LOCAL) == CHECK
    assert why_refused(request(other, USERNAME, PRIORITY)) == "unknown-username"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (seal([], None, kind=0x0011), "indication"),
        (seal([USERNAME], LOCAL.password, kind=0x0011), "indication"),
        (seal([USERNAME], LOCAL.password, kind=0x0101), "unexpected-class"),
        (seal([USERNAME], LOCAL.password, kind=0x0111), "unexpected-class"),
        (seal([USERNAME], LOCAL.password, kind=0x0003), "unexpected-method"),
        (seal([USERNAME], LOCAL.password, kind=0x3EEF), "unexpected-method"),
        (seal([USERNAME, PRIORITY], LOCAL.password, fingerprint=False), "missing-fingerprint"),
        (request(PRIORITY), "missing-username"),
        (request((0x0006, b""), PRIORITY), "bad-username"),
        (request((0x0006, LOCAL.ufrag.encode()), PRIORITY), "bad-username"),
        (request((0x0006, f"{LOCAL.ufrag}:".encode()), PRIORITY), "bad-username"),
        (request((0x0006, USERNAME[1] + b"x" * 508), PRIORITY), "bad-username"),
        (request((0x0006, b"\xff\xfe:h6vY"), PRIORITY), "malformed"),
        (request((0x0006, b"\x00\x00:h6vY"), PRIORITY), "unknown-username"),
        (request((0x0006, b"evtj:h6vY"), PRIORITY), "unknown-username"),
        (request((0x0006, f"{REMOTE.ufrag}:{LOCAL.ufrag}".encode())), "unknown-username"),
        (request(USERNAME, PRIORITY, password=None), "missing-integrity"),
        (request(USERNAME, (0x001C, bytes(32)), PRIORITY), "missing-integrity"),
        (request(USERNAME, PRIORITY, password=REMOTE.password), "bad-integrity"),
        (request(USERNAME, PRIORITY, (0x0008, b""), password=None), "bad-integrity"),
        (request(USERNAME, PRIORITY, (0x0008, bytes(20))), "bad-integrity"),
        (request(USERNAME, (0x0024, b"\x6e")), "malformed"),
        (request(USERNAME, (0x0024, b"")), "malformed"),
    ],
)
def test_what_is_met_with_silence(data: bytes, reason: str) -> None:
    assert why_refused(data) == reason


def test_a_wrong_fingerprint_is_met_with_silence() -> None:
    data = request(USERNAME, PRIORITY)
    assert why_refused(data[:-1] + bytes([data[-1] ^ 1])) == "bad-fingerprint"


def test_username_may_have_508_bytes() -> None:
    username = (0x0006, (USERNAME[1] + b"x" * 508)[:508])
    assert isinstance(decode_request(request(username, PRIORITY), LOCAL), Check)


@pytest.mark.parametrize(
    ("attributes", "code", "unknown"),
    [
        ([USERNAME, PRIORITY, CONTROLLED], 487, ()),
        ([USERNAME, CONTROLLING], 400, ()),
        ([USERNAME, PRIORITY, (0x7FFF, b"x"), (0x0003, bytes(4))], 420, (0x7FFF, 0x0003)),
        ([USERNAME, (0x7FFF, b""), (0x7FFF, b""), CONTROLLED], 420, (0x7FFF,)),
    ],
)
def test_authentic_requests_that_get_an_error(
    attributes: Sequence[tuple[int, bytes]], code: int, unknown: tuple[int, ...]
) -> None:
    refusal = decode_request(seal(attributes, LOCAL.password), LOCAL)
    assert refusal == Refusal(TRANSACTION_ID, code, unknown)
    assert decode_response(encode_response(refusal, LOCAL), LOCAL) == refusal


def test_strangers_get_no_error_that_tells_them_anything() -> None:
    data = seal([USERNAME, (0x7FFF, b""), CONTROLLED], "guessed password")
    assert why_refused(data) == "bad-integrity"


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_a_success_response_is_what_aioice_makes(host: str) -> None:
    message = aioice_stun.Message(
        message_method=aioice_stun.Method.BINDING,
        message_class=aioice_stun.Class.RESPONSE,
        transaction_id=TRANSACTION_ID,
        attributes={"XOR-MAPPED-ADDRESS": (host, 40000)},
    )
    message.add_message_integrity(LOCAL.password.encode())
    success = Success(TRANSACTION_ID, Address(host, 40000, 3))
    assert encode_response(success, LOCAL) == bytes(message)
    assert decode_response(bytes(message), LOCAL) == Success(TRANSACTION_ID, Address(host, 40000))


def test_a_request_is_what_aioice_makes() -> None:
    message = aioice_stun.Message(
        message_method=aioice_stun.Method.BINDING,
        message_class=aioice_stun.Class.REQUEST,
        transaction_id=TRANSACTION_ID,
        attributes={
            "USERNAME": f"{LOCAL.ufrag}:{REMOTE.ufrag}",
            "PRIORITY": 77,
            "ICE-CONTROLLING": 2**63 + 5,
            "USE-CANDIDATE": None,
        },
    )
    message.add_message_integrity(LOCAL.password.encode())
    data = encode_request(
        local=REMOTE,
        remote=LOCAL,
        priority=77,
        tie_breaker=2**63 + 5,
        use_candidate=True,
        transaction_id=TRANSACTION_ID,
    )
    assert data == bytes(message)
    check = Check(TRANSACTION_ID, REMOTE.ufrag, 77, nominated=True)
    assert decode_request(data, LOCAL) == check


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (seal([], LOCAL.password, kind=0x0001), "unexpected-class"),
        (seal([], LOCAL.password, kind=0x0101), "malformed"),
        (seal([], LOCAL.password, kind=0x0111), "malformed"),
        (seal([(0x0020, b"\x00\x01")], LOCAL.password, kind=0x0101), "malformed"),
        (seal([(0x0020, b"\x00\x03" + bytes(6))], LOCAL.password, kind=0x0101), "malformed"),
        (seal([(0x0009, b"\x00")], LOCAL.password, kind=0x0111), "malformed"),
        (seal([(0x0009, b"\x00\x00\x04\x00\xff")], LOCAL.password, kind=0x0111), "malformed"),
        (
            seal(
                [(0x0009, b"\x00\x00\x04\x14"), (0x000A, b"\x7f\xff\x00")],
                LOCAL.password,
                kind=0x0111,
            ),
            "malformed",
        ),
        (seal([(0x7FFF, b"")], LOCAL.password, kind=0x0101), "unknown-attributes"),
        (seal([(0x0020, bytes(8))], None, kind=0x0101), "missing-integrity"),
        (seal([(0x0020, bytes(8))], REMOTE.password, kind=0x0101), "bad-integrity"),
    ],
)
def test_responses_that_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(StunError) as refusal:
        decode_response(data, LOCAL)
    assert refusal.value.reason == reason
