"""Tools that ask something in mid-call: in the older protocol by a request of their own, in the newer by their answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    MissingRequiredClientCapabilityErrorData,
    SamplingMessage,
    TextContent,
)

from .contents import text

if TYPE_CHECKING:
    from mcp.server import MCPServer

Ctx = Context[Any, Any]
Asked = CallToolResult | InputRequiredResult


def form(message: str, properties: dict[str, Any], *required: str) -> ElicitRequest:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": list(required)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str, most: int = 100) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=most))


NAME = form("What is your name?", {"name": {"type": "string"}}, "name")
CONFIRM = form("Please confirm", {"ok": {"type": "boolean"}}, "ok")
ALL: dict[str, InputRequest] = {
    "user_name": NAME,
    "greeting": sampling("Generate a greeting", 50),
    "client_roots": ListRootsRequest(),
}


# The older protocol.


async def test_sampling(prompt: str, ctx: Ctx) -> CallToolResult:
    """Asks the client's model."""
    answer = await ctx.session.send_request(sampling(prompt), CreateMessageResult, metadata=_within(ctx))
    return text(f"LLM response: {answer.content.text if isinstance(answer.content, TextContent) else ''}")


def _within(ctx: Ctx) -> ServerMessageMetadata:
    """On the stream of this very call: another may not be open yet."""
    return ServerMessageMetadata(related_request_id=ctx.request_id)


async def _elicited(ctx: Ctx, asked: ElicitRequest, head: str) -> CallToolResult:
    answer = await ctx.session.send_request(asked, ElicitResult, metadata=_within(ctx))
    return text(f"{head}: action={answer.action}, content={json.dumps(answer.content)}")


async def test_elicitation(message: str, ctx: Ctx) -> CallToolResult:
    """Asks the person."""
    fields = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    return await _elicited(ctx, form(message, fields, *fields), "User response")


async def test_elicitation_sep1034_defaults(ctx: Ctx) -> CallToolResult:
    """Asks with a default for each kind of field."""
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await _elicited(ctx, form("Please fill in", fields), "Elicitation completed")


async def test_elicitation_sep1330_enums(ctx: Ctx) -> CallToolResult:
    """Asks with each way to write a choice."""
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"{nth} Option"} for n, nth in enumerate(("First", "Second", "Third"), 1)]
    several = [
        {"const": f"value{n}", "title": f"{nth} Choice"} for n, nth in enumerate(("First", "Second", "Third"), 1)
    ]
    fields = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": several}},
    }
    return await _elicited(ctx, form("Please choose", fields), "Elicitation completed")


# The newer protocol.


def missing(ctx: Ctx, asked: dict[str, InputRequest], state: str | None = None) -> InputRequiredResult | None:
    """The question, where an answer to any of it is still missing."""
    responses = ctx.input_responses or {}
    if all(key in responses for key in asked):
        return None
    return InputRequiredResult(input_requests=asked, request_state=state)


async def test_input_required_result_elicitation(ctx: Ctx) -> Asked:
    """Asks the person."""
    return missing(ctx, {"user_name": NAME}) or text(f"Hello, {said(ctx, 'user_name').get('name')}!")


async def test_input_required_result_sampling(ctx: Ctx) -> Asked:
    """Asks the client's model."""
    asked: dict[str, InputRequest] = {"capital_question": sampling("What is the capital of France?")}
    return missing(ctx, asked) or text("Answered.")


async def test_input_required_result_list_roots(ctx: Ctx) -> Asked:
    """Asks for the client's folders."""
    return missing(ctx, {"client_roots": ListRootsRequest()}) or text("Roots told: file:///test/root")


async def test_input_required_result_request_state(ctx: Ctx) -> Asked:
    """Asks, and wants its state back."""
    if ctx.request_state == "confirming" and "confirm" in (ctx.input_responses or {}):
        return text("state-ok")
    return InputRequiredResult(input_requests={"confirm": CONFIRM}, request_state="confirming")


async def test_input_required_result_tampered_state(ctx: Ctx) -> Asked:
    """Asks, and takes back no state that is not its own."""
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: Ctx) -> Asked:
    """Asks three things at once."""
    return missing(ctx, ALL, "all three") or text("All answered.")


async def test_input_required_result_multi_round(ctx: Ctx) -> Asked:
    """Asks one thing after another."""
    if ctx.request_state == "two" and "step2" in (ctx.input_responses or {}):
        return text("Both answered.")
    if ctx.request_state == "one" and "step1" in (ctx.input_responses or {}):
        color = form("Step 2: What is your favorite color?", {"color": {"type": "string"}}, "color")
        return InputRequiredResult(input_requests={"step2": color}, request_state="two")
    name = form("Step 1: What is your name?", {"name": {"type": "string"}}, "name")
    return InputRequiredResult(input_requests={"step1": name}, request_state="one")


async def test_input_required_result_capabilities(ctx: Ctx) -> Asked:
    """Asks only what the client can answer."""
    can = ctx.client_capabilities or ClientCapabilities()
    able = {"user_name": can.elicitation, "greeting": can.sampling, "client_roots": can.roots}
    asked = {key: request for key, request in ALL.items() if able[key] is not None}
    return missing(ctx, asked) or text("Answered.")


async def test_streaming_elicitation(ctx: Ctx) -> Asked:
    """Asks by its answer, and never by a request of its own."""
    return missing(ctx, {"confirm": CONFIRM}) or text("Confirmed.")


async def test_missing_capability() -> CallToolResult:
    """Needs a client that can sample."""
    raise missing_capability({"sampling": {}})


def missing_capability(needed: dict[str, Any]) -> MCPError:
    """The error for a client that has not declared what is needed."""
    data = MissingRequiredClientCapabilityErrorData.model_validate({"requiredCapabilities": needed})
    return MCPError(
        code=MISSING_REQUIRED_CLIENT_CAPABILITY,
        message="Missing required client capability",
        data=data.model_dump(by_alias=True, mode="json", exclude_none=True),
    )


def said(ctx: Ctx, key: str) -> dict[str, Any]:
    given = (ctx.input_responses or {}).get(key)
    return dict(given.content or {}) if isinstance(given, ElicitResult) else {}


TOOLS = (
    test_sampling, test_elicitation, test_elicitation_sep1034_defaults, test_elicitation_sep1330_enums,
    test_input_required_result_elicitation, test_input_required_result_sampling, test_input_required_result_list_roots,
    test_input_required_result_request_state, test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs, test_input_required_result_multi_round,
    test_input_required_result_capabilities, test_streaming_elicitation, test_missing_capability,
)  # fmt: skip


def register(server: MCPServer[Any]) -> None:
    for tool in TOOLS:
        server.add_tool(tool)

    @server.prompt()
    async def test_input_required_result_prompt(ctx: Ctx) -> Any:
        """A prompt that asks."""
        context = form("What context should the prompt use?", {"context": {"type": "string"}}, "context")
        return missing(ctx, {"user_context": context}) or f"Context: {said(ctx, 'user_context').get('context')}"
