"""Key paths of a TOML document, and the lines that they are written on.

``tomllib`` gives values without positions, so this scans the text a second time. It reads only
documents that ``tomllib`` has accepted, which is why it checks nothing: it only has to tell keys
from strings, comments and brackets.
"""

import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]
"""Table and key names (str) and array indices (int), outermost first."""

_GAP = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?""""{0,2}'
    r"|'''.*?''''{0,2}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")  # number, boolean, date: up to whatever ends a value

_NAME_SHOWN_MAX = 60


def format_key_path(path: KeyPath) -> str:
    """Write a path the way TOML would: ``keys.routing[1].key``; odd names are quoted, long cut."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        shown = part if _BARE_KEY.fullmatch(part) else ascii(part)
        text += ("." if text else "") + shown[:_NAME_SHOWN_MAX]
    return text


def find_line(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """Line of the path, or of the nearest thing around it that is written down."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def key_lines(text: str) -> dict[KeyPath, int]:
    """First line (from 1) of every table, key and array element of a valid TOML document.

    Raises:
        RecursionError: values are nested about as deep as ``tomllib`` itself would bear.

    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_starts = [0] + [match.end() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._table_counts: dict[KeyPath, int] = {}  # of arrays of tables

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_GAP)
        while self._at < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._scan_header()
            else:
                self._scan_pair(table)
            self._skip(_GAP)
        return self._lines

    def _scan_header(self) -> KeyPath:
        """``[a.b]`` or ``[[a.b]]``; returns the path of the table that it opens."""
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        start, self._at = self._at, self._at + brackets
        parts = self._scan_key()
        self._at += brackets
        path: KeyPath = ()
        for part in parts[:-1]:
            path = self._note((*path, part), start)
            if path in self._table_counts:  # the header extends the newest table of that array
                path = (*path, self._table_counts[path] - 1)
        path = self._note((*path, parts[-1]), start)
        if brackets == 2:
            index = self._table_counts.get(path, 0)
            self._table_counts[path] = index + 1
            path = self._note((*path, index), start)
        return path

    def _scan_pair(self, table: KeyPath) -> None:
        start, path = self._at, table
        for part in self._scan_key():
            path = self._note((*path, part), start)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._scan_value(path)

    def _scan_key(self) -> list[str]:
        """Read a dotted key and the blanks around it; stops at the ``=`` or ``]`` behind it."""
        parts = []
        while True:
            self._skip(_BLANK)
            if bare := _BARE_KEY.match(self._text, self._at):
                self._at = bare.end()
                parts.append(bare.group())
            else:
                start = self._at
                self._skip(_STRING)
                quoted = self._text[start : self._at]
                parts.append(tomllib.loads(f"key = {quoted}")["key"])
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _scan_value(self, path: KeyPath) -> None:
        first = self._text[self._at]
        if first == "[":
            self._scan_array(path)
        elif first == "{":
            self._scan_inline_table(path)
        else:
            self._skip(_STRING if first in "\"'" else _SCALAR)

    def _scan_array(self, path: KeyPath) -> None:
        self._at += 1
        self._skip(_GAP)
        index = 0
        while self._text[self._at] != "]":
            self._scan_value(self._note((*path, index), self._at))
            index += 1
            self._skip_comma()
        self._at += 1

    def _scan_inline_table(self, path: KeyPath) -> None:
        self._at += 1
        self._skip(_GAP)
        while self._text[self._at] != "}":
            self._scan_pair(path)
            self._skip_comma()
        self._at += 1

    def _skip_comma(self) -> None:
        self._skip(_GAP)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_GAP)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        assert match is not None, "tomllib accepted this text"
        self._at = match.end()

    def _note(self, path: KeyPath, position: int) -> KeyPath:
        self._lines.setdefault(path, bisect_right(self._line_starts, position))
        return path
