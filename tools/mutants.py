"""Small faults of a source file: what can be changed in it, and the file with one change."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
#: Calls whose arguments are read by people only.
_SAID = {"debug", "info", "warning", "error", "exception", "warn", "warn_once", "log"}
#: Statements that can go without leaving a name unbound, as a rule.
_DROPPED = (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        path: of the file, from the root of the repository.
        line: where it is, from 1.
        before: the statement as it is.
        after: and as it becomes.
        source: the whole file with it.
    """

    path: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {_short(self.before)}  ->  {_short(self.after)}"


def _short(text: str, most: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Yield what can be changed: node, field, and index in the field's list.

    Left out: docstrings, messages of errors and logs, annotations, and the names of a module.
    """
    for node in ast.iter_child_nodes(tree):
        yield from _places(node)


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_ignores", "names"):
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST) or _is_for_people(child):
                continue
            at = index if isinstance(value, list) else None
            if type(child) in _OPERATORS or _is_number(child) or _is_negation(child):
                yield node, field, at
            if isinstance(child, _DROPPED) and at is not None:
                yield node, field, at
            if not isinstance(child, ast.Raise):
                yield from _places(child)


def _is_for_people(node: ast.AST) -> bool:
    if isinstance(node, ast.JoinedStr):
        return True
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, ast.Constant):
        return True  # a docstring
    name = getattr(getattr(node.value, "func", None), "attr", "") or getattr(
        getattr(node.value, "func", None), "id", ""
    )
    return name in _SAID


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float))


def _is_negation(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub))


def _changed(node: ast.AST) -> ast.AST:
    """Return what stands for a node in the mutant."""
    if isinstance(node, ast.Constant):
        value = node.value
        return ast.Constant((not value) if isinstance(value, bool) else value + 1)  # type: ignore[operator]
    if isinstance(node, ast.UnaryOp):
        return node.operand
    if isinstance(node, _DROPPED):
        return ast.Pass()
    return _OPERATORS[type(node)]()


def mutant_of(path: str, source: str, number: int) -> Mutant:
    """Return the mutant of a place.

    Args:
        path: of the file.
        source: its content.
        number: which of :func:`places`.
    """
    tree = ast.parse(source)
    changed = copy.deepcopy(tree)
    parent, field, index = list(places(changed))[number]
    value = getattr(parent, field)
    old = value if index is None else value[index]
    new = ast.copy_location(_changed(old), old) if hasattr(old, "lineno") else _changed(old)
    if index is None:
        setattr(parent, field, new)
    else:
        value[index] = new
    line = getattr(old, "lineno", getattr(parent, "lineno", 0))
    around = old if isinstance(old, _DROPPED) else list(places(tree))[number][0]
    after = new if isinstance(old, _DROPPED) else parent
    ast.fix_missing_locations(changed)
    return Mutant(path, line, ast.unparse(around), ast.unparse(after), ast.unparse(changed))
