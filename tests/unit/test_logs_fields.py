"""The convention for fields holds wherever something is logged."""

import ast
from collections.abc import Iterator
from pathlib import Path

import edge
from edge.logs import FIELDS

PACKAGE = Path(edge.__file__).parent


def log_calls() -> Iterator[tuple[str, ast.Call, set[str]]]:
    """Yield every call of a logger, where it is, and the keys of its ``extra``."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"))):
                    extra = next(
                        (each.value for each in node.keywords if each.arg == "extra"), None
                    )
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node, keys_of(extra, tree)


def keys_of(value: ast.expr | None, tree: ast.Module) -> set[str]:
    """Return the keys of a display, or of those that a name stands for in this file."""
    match value:
        case None:
            return set()
        case ast.Dict(keys, values):
            keys_here = {each.value for each in keys if isinstance(each, ast.Constant)}
            others = [each for key, each in zip(keys, values, strict=True) if key is None]
            return {str(each) for each in keys_here}.union(
                *(keys_of(each, tree) for each in others)
            )
    meant = ast.unparse(value)
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Assign([target], ast.Dict() as display) if ast.unparse(target) == meant:
                found |= keys_of(display, tree)
    assert found, f"{meant} is not a display"
    return found


def test_lines_about_a_session_or_worker_say_whose() -> None:
    seen = 0
    for where, call, keys in log_calls():
        assert keys <= FIELDS.keys(), where
        template = call.args[0].value if isinstance(call.args[0], ast.Constant) else ""
        assert isinstance(template, str)
        assert "session %s" not in template or "session_id" in keys, where
        assert "worker %s" not in template or "worker" in keys, where
        seen += bool(keys)
    assert seen > 10
