"""Routed ufrags: known answers, refusals, and the derived password."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from edge.errors import LocalProtocolError, UfragError
from edge.ice.credentials import is_password, is_ufrag
from edge.routing.ufrag import (
    RoutedUfrag,
    RoutingKey,
    UfragIssuer,
    UfragOpener,
    derive_password,
)

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "ufrag_vectors.json").read_text()
)["vectors"]
KEY = RoutingKey(2, bytes(range(16)))


def issue(key: RoutingKey = KEY) -> str:
    return UfragIssuer(7, 9, key, lambda n: b"\x5a" * n).issue(1_800_000_000.75)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["ufrag"]))
def test_known_answers(vector: dict[str, Any]) -> None:
    key = RoutingKey(vector["key_id"], bytes.fromhex(vector["key"]))
    random = bytes.fromhex(vector["nonce"] + vector["last_byte"])
    issuer = UfragIssuer(vector["cluster"], vector["transceiver"], key, lambda n: random[:n])
    routed = RoutedUfrag(key.id, vector["cluster"], vector["transceiver"], vector["issued_at"])

    assert issuer.issue(vector["issued_at"]) == vector["ufrag"]
    assert UfragOpener([key]).open(vector["ufrag"]) == routed
    password = derive_password(bytes.fromhex(vector["password_key"]), vector["ufrag"])
    assert password == vector["password"]


def test_an_issued_ufrag_and_its_password_are_ice_credentials() -> None:
    ufrag = issue()
    assert is_ufrag(ufrag)
    assert len(ufrag) == 24
    password = derive_password(b"p" * 32, ufrag)
    assert is_password(password)
    assert len(password) == 32


def test_the_wire_form_opens_as_well_as_text() -> None:
    opener = UfragOpener([KEY])
    assert opener.open(issue().encode()) == opener.open(issue()) == RoutedUfrag(2, 7, 9, 1800000000)


def test_every_ufrag_takes_fresh_random_bytes() -> None:
    counter = iter(range(256))
    issuer = UfragIssuer(1, 1, KEY, lambda n: bytes(next(counter) for _ in range(n)))
    assert issuer.issue(0) != issuer.issue(0)


@pytest.mark.parametrize(
    "ufrag",
    [
        "",
        "abcd",
        issue()[:-1],
        issue() + "A",
        issue()[:-1] + "=",
        issue()[:-2] + "==",
        issue()[:-1] + "-",
        issue()[:-1] + "é",
        issue()[:-1] + "\n",
        issue().encode()[:-1] + b"\xff",
        "=" * 24,
    ],
)
def test_what_is_not_18_bytes_of_base64_is_malformed(ufrag: str | bytes) -> None:
    with pytest.raises(UfragError) as refusal:
        UfragOpener([KEY]).open(ufrag)
    assert refusal.value.reason == "malformed"


def with_first_byte(first: int) -> str:
    return base64.b64encode(bytes([first]) + base64.b64decode(issue())[1:]).decode()


@pytest.mark.parametrize(
    ("ufrag", "reason"),
    [
        (with_first_byte(2 << 5 | 0), "unknown-version"),
        (with_first_byte(2 << 5 | 2), "unknown-version"),
        (with_first_byte(3 << 5 | 1), "unknown-key"),
        (with_first_byte(7 << 5 | 1), "unknown-key"),
        (issue(RoutingKey(2, b"another key 1234")), "forged"),
    ],
)
def test_a_seal_of_somebody_else_is_refused(ufrag: str, reason: str) -> None:
    with pytest.raises(UfragError) as refusal:
        UfragOpener([KEY]).open(ufrag)
    assert refusal.value.reason == reason


def test_old_and_new_key_open_side_by_side_while_keys_rotate() -> None:
    new = RoutingKey(3, b"n" * 16)
    opener = UfragOpener([KEY, new])
    assert opener.open(issue(KEY)).key_id == 2
    assert opener.open(issue(new)).key_id == 3


@pytest.mark.parametrize("key_id", [-1, 7, 8])
def test_a_routing_key_id_is_0_to_6(key_id: int) -> None:
    with pytest.raises(LocalProtocolError, match="0 to 6"):
        RoutingKey(key_id, bytes(16))


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_routing_key_has_16_bytes(size: int) -> None:
    with pytest.raises(LocalProtocolError, match="16 bytes"):
        RoutingKey(0, bytes(size))


def test_a_routing_key_does_not_show_itself() -> None:
    assert repr(RoutingKey(0, b"secret secret 16")) == "RoutingKey(id=0)"


def test_two_keys_of_one_id_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="two routing keys"):
        UfragOpener([KEY, RoutingKey(2, b"n" * 16)])


@pytest.mark.parametrize(("cluster", "transceiver"), [(-1, 0), (0, -1), (65536, 0), (0, 65536)])
def test_cluster_and_transceiver_are_16_bit_numbers(cluster: int, transceiver: int) -> None:
    with pytest.raises(LocalProtocolError, match="16-bit"):
        UfragIssuer(cluster, transceiver, KEY, bytes)


def test_a_short_password_key_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="16 bytes"):
        derive_password(b"short", issue())
