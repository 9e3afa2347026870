"""Header extension elements (RFC 8285) and the audio level (RFC 6464)."""

import pytest

from edge.errors import LocalProtocolError, RtpError
from edge.rtp.extensions import (
    AudioLevel,
    decode_audio_level,
    decode_extensions,
    encode_extensions,
)


def test_one_byte_form() -> None:
    # From aiortc 1.16 with mid = 4 and ssrc-audio-level = 10.
    assert decode_extensions(0xBEDE, bytes.fromhex("4030a0aa")) == {4: b"0", 10: b"\xaa"}
    assert encode_extensions({4: b"0", 10: b"\xaa"}) == (0xBEDE, bytes.fromhex("4030a0aa"))


def test_one_byte_form_with_padding_between() -> None:
    # The shape of RFC 8285 §4.2's example: lengths 1, 2 and 4, padding between and after.
    data = bytes.fromhex("10aa21bbbb000033cccccccc000000")
    assert decode_extensions(0xBEDE, data) == {1: b"\xaa", 2: b"\xbb\xbb", 3: b"\xcc" * 4}


def test_one_byte_form_ends_at_id_15() -> None:
    assert decode_extensions(0xBEDE, bytes.fromhex("10aaf0bb20cc")) == {1: b"\xaa"}


def test_one_byte_form_ends_at_id_0_with_a_length() -> None:
    assert decode_extensions(0xBEDE, bytes.fromhex("10aa01bb20cc")) == {1: b"\xaa"}


@pytest.mark.parametrize("profile", [0x1000, 0x100F])
def test_two_byte_form(profile: int) -> None:
    # The shape of RFC 8285 §4.3's example: lengths 0, 1 and 4, padding between.
    data = bytes.fromhex("01000201bb000304cccccccc")
    assert decode_extensions(profile, data) == {1: b"", 2: b"\xbb", 3: b"\xcc" * 4}


@pytest.mark.parametrize("elements", [{15: b"a"}, {255: b"a"}, {1: b""}, {1: bytes(17)}])
def test_two_byte_form_is_chosen_where_the_other_cannot_say_it(elements: dict[int, bytes]) -> None:
    profile, words = encode_extensions(elements)
    assert profile == 0x1000
    assert len(words) % 4 == 0
    assert decode_extensions(profile, words) == elements


def test_first_of_a_repeated_id_counts() -> None:
    assert decode_extensions(0xBEDE, bytes.fromhex("10aa10bb")) == {1: b"\xaa"}


@pytest.mark.parametrize("profile", [0, 0xBEDD, 0x1010, 0x0FFF])
def test_other_profiles_have_no_elements(profile: int) -> None:
    assert decode_extensions(profile, bytes.fromhex("10aa0000")) == {}


@pytest.mark.parametrize(
    ("profile", "data"), [(0xBEDE, "10"), (0xBEDE, "11aa"), (0x1000, "01"), (0x1000, "0102aa")]
)
def test_refuses_elements_that_overrun(profile: int, data: str) -> None:
    with pytest.raises(RtpError) as caught:
        decode_extensions(profile, bytes.fromhex(data))
    assert caught.value.reason == "rtp-extension-element"


@pytest.mark.parametrize("elements", [{0: b"a"}, {256: b"a"}, {1: bytes(256)}])
def test_elements_that_no_form_can_say_are_our_bug(elements: dict[int, bytes]) -> None:
    with pytest.raises(LocalProtocolError):
        encode_extensions(elements)


def test_audio_level() -> None:
    assert decode_audio_level(b"\xaa") == AudioLevel(voice=True, level=42)
    assert decode_audio_level(b"\x7f") == AudioLevel(voice=False, level=127)


@pytest.mark.parametrize("element", [b"", b"\xaa\x00"])
def test_audio_level_is_one_byte(element: bytes) -> None:
    with pytest.raises(RtpError) as caught:
        decode_audio_level(element)
    assert caught.value.reason == "rtp-audio-level"
