"""Lines of key paths in TOML documents of every shape."""

import pytest

from edge.config.keypath import KeyPath, find_line, format_key_path, key_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# only = 1\n", {}),
        ("a = 1\n\nb = 2", {("a",): 1, ("b",): 3}),
        ("a = 1\r\n\r\nb = 2\r\n", {("a",): 1, ("b",): 3}),
        ("[t]\na = 1 # ]\n", {("t",): 1, ("t", "a"): 2}),
        ("[ t . u ]\na=1", {("t",): 1, ("t", "u"): 1, ("t", "u", "a"): 2}),
        ("a.b . c = 1", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1}),
        ('"a.b" = 1\n\'c d\'."\\u0065" = 2', {("a.b",): 1, ("c d",): 2, ("c d", "e"): 2}),
        ("[[t]]\n[[t]]\na = 1", {("t",): 1, ("t", 0): 1, ("t", 1): 2, ("t", 1, "a"): 3}),
        (
            "[[t]]\n[t.u]\na = 1\n[[t]]\n[[t.v]]",
            {
                ("t",): 1,
                ("t", 0): 1,
                ("t", 0, "u"): 2,
                ("t", 0, "u", "a"): 3,
                ("t", 1): 4,
                ("t", 1, "v"): 5,
                ("t", 1, "v", 0): 5,
            },
        ),
        (
            "a = [ # one, two\n  1,\n  '],', # ]\n]\nb = 1",
            {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("b",): 5},
        ),
        (
            'a = { b = [1, 2], c.d = "}" }\ne = 1979-05-27 07:32:32 # when',
            {
                ("a",): 1,
                ("a", "b"): 1,
                ("a", "b", 0): 1,
                ("a", "b", 1): 1,
                ("a", "c"): 1,
                ("a", "c", "d"): 1,
                ("e",): 2,
            },
        ),
        ('a = """\n[t]\nb = 1 \\""" """""\nc = 1', {("a",): 1, ("c",): 4}),
        ("a = '''\n[t]\n'b' = 1'''''\nc = 1", {("a",): 1, ("c",): 4}),
        ("a = ''\nb = \"\\\\\"\nc = 1", {("a",): 1, ("b",): 2, ("c",): 3}),
        (
            "a = []\nb = {}\nc = [[], {}]",
            {("a",): 1, ("b",): 2, ("c",): 3, ("c", 0): 3, ("c", 1): 3},
        ),
    ],
)
def test_key_lines(text: str, expected: dict[KeyPath, int]) -> None:
    assert key_lines(text) == expected


def test_find_line_falls_back_to_what_is_around() -> None:
    lines = {("a",): 1, ("a", 0): 2}
    assert find_line(lines, ("a", 0, "b")) == 2
    assert find_line(lines, ("a", "c")) == 1
    assert find_line(lines, ("d",)) is None


def test_format_key_path() -> None:
    assert format_key_path(("keys", "routing", 1, "key")) == "keys.routing[1].key"
    assert format_key_path(("a b", "\x1b[2J")) == "'a b'.'\\x1b[2J'"
    assert len(format_key_path(("k" * 1000,))) == 60
