"""Tools for agents: send a message, read the chat, answer what the agent waits for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
from mcp_types import CallToolResult, InputRequiredResult
from pydantic import Field

from inferencesh_mcp.api.agent_config import AgentConfigInput
from inferencesh_mcp.api.chat_models import AgentVersion
from inferencesh_mcp.api.chat_turn import Approval
from inferencesh_mcp.api.json import is_object
from inferencesh_mcp.api.problem_details import DASHBOARD
from inferencesh_mcp.context import Ctx, caller_of, caller_with_roots, wants_mcp_task
from inferencesh_mcp.errors import InferenceError, InvalidInput, RequirementsNotMet
from inferencesh_mcp.flows.approvals import NeedsResume, resolve_pending, submit
from inferencesh_mcp.flows.chat import Message, read_turn, send_message
from inferencesh_mcp.flows.concurrency import optional_call
from inferencesh_mcp.sanitize import clean, label, quoted
from inferencesh_mcp.tools.apps import Cursor, Limit
from inferencesh_mcp.tools.chat_reply import decision_of_reply, pending_item
from inferencesh_mcp.tools.chat_result import chat_result, texts_of
from inferencesh_mcp.tools.define import tool
from inferencesh_mcp.tools.elicitation import Elicitation
from inferencesh_mcp.tools.progress import progress
from inferencesh_mcp.tools.results import build_result, deferred, list_result

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from inferencesh_mcp.api.chat_models import Agent, Chat
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.chat import TurnResult

MAX_VERSIONS_READ = 20  # agents of a list whose version is read on its own
MAX_NEEDS = 10  # of one agent
BY_MODEL = "the model, as INFERENCE_APPROVALS=host allows"

ChatId = Annotated[str, Field(description="chat_id of an earlier answer")]


@tool("agents", "Find agents", reads=True)
async def agent_list(
    ctx: Ctx,
    query: Annotated[str, Field(description="words to search for")] = "",
    limit: Limit = 20,
    cursor: Cursor = "",
) -> CallToolResult:
    """List agents: what each does and needs. Talk to one with agent_chat."""
    caller = caller_of(ctx)
    page = await caller.api.chats.list_agents(query=query, limit=limit, cursor=cursor)
    agents = [_agent_entry(agent) for agent in await _with_versions(caller, page.items)]
    lines = [_agent_line(entry) for entry in agents] or ["No agent matches."]
    return list_result("agent_list", page, lines, {"agents": agents})


async def _with_versions(caller: Caller, agents: Sequence[Agent]) -> list[Agent]:
    """The agents with their current versions, which not every server includes in a list."""
    complete = list(agents)

    async def read(index: int) -> None:
        agent = complete[index]
        complete[index] = await optional_call(caller.api.chats.agent(agent.ref), f"version of {agent.ref}") or agent

    async with anyio.create_task_group() as group:
        for index in [index for index, agent in enumerate(agents) if agent.version is None][:MAX_VERSIONS_READ]:
            group.start_soon(read, index)
    return complete


def _agent_entry(agent: Agent) -> dict[str, Any]:
    version = agent.version or AgentVersion()
    all_needs = chain(
        (f"approval of {label(tool.name)}" for tool in version.tools if tool.require_approval),
        (f"you to carry out {label(tool.name)}" for tool in version.tools if tool.type == "client"),
        (f"context {label(item.name)}" for item in version.context if item.required and not item.default),
    )
    needs = list(islice(all_needs, MAX_NEEDS))
    entry: dict[str, Any] = {"agent": agent.ref, "about": clean(version.description or agent.title, 200)}
    return entry | ({"needs": needs} if needs else {})


def _agent_line(entry: dict[str, Any]) -> str:
    needs = f" Needs {', '.join(entry['needs'])}." if "needs" in entry else ""
    return f"{entry['agent']}: {quoted(entry['about'], 200)}{needs}"


@tool("agents", "Chat with an agent", starts=True)
async def agent_chat(
    message: Annotated[str, Field(description="what to say to the agent")],
    ctx: Ctx,
    agent: Annotated[str, Field(description="agent: namespace/name, optionally with @version")] = "",
    config: Annotated[
        dict[str, Any],
        Field(
            description='ad-hoc agent: {core_app: {ref}, system_prompt, tools: [{name, type: "client", client: '
            "{input_schema}}]}"
        ),
    ] = {},
    chat_id: Annotated[str, Field(description="chat to continue; it knows its agent")] = "",
    files: Annotated[list[str], Field(description="files for the agent: paths, URLs or data URIs")] = [],
    context: Annotated[dict[str, str], Field(description="named texts for the agent's tools, in a new chat")] = {},
    output_schema: Annotated[dict[str, Any], Field(description="with config: JSON Schema of the output")] = {},
) -> CallToolResult | InputRequiredResult:
    """Send a message to an agent and wait for its answer, which names the next call. May cost credits. Never send a message
    twice."""
    caller = await caller_with_roots(ctx, files)
    host = Elicitation(ctx, caller)
    if host.resumed_chat_id:
        async with progress(ctx) as report:
            with _after_sending():
                turn = await read_turn(caller, host.resumed_chat_id, report, seconds=0)
                return await _ask_and_render(host, caller, turn, report)
    new_message = Message(
        text=message,
        agent=agent or None,
        config=_agent_config(config, output_schema),
        chat_id=chat_id or None,
        files=files,
        context=context or None,
    )
    as_task = wants_mcp_task(ctx)
    async with progress(ctx) as report:
        try:
            turn = await send_message(caller, new_message, report, seconds=0 if as_task else caller.wait_seconds)
        except RequirementsNotMet as exc:
            if page_request := await host.show_page(exc.message, DASHBOARD):
                return page_request  # the message was not accepted: it is sent again after the person has acted
            raise
        if as_task and not turn.over:  # what it will wait for is asked through the MCP task
            return deferred(chat_result(turn, host), "turn", chat=turn.chat.id, turn=asdict(turn.turn))
        with _after_sending():
            return await _ask_and_render(host, caller, turn, report)


@contextmanager
def _after_sending() -> Generator[None]:
    """Mark errors in this block as after the start: the message was accepted and must not be sent again (I-3)."""
    try:
        yield
    except InferenceError as exc:
        outcome = "unknown" if exc.outcome == "unknown" else "started"
        raise exc.replace(outcome=outcome, retry_safe=False) from exc


def _agent_config(config: dict[str, Any], output_schema: dict[str, Any]) -> AgentConfigInput | None:
    """The ad-hoc agent. One with an output schema also gets the tool `finish`, which returns the output."""
    if output_schema and not config:
        raise InvalidInput(
            message="`output_schema` needs `config`: an agent of the workspace has its own.", outcome="not_started"
        )
    if output_schema:
        config = {**config, "output_schema": output_schema}
        internal_tools = config.get("internal_tools")
        if internal_tools is None or is_object(internal_tools):  # any other value is refused by `AgentConfigInput`
            config["internal_tools"] = {**(internal_tools or {}), "finish": True}
    return AgentConfigInput.parse(config) if config else None


@tool("agents", "Get a chat", reads=True)
async def chat_get(
    chat_id: ChatId,
    ctx: Ctx,
    wait_seconds: Annotated[
        float, Field(ge=0, le=3600, description="seconds to wait for the turn's end, 0 to 3600")
    ] = 0,
) -> CallToolResult:
    """Read a chat: the last turn's text, what the agent did and what it waits for."""
    caller = caller_of(ctx)
    async with progress(ctx) as report:
        turn = await read_turn(caller, chat_id, report, seconds=wait_seconds)
        return chat_result(turn, Elicitation(ctx, caller))


@tool("agents", "List chats", reads=True)
async def chat_list(ctx: Ctx, limit: Limit = 20, cursor: Cursor = "") -> CallToolResult:
    """List chats with agents, last changed first, and which still work or wait."""
    page = await caller_of(ctx).api.chats.list_chats(limit=limit, cursor=cursor)
    chats = [_chat_entry(chat) for chat in page.items]
    lines = [" ".join([*list(entry.values())[:-1], quoted(entry["title"], 80)]) for entry in chats] or ["No chats."]
    return list_result("chat_list", page, lines, {"chats": chats})


def _chat_entry(chat: Chat) -> dict[str, str]:
    changed_at = chat.updated_at or chat.created_at
    fields = {
        "chat_id": chat.id,
        "status": chat.activity,
        "agent": chat.agent.ref if chat.agent else "",
        "updated_at": changed_at.isoformat(timespec="seconds") if changed_at else "",
        "title": clean(chat.name, 80),
    }
    return {name: value for name, value in fields.items() if value or name == "title"}


@tool("agents", "Answer an agent", starts=True)
async def chat_respond(
    chat_id: ChatId,
    invocation_id: Annotated[str, Field(description="id of what the agent waits for, from pending")],
    ctx: Ctx,
    result: Annotated[str, Field(description="result of a client tool, as text")] = "",
    form_data: Annotated[
        dict[str, Any], Field(description="values for the fields of a form, or {key: {action, content}} for MCP input")
    ] = {},
    action: Annotated[str, Field(description="type of the form action to use; default: submit")] = "",
    decision: Annotated[
        Literal["accept", "reject"] | None,
        Field(description="accept or reject an approval; only if INFERENCE_APPROVALS is host"),
    ] = None,
    reason: Annotated[str, Field(description="why an approval is rejected")] = "",
) -> CallToolResult | InputRequiredResult:
    """Answer an agent: a client tool's result or a form's data. Each is accepted once. Without either, the host asks
    the person, if it can."""
    caller = caller_of(ctx)
    host = Elicitation(ctx, caller)
    has_reply = bool(result or form_data or action or decision)
    async with progress(ctx) as report:
        turn = await read_turn(caller, chat_id, report, seconds=0)
        shown = texts_of(turn)  # in the answer that this call replies to
        if not host.resumed_chat_id and (has_reply or not host.can_ask_anything()):
            item = pending_item(turn, invocation_id)
            reply = decision_of_reply(
                host,
                turn,
                item,
                result=result,
                form_data=form_data,
                action=action,
                decision=decision or "",
                reason=reason,
            )
            by = BY_MODEL if isinstance(item, Approval) else ""
            turn = await submit(caller, turn, item, reply, report, by=by, seconds=caller.wait_seconds)
            with _after_sending():
                return await _ask_and_render(host, caller, turn, report, shown)
        return await _ask_and_render(host, caller, turn, report, shown)


@tool("agents", "Stop an agent", destroys=True, repeatable=True)
async def chat_stop(chat_id: ChatId, ctx: Ctx) -> CallToolResult:
    """Stop what an agent is doing in a chat."""
    await caller_of(ctx).api.chats.stop_chat(chat_id)
    return build_result(f"Chat {chat_id} is stopping.", {"chat_id": chat_id, "status": "stopping"})


async def _ask_and_render(
    host: Elicitation, caller: Caller, turn: TurnResult, report: Report, shown: frozenset[str] = frozenset()
) -> CallToolResult | InputRequiredResult:
    """Ask the person what the agent waits for, and build the result of the turn, without the texts that were shown."""
    turn = replace(turn, records=(*host.records, *turn.records))
    end = await resolve_pending(caller, turn, host.ask, report, seconds=max(caller.wait_seconds - turn.seconds, 1))
    return end.result if isinstance(end, NeedsResume) else chat_result(end, host, shown)


TOOLS = (agent_list, agent_chat, chat_get, chat_list, chat_respond, chat_stop)
