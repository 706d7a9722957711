"""Conditions on the columns of a table, such as `blur_gain > 2 and residual_px < 0.5`: nothing else, and pure.

They are written in Python's grammar but never run as Python: of the parsed text only comparisons, `and`, `or`, `not`,
`in`, arithmetic, numbers, texts and names of columns are known here; everything else is refused.
"""

from __future__ import annotations

import ast
import difflib
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
_KINDS = {"b": "a condition", "f": "a number", "U": "a text"}


def matching_rows(condition: str, columns: Mapping[str, Values]) -> NDArray[np.bool_]:
    """Which rows fulfil a condition.

    A comparison with a number that was not measured (NaN) is false, `!=` and `not in` too; `not` turns that around like
    any other answer. A text that is missing is the empty text. `'50' in lens` looks for a part of a text, `scene in
    ['a', 'b']` for one of several.

    Args:
        condition: See the module.
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
            answer = _evaluate(ast.parse(condition.strip(), mode="eval").body, columns)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{condition[:200]!r} is no condition: {error}", hint=_HINT) from error
    if answer.dtype.kind != "b":
        raise InputError(f"{condition!r} is {_KINDS[answer.dtype.kind]}, not a condition", hint="compare it: > 2")
    rows = len(next(iter(columns.values())))
    return np.broadcast_to(answer, (rows,)).copy()


def _evaluate(node: ast.expr, columns: Mapping[str, Values]) -> Values:
    match node:
        case ast.Name(id=name):
            return _column(name, columns)
        case ast.Constant(value=bool(value)):
            return np.array(value)
        case ast.Constant(value=int(number) | float(number)):
            return _number(number)
        case ast.Constant(value=str(text)):
            return np.array(text)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_evaluate_as("b", operand, columns)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate_as("f", operand, columns)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _evaluate_as("f", operand, columns)
        case ast.BoolOp(op=joint, values=values):
            join = np.logical_and if isinstance(joint, ast.And) else np.logical_or
            answer = _evaluate_as("b", values[0], columns)
            for further in values[1:]:
                answer = join(answer, _evaluate_as("b", further, columns))
            return answer
        case ast.BinOp(left=left, op=how, right=right) if type(how) in _ARITHMETIC:
            both = _evaluate_as("f", left, columns), _evaluate_as("f", right, columns)
            return np.asarray(_ARITHMETIC[type(how)](*both), dtype=np.float64)
        case ast.Compare():
            return _compare(node, columns)
    raise InputError(f"`{_source_text(node)}` has no place in a condition", hint=_HINT)


def _compare(node: ast.Compare, columns: Mapping[str, Values]) -> Values:
    answer = np.array(True)
    left = node.left
    for how, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(how, ast.In | ast.NotIn):
            answer = answer & _contains(left, right, columns, wanted=isinstance(how, ast.In))
        elif type(how) in _COMPARE:
            first, second = _evaluate(left, columns), _evaluate(right, columns)
            _check_same_kind(node, first, second)
            answer = answer & _COMPARE[type(how)](first, second) & _is_measured(first) & _is_measured(second)
        else:
            raise InputError(f"`{_source_text(node)}` has no place in a condition", hint=_HINT)
        left = right
    return answer


def _contains(left: ast.expr, right: ast.expr, columns: Mapping[str, Values], *, wanted: bool) -> Values:
    first = _evaluate(left, columns)
    if isinstance(right, ast.List | ast.Tuple | ast.Set):
        found = np.zeros(first.shape, dtype=np.bool_)
        for entry in right.elts:
            value = _evaluate(entry, columns)
            _check_same_kind(entry, first, value)
            found = found | (first == value)
        return np.asarray((found == wanted) & _is_measured(first))
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
