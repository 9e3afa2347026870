"""Decode a TOML document into a ``Table``, or say everything that is wrong with it at once.

``msgspec`` stops at the first error, so tables and arrays are walked here and ``msgspec`` converts
the leaves. The checks of a table that need all its values run when each of them is good.
"""

import re
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from edge.config.keypath import KeyPath, find_line, format_key_path, key_lines
from edge.config.schema import Config
from edge.config.table import Problem, Table
from edge.errors import ConfigError

TableT = TypeVar("TableT", bound=Table)

_TOML_WORDS = {
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "object": "a table",
    "str": "a string",
}
_SYNTAX_ERROR_PLACE = re.compile(r" \((?:at line (?P<line>\d+), column \d+|at end of document)\)$")


def decode_config(text: str, source: str) -> Config:
    """Decode the text of a configuration file; ``source`` is its name for messages.

    Raises:
        ConfigError: with one line ``source:line: key path: what is wrong`` per problem.

    """
    return decode_document(Config, text, source)


def decode_document(model: type[TableT], text: str, source: str) -> TableT:
    """Decode any TOML document whose tables and keys are those of ``model``.

    Raises:
        ConfigError: as ``decode_config``.

    """
    try:
        document, lines = _read(text)
    except RecursionError as exc:
        raise ConfigError(f"{source}: values are nested too deeply") from exc
    except ValueError as exc:  # also the digit limit of int(), which is not a TOMLDecodeError
        raise ConfigError(_describe_syntax_error(source, text, str(exc))) from exc
    decoding = _Decoding()
    table = decoding.decode_table(model, document, ())
    if not isinstance(table, model):
        raise ConfigError(_describe(source, lines, decoding.problems))
    return table


def _read(text: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    return tomllib.loads(text), key_lines(text)


class _Invalid:
    """Stands for a value that a problem has been noted for."""


_INVALID = _Invalid()


class _Decoding:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def decode_table(self, model: type[Table], value: object, path: KeyPath) -> Table | _Invalid:
        if not isinstance(value, dict):
            return self._refuse(path, "expected a table")
        known = {field.name: field for field in fields(model)}
        values: dict[str, object] = {}
        for name, field in known.items():
            if name in value:
                values[name] = self._decode(field.type, value[name], (*path, name))
            elif field.required:
                values[name] = self._refuse((*path, name), "missing")
        for name in value.keys() - known.keys():
            hint = _name_hint(name, list(known.values()))
            values[name] = self._refuse((*path, name), f"unknown key{hint}")
        if _INVALID in values.values():
            return _INVALID
        table = model(**values)
        misfits = [Problem(path + each.path, each.text) for each in table.problems()]
        self.problems += misfits
        return _INVALID if misfits else table

    def _decode(self, kind: Any, value: object, path: KeyPath) -> object:
        if get_origin(kind) in {Union, UnionType}:
            if NoneType not in get_args(kind):
                return self._decode_variant(get_args(kind), value, path)
            # X | None, see edge.config.schema
            return None if value == "" else self._decode(get_args(kind)[0], value, path)
        if get_origin(kind) is tuple:
            return self._decode_array(get_args(kind)[0], value, path)
        if get_origin(kind) is dict:
            return self._decode_named(kind, value, path)
        if get_origin(kind) is Literal:
            return self._decode_choice(get_args(kind), value, path)
        if isinstance(kind, type) and issubclass(kind, Table):
            return self.decode_table(kind, value, path)
        if hasattr(kind, "parse"):
            return self._parse(kind, value, path)
        return self._convert(kind, value, path)

    def _decode_array(self, kind: Any, value: object, path: KeyPath) -> object:
        if not isinstance(value, list):
            return self._refuse(path, "expected an array")
        elements = tuple(self._decode(kind, each, (*path, i)) for i, each in enumerate(value))
        return _INVALID if _INVALID in elements else elements

    def _decode_named(self, kind: Any, value: object, path: KeyPath) -> object:
        """Decode a table whose keys are up to the operator."""
        if not isinstance(value, dict):
            return self._refuse(path, "expected a table")
        name_kind, entry_kind = get_args(kind)
        entries = {
            self._decode(name_kind, name, (*path, name)): self._decode(
                entry_kind, entry, (*path, name)
            )
            for name, entry in value.items()
        }
        return _INVALID if _INVALID in (*entries.keys(), *entries.values()) else entries

    def _decode_variant(
        self, models: Sequence[type[Table]], value: object, path: KeyPath
    ) -> object:
        """Decode a table that is of the model whose ``kind`` it has."""
        if not isinstance(value, dict):
            return self._refuse(path, "expected a table")
        by_kind = {_kind_of(model): model for model in models}
        if "kind" not in value:
            return self._refuse((*path, "kind"), f"missing: {_any_of(tuple(by_kind))}")
        kind = self._decode_choice(tuple(by_kind), value["kind"], (*path, "kind"))
        return kind if isinstance(kind, _Invalid) else self.decode_table(by_kind[kind], value, path)

    def _decode_choice(self, choices: Sequence[Any], value: Any, path: KeyPath) -> Any:
        if any(type(value) is type(choice) and value == choice for choice in choices):
            return value
        return self._refuse(path, f"expected {_any_of(choices)}")

    def _parse(self, kind: "_Parsed", value: object, path: KeyPath) -> object:
        if not isinstance(value, str):
            return self._refuse(path, "expected a string")
        try:
            return kind.parse(value)
        except ValueError as exc:
            return self._refuse(path, str(exc))

    def _convert(self, kind: Any, value: object, path: KeyPath) -> object:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as exc:
            return self._refuse(path, _describe_mismatch(str(exc)))

    def _refuse(self, path: KeyPath, text: str) -> _Invalid:
        self.problems.append(Problem(path, text))
        return _INVALID


class _Parsed(Protocol):
    def parse(self, text: str) -> object: ...


def _kind_of(model: type[Table]) -> str:
    return next(str(field.default) for field in fields(model) if field.name == "kind")


def _any_of(choices: Sequence[object]) -> str:
    return " or ".join(f'"{each}"' if isinstance(each, str) else str(each) for each in choices)


def _name_hint(name: str, known: Sequence[FieldInfo]) -> str:
    close = get_close_matches(name, [field.name for field in known], n=1)
    if close:
        return f'; did you mean "{close[0]}"?'
    owners = [
        field.name
        for field in known
        if isinstance(field.type, type)
        and issubclass(field.type, Table)
        and name in field.type.__struct_fields__
    ]
    return "; it belongs in " + " or ".join(f"[{owner}]" for owner in owners) if owners else ""


def _describe_mismatch(message: str) -> str:
    """Say a msgspec message in the words of TOML: "Expected `int`, got `str`" and the like."""
    words = re.sub(r"`(\w+)`", lambda match: _TOML_WORDS.get(match[1], match[1]), message)
    return words[:1].lower() + words[1:]


def _describe_syntax_error(source: str, text: str, message: str) -> str:
    place = _SYNTAX_ERROR_PLACE.search(message)
    if place is None:
        return f"{source}: not valid TOML: {message}"
    line = place["line"] or text.count("\n") + 1
    return f"{source}:{line}: not valid TOML: {message[: place.start()]}"


def _describe(source: str, lines: dict[KeyPath, int], problems: Sequence[Problem]) -> str:
    placed = [
        (find_line(lines, problem.path) or 0, format_key_path(problem.path), problem.text)
        for problem in problems
    ]
    return "\n".join(
        f"{source}{f':{line}' if line else ''}: {path}: {text}"
        for line, path, text in sorted(placed)
    )
