"""Evaluates conditions on the columns of a table, such as `blur_gain > 2 and residual_px < 0.5`.

Conditions use Python's grammar but are never executed as Python: only comparisons, `and`, `or`, `not`, `in`,
arithmetic, numbers, texts and names of columns are evaluated; everything else is refused.
"""

from __future__ import annotations

import ast
import difflib
import functools
import operator
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from sdd_toolkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Values = NDArray[Any]

_MAX_CHARACTERS = 2000
_OPERATORS = ("and", "or", "not", "in", "== != < <= > >=", "+ - * / // %")
_HINT = f"known are {', '.join(_OPERATORS)}, numbers, 'texts', lists of these after `in`, and names of columns"
_COMPARE: Mapping[type[ast.cmpop], Callable[[Values, Values], Values]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Values, Values], Values]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: Mapping[type[ast.unaryop], tuple[str, Callable[[Values], Values]]] = {
    ast.Not: ("b", operator.invert),
    ast.USub: ("f", operator.neg),
    ast.UAdd: ("f", operator.pos),
}
_KINDS = {"b": "a condition", "f": "a number", "U": "a text"}


def matching_rows(condition: str, columns: Mapping[str, Values]) -> NDArray[np.bool_]:
    """Selects the rows that fulfil a condition.

    A comparison with a number that was not measured (NaN) is false, `!=` and `not in` too; `not` negates that like any
    other result. A missing text is the empty text. `'50' in lens` searches for a part of a text, `scene in ['a', 'b']`
    for one of several.

    Args:
        condition: See the module's docstring.
        columns: Arrays of one length, of float64, bool or str.

    Returns:
        (rows,) bool.

    Raises:
        InputError: Not a condition, an unknown column (with the nearest names), or kinds that cannot be compared.
    """
    if len(condition) > _MAX_CHARACTERS:
        raise InputError(f"the condition has {len(condition)} characters, more than {_MAX_CHARACTERS}", hint=_HINT)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            selected = _evaluate(ast.parse(condition.strip(), mode="eval").body, columns)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{condition[:200]!r} is no condition: {error}", hint=_HINT) from error
    if selected.dtype.kind != "b":
        raise InputError(f"{condition!r} is {_KINDS[selected.dtype.kind]}, not a condition", hint="compare it: > 2")
    rows = len(next(iter(columns.values())))
    return np.broadcast_to(selected, (rows,)).copy()


def _evaluate(node: ast.expr, columns: Mapping[str, Values]) -> Values:
    match node:
        case ast.Name(id=name):
            return _column(name, columns)
        case ast.Constant():
            return _constant(node)
        case ast.UnaryOp(op=operation, operand=operand) if type(operation) in _UNARY:
            kind, function = _UNARY[type(operation)]
            return function(_evaluate_as(kind, operand, columns))
        case ast.BoolOp(op=operation, values=values):
            join = np.logical_and if isinstance(operation, ast.And) else np.logical_or
            return functools.reduce(join, (_evaluate_as("b", value, columns) for value in values))
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _ARITHMETIC:
            operands = _evaluate_as("f", left, columns), _evaluate_as("f", right, columns)
            return np.asarray(_ARITHMETIC[type(operation)](*operands), dtype=np.float64)
        case ast.Compare():
            return _compare(node, columns)
    raise _not_allowed(node)


def _constant(node: ast.Constant) -> Values:
    match node.value:
        case bool() | str():
            return np.array(node.value)
        case int() | float():
            return _number(node.value)
    raise _not_allowed(node)


def _not_allowed(node: ast.expr) -> InputError:
    return InputError(f"`{_source_text(node)}` has no place in a condition", hint=_HINT)


def _compare(node: ast.Compare, columns: Mapping[str, Values]) -> Values:
    """A chain of comparisons, such as `1 < a <= 2`."""
    result = np.array(True)
    left = node.left
    for comparison, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(comparison, ast.In | ast.NotIn):
            result = result & _contains(left, right, columns, wanted=isinstance(comparison, ast.In))
        elif type(comparison) in _COMPARE:
            first, second = _evaluate(left, columns), _evaluate(right, columns)
            _check_same_kind(node, first, second)
            holds = _COMPARE[type(comparison)](first, second)
            result = result & holds & _is_measured(first) & _is_measured(second)
        else:
            raise _not_allowed(node)
        left = right
    return result


def _contains(left: ast.expr, right: ast.expr, columns: Mapping[str, Values], *, wanted: bool) -> Values:
    first = _evaluate(left, columns)
    if isinstance(right, ast.List | ast.Tuple | ast.Set):
        equal = np.zeros(first.shape, dtype=np.bool_)
        for entry in right.elts:
            value = _evaluate(entry, columns)
            _check_same_kind(entry, first, value)
            equal = equal | (first == value)
        return np.asarray((equal == wanted) & _is_measured(first))
    second = _evaluate_as("U", right, columns)
    _check_same_kind(right, first, second)
    return np.asarray((np.strings.find(second, first) >= 0) == wanted)


def _column(name: str, columns: Mapping[str, Values]) -> Values:
    if name in columns:
        return columns[name]
    close = difflib.get_close_matches(name, columns, n=3, cutoff=0.5)
    near = f"did you mean {' or '.join(close)}? " if close else ""
    raise InputError(f"no column is called {name!r}", hint=f"{near}columns: {', '.join(columns)}")


def _number(value: float) -> Values:
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError as error:
        raise InputError("a number of the condition is too large", hint=_HINT) from error


def _evaluate_as(kind: str, node: ast.expr, columns: Mapping[str, Values]) -> Values:
    value = _evaluate(node, columns)
    if value.dtype.kind != kind:
        raise InputError(f"`{_source_text(node)}` is {_KINDS[value.dtype.kind]}, not {_KINDS[kind]}", hint=_HINT)
    return value


def _check_same_kind(node: ast.expr, first: Values, second: Values) -> None:
    kinds = first.dtype.kind, second.dtype.kind
    if kinds[0] != kinds[1]:
        what = f"`{_source_text(node)}` compares {_KINDS[kinds[0]]} with {_KINDS[kinds[1]]}"
        raise InputError(what, hint="texts are written in quotes, numbers without")


def _is_measured(values: Values) -> Values:
    return np.asarray(~np.isnan(values) if values.dtype.kind == "f" else True)


def _source_text(node: ast.expr) -> str:
    return ast.unparse(node)[:80]
