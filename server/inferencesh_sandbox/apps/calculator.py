"""A notebook of arithmetic: each run is a cell, and a session remembers the names."""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from inferencesh_sandbox.apps.types import App, AppFailed, AppInput, AppOutput, Function

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferencesh_sandbox.apps.types import Work

Number = int | float
MAX_NUMBER = 10**300  # beyond, a number is slow to work with and no JSON reader keeps it
MAX_NAMES = 1_000

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: operator.mod,
    ast.Pow: lambda left, right: left**right,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


class CellInput(AppInput):
    code: str = Field(description="Lines of arithmetic: `a = 2 * 3`, then `a ** 2 + 1`", max_length=4_000)


class CellOutput(AppOutput):
    cell: int = Field(description="Number of this cell in the session, from 1")
    value: int | float | None = Field(default=None, description="Value of the last line; absent for an assignment")
    names: dict[str, int | float] = Field(description="What is remembered now")


async def _run(work: Work, inputs: CellInput) -> dict[str, Any]:
    """Run a cell wholly or not at all: one that fails changes no name."""
    names: dict[str, Number] = dict(work.memory.get("names", {}))
    value: Number | None = None
    try:
        for line in ast.parse(inputs.code).body:
            value = _line(line, names)
    except (SyntaxError, ArithmeticError, RecursionError, ValueError) as exc:
        raise AppFailed(f"the cell does not work out: {exc}") from exc
    if len(names) > MAX_NAMES:
        raise AppFailed(f"a notebook remembers at most {MAX_NAMES} names")
    work.memory["names"], work.memory["cells"] = names, work.memory.get("cells", 0) + 1
    value_field = {} if value is None else {"value": value}
    return {"cell": work.memory["cells"], **value_field, "names": names}


def _line(line: ast.stmt, names: dict[str, Number]) -> Number | None:
    match line:
        case ast.Expr(value=expression):
            return _value(expression, names)
        case ast.Assign(targets=[ast.Name(id=name)], value=expression):
            names[name] = _value(expression, names)
            return None
        case _:
            raise AppFailed(f"line {line.lineno} is no arithmetic: {ast.unparse(line)[:80]}")


def _value(expression: ast.expr, names: dict[str, Number]) -> Number:
    match expression:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _checked(number)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Name(id=name):
            raise AppFailed(f"there is no {name!r} yet; the names are {', '.join(names) or 'none'}")
        case ast.UnaryOp(op=op, operand=inner) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(inner, names))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _worked_out(op, _value(left, names), _value(right, names))
        case _:
            raise AppFailed(f"line {expression.lineno} is no arithmetic: {ast.unparse(expression)[:80]}")


def _worked_out(op: ast.operator, left: Number, right: Number) -> Number:
    # Before, not after: a tower of powers would take for ever, and most of them more memory than there is.
    if isinstance(op, ast.Pow) and abs(right) * math.log10(max(abs(left), 2)) > math.log10(MAX_NUMBER):
        raise AppFailed("that power is too large")
    return _checked(_BINARY[type(op)](left, right))


def _checked(number: Number) -> Number:
    if isinstance(number, complex) or not abs(number) <= MAX_NUMBER:  # which not-a-number is not either
        raise AppFailed("that number is too large, or is none")
    return number


NOTEBOOK = App(
    name="notebook",
    title="Notebook (sandbox)",
    description="Runs cells of arithmetic and remembers names for as long as its session lives. An app of the sandbox.",
    category="other",
    functions=(Function("run", "Run a cell.", CellInput, CellOutput, _run),),
)
