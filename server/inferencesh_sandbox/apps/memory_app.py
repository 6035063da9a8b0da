"""Apps that keep something between the calls of a session: a counter and a memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from inferencesh_sandbox.apps.types import App, AppFailed, AppInput, AppOutput, Function

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import Work


class CountInput(AppInput):
    step: int = Field(default=1, ge=-1_000_000, le=1_000_000, description="How much to add")


class CountOutput(AppOutput):
    value: int = Field(description="The sum of all steps in this session")


async def _count(work: Work, inputs: CountInput) -> dict[str, Any]:
    work.memory["count"] = work.memory.get("count", 0) + inputs.step
    return {"value": work.memory["count"]}


class SetInput(AppInput):
    model_config = ConfigDict(title="SetValueInput")
    key: str = Field(description="Name of the value", max_length=200)
    value: Any = Field(description="What to remember; any JSON")


class SetOutput(AppOutput):
    model_config = ConfigDict(title="SetValueOutput")
    success: bool = Field(description="Whether it was remembered")
    key: str = Field(description="Name of the value")
    value: Any = Field(description="What is remembered")


class GetInput(AppInput):
    model_config = ConfigDict(title="GetValueInput")
    key: str = Field(description="Name of the value", max_length=200)


class GetOutput(AppOutput):
    model_config = ConfigDict(title="GetValueOutput")
    found: bool = Field(description="Whether there is such a value")
    key: str = Field(description="Name of the value")
    value: Any = Field(default=None, description="The value; absent if there is none")


class IncrementInput(AppInput):
    model_config = ConfigDict(title="IncrementInput")
    key: str = Field(description="Name of the number; one that is missing counts as 0", max_length=200)
    amount: int = Field(default=1, description="How much to add")


class IncrementOutput(AppOutput):
    model_config = ConfigDict(title="IncrementOutput")
    key: str = Field(description="Name of the number")
    previous: int = Field(description="The number before")
    current: int = Field(description="The number now")


class AllInput(AppInput):
    model_config = ConfigDict(title="GetAllInput")


class AllOutput(AppOutput):
    model_config = ConfigDict(title="GetAllOutput")
    state: dict[str, Any] = Field(description="Everything that is remembered")
    call_count: int = Field(description="Calls in this session up to now, this one included")


def _recall(work: Work) -> dict[str, Any]:
    """Open the session's values, and count the call."""
    work.memory["calls"] = work.memory.get("calls", 0) + 1
    values: dict[str, Any] = work.memory.setdefault("values", {})
    return values


async def _set(work: Work, inputs: SetInput) -> dict[str, Any]:
    _recall(work)[inputs.key] = inputs.value
    return {"success": True, "key": inputs.key, "value": inputs.value}


async def _get(work: Work, inputs: GetInput) -> dict[str, Any]:
    values = _recall(work)
    if inputs.key not in values:
        return {"found": False, "key": inputs.key}
    return {"found": True, "key": inputs.key, "value": values[inputs.key]}


async def _increment(work: Work, inputs: IncrementInput) -> dict[str, Any]:
    values = _recall(work)
    previous = values.get(inputs.key, 0)
    if not isinstance(previous, int):
        raise AppFailed(f"{inputs.key!r} is not a whole number; set it to one first")
    values[inputs.key] = previous + inputs.amount
    return {"key": inputs.key, "previous": previous, "current": values[inputs.key]}


async def _all(work: Work, _inputs: AllInput) -> dict[str, Any]:
    values = _recall(work)
    return {"state": dict(values), "call_count": work.memory["calls"]}


COUNT = App(
    name="count",
    title="Count (sandbox)",
    description="Counts up inside a session, and from 0 outside of one. An app of the sandbox.",
    category="other",
    functions=(Function("run", "Add to the session's number.", CountInput, CountOutput, _count),),
    versions=2,
)
MEMORY = App(
    name="memory",
    title="Memory (sandbox)",
    description="Remembers values for as long as its session lives. An app of the sandbox.",
    category="other",
    functions=(
        Function("set_value", "Remember a value.", SetInput, SetOutput, _set),
        Function("get_value", "Recall a value.", GetInput, GetOutput, _get),
        Function("increment", "Add to a number.", IncrementInput, IncrementOutput, _increment),
        Function("get_all", "Recall everything.", AllInput, AllOutput, _all),
    ),
    default_function="get_all",
)
