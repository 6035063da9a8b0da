"""The script of agents that a request describes: rules that use the tools as a model would."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inferencesh_sandbox.agents import desk, forms
from inferencesh_sandbox.agents.assistant import describe_files
from inferencesh_sandbox.agents.types import AgentFailed
from inferencesh_sandbox.apps.llm import LLM
from inferencesh_sandbox.catalogue import Ref, find_app, function_of
from inferencesh_sandbox.chitchat import reply
from inferencesh_sandbox.fake_arguments import asks_for, make_arguments
from inferencesh_sandbox.lookup import version_of
from inferencesh_sandbox.turns import Use
from inferencesh_sandbox.wire import Json, Problem, is_object

if TYPE_CHECKING:
    from inferencesh_sandbox.agents.types import Tool
    from inferencesh_sandbox.messages import Invocation
    from inferencesh_sandbox.turns import Turn


async def think(turn: Turn) -> None:
    """Use the tools that the message asks for, answer from their results, and finish where a schema wants it."""
    _require_llm(turn)
    tools = [tool for tool in turn.config.tools or () if asks_for(turn.text, tool)]
    used: list[Invocation] = []
    if tools:
        await turn.say(f"Let me use {', '.join(tool.name for tool in tools)}.")
        used = await turn.use_all([Use(tool, make_arguments(_parameters(tool), turn.text)) for tool in tools])
    inside = await _internals(turn)
    if used:
        await turn.say(" ".join(_outcome(item) for item in used))
    elif turn.files:
        await turn.say(describe_files(turn))
    elif not inside:
        answer = reply(turn.text, turn.earlier, turn.chat.context)
        await turn.say(answer.text, pace=answer.pace)
    schema = turn.config.output_schema
    if schema and turn.config.has_internal("finish"):
        text_so_far = " ".join([turn.text, *(item.result or "" for item in used)])
        await turn.finish(make_arguments(schema, text_so_far))


def _require_llm(turn: Turn) -> None:
    core = turn.config.core_app
    ref_text = (core.ref or core.id or "") if core else ""
    ref = Ref.read(ref_text)
    if not ref_text:
        raise AgentFailed(f"the agent has no core app: the sandbox's is {LLM.ref}")
    try:
        app = find_app(ref.name)
        version_of(app, ref.version)
    except Problem as problem:
        raise AgentFailed(f"unknown core app: {problem.detail}; the sandbox's is {LLM.ref}") from problem
    if app is not LLM:
        raise AgentFailed(f"{app.ref} cannot be a core app, it is no language model; the sandbox's is {LLM.ref}")


async def _internals(turn: Turn) -> bool:
    """Use the internal tools that are switched on and that the message names."""
    actions = [
        do
        for name, pattern, do in (
            ("widget", r"form|widget|surface|a2ui", forms.ask),
            ("plan", r"plan", desk.plan),
            ("memory", r"remember", desk.remember),
            ("memory", r"recall", desk.recall),
        )
        if turn.config.has_internal(name) and re.search(rf"\b(?:{pattern})", turn.text, re.IGNORECASE)
    ]
    for do in actions:
        await do(turn)
    return bool(actions)


def _outcome(item: Invocation) -> str:
    match item.status:
        case "completed":
            return f"{item.tool.name} says: {item.result}"
        case "cancelled":
            return f"{item.tool.name} was not used: {item.result}."
        case _:
            return f"{item.tool.name} failed: {item.result}."


def _parameters(tool: Tool) -> Json:
    """The JSON schema of what a tool takes."""
    config = tool.config
    if tool.type == "app":
        ref = Ref.read(str(config.get("ref") or ""))
        try:
            function = function_of(find_app(ref.name), str(config.get("function") or ref.function))
        except Problem:
            return {"type": "object", "properties": {}}  # it will fail when it is used, and say why
        return function.input_model.model_json_schema()
    if tool.type == "agent":
        return {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    schema = config.get("input_schema")
    return schema if is_object(schema) else {"type": "object", "properties": {}}
