"""The endpoints of agents and their chats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.chat_models import (
    Agent,
    AlwaysAllowOptions,
    Chat,
    ChatMessage,
    Sent,
    ToolExplanation,
)
from inferencesh_mcp.api.chat_stream import chat_path, follow_chat, read_chat
from inferencesh_mcp.api.json import without_none
from inferencesh_mcp.api.models import Page
from inferencesh_mcp.api.refs import agent_reference, segment
from inferencesh_mcp.api.retry import Operation
from inferencesh_mcp.api.sender import list_body, search_body
from inferencesh_mcp.api.wire import One, Wire, parsed
from inferencesh_mcp.errors import InvalidInput, OutcomeUnknown, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from inferencesh_mcp.api.agent_config import AgentConfigInput
    from inferencesh_mcp.api.models import File
    from inferencesh_mcp.api.sender import Sender


@dataclass(frozen=True, kw_only=True)
class AgentRunRequest:
    """A message for an agent. No other fields are sent."""

    text: str = ""
    files: Sequence[File] = ()
    """Uploaded files, or files at an address that the platform can read."""
    chat_id: str | None = None
    """None starts a chat. Later turns name the same agent again."""
    agent: str | None = None
    """A template: `namespace/name` or `namespace/name@version`."""
    agent_config: AgentConfigInput | None = None
    """An ad-hoc agent instead of a template."""
    context: Mapping[str, str] | None = None
    """Used only when a chat starts."""


class Chats:
    """Chats with agents, for one caller.

    Answers to a tool call (`tool_result`, `invoke`, `reject`, `always_allow`) are sent once, or again only if nothing was
    sent. Their errors carry `outcome`: `not_started` if the answer certainly had no effect, `unknown` if the chat must be
    read to find out. The newest platform takes no decisions from a key: Forbidden, `requires_sign_in`.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def send_message(self, request: AgentRunRequest) -> Sent:
        """Send a message, which costs money, at most once; without `chat_id` it starts a chat.

        Every error carries `outcome`: `not_started` after a refusal or if nothing was sent, once the safe retries are used
        up; OutcomeUnknown, with `sent_at`, if the message may have been accepted but the answer was lost.
        """
        try:
            with self._sender.starting():
                value = await self._sender.post(Operation.START, "/agents/run", _message_body(request))
                return _sent(value, request)
        except OutcomeUnknown as error:
            raise error.replace(next_step=_next_step_if_lost(request)) from error

    async def list_agents(self, query: str = "", limit: int = 20, cursor: str = "") -> Page[Agent]:
        """Agent templates, or those that match `query`."""
        body = list_body(limit, cursor) | search_body(query)
        return parsed(Page[Agent], await self._sender.post(Operation.READ, "/agents/list", body))

    async def agent(self, ref: str) -> Agent:
        """An agent template, `namespace/name`, with its current version."""
        return parsed(Agent, await self._sender.get(f"/agents/{agent_reference(ref)}"))

    async def chat(self, chat_id: str) -> Chat:
        """A chat as it is now, with the messages that the API returns, or the last hundred."""
        return await read_chat(self._sender, chat_id)

    async def list_chats(self, query: str = "", limit: int = 20, cursor: str = "") -> Page[Chat]:
        """The caller's chats, last changed first; not every server includes their messages."""
        body = list_body(limit, cursor) | search_body(query) | {"sort": [{"field": "updated_at", "dir": "desc"}]}
        return parsed(Page[Chat], await self._sender.post(Operation.READ, "/chats/list", body))

    async def stop_chat(self, chat_id: str) -> None:
        """Request that the agent stops; it does so soon. An idle chat is not changed."""
        await self._sender.post(Operation.STOP, f"{chat_path(chat_id)}/stop")

    def follow_chat(
        self, chat: Chat, stream: bool = True, poll_interval: float = 2.0
    ) -> AbstractAsyncContextManager[AsyncIterator[Chat]]:
        """A block with the new states of a chat, for as long as they are read.

        `chat` is what is known of it: `Sent.chat` after the first message, else the result of `chat`. The stream is open when
        the block begins, so send the message inside it; leaving the block closes the connection at once. `turn_over` and
        `pending` say when to leave. `stream=False` polls every `poll_interval` seconds. Raises what `chat` raises.
        """
        self._sender.check_key()
        return follow_chat(self._sender, chat, stream=stream, poll_interval=poll_interval)

    async def tool_result(self, invocation_id: str, result: str) -> None:
        """Answer a client tool with text, a widget with `widget_result`, MCP input with `input_result`."""
        await self._sender.post(Operation.ANSWER, _tool_path(invocation_id), {"result": result})

    async def invoke(self, invocation_id: str) -> None:
        """Approve a tool call."""
        await self._sender.post(Operation.ANSWER, f"{_tool_path(invocation_id)}/invoke")

    async def reject(self, invocation_id: str, reason: str = "") -> None:
        """Reject a tool call; the agent gets the reason."""
        await self._sender.post(Operation.ANSWER, f"{_tool_path(invocation_id)}/reject", {"reason": reason})

    async def always_allow_options(self, chat_id: str, invocation_id: str) -> AlwaysAllowOptions:
        """What can be allowed for the rest of the chat. Older servers do not have this endpoint (404)."""
        path = f"{chat_path(chat_id)}{_tool_path(invocation_id)}/always-allow/options"
        return parsed(AlwaysAllowOptions, await self._sender.get(path))

    async def always_allow(self, chat_id: str, invocation_id: str, *, option: str = "", tool_name: str = "") -> None:
        """Approve a tool call and further calls as the option says; servers without options take the tool's name.

        Raises:
            Conflict: the call was decided already, or the option is no longer offered.
        """
        path = f"{chat_path(chat_id)}{_tool_path(invocation_id)}/always-allow"
        await self._sender.post(Operation.ANSWER, path, {"option": option} if option else {"tool_name": tool_name})

    async def explain(self, chat_id: str, invocation_id: str) -> ToolExplanation:
        """A plain description of a call that waits for approval; the server creates it once and caches it."""
        path = f"{chat_path(chat_id)}{_tool_path(invocation_id)}/explain"
        return parsed(ToolExplanation, await self._sender.post(Operation.ANSWER, path))


class _Answer(Wire):
    """The answer of `/agents/run`."""

    user_message: One[ChatMessage] = None
    assistant_message: One[ChatMessage] = None


def _message_body(request: AgentRunRequest) -> dict[str, Any]:
    config = request.agent_config
    if request.agent and config:
        raise InvalidInput(message="a message goes to an agent or to a configuration, not to both")
    if not (request.agent or config or request.chat_id):
        raise InvalidInput(message="the message names no agent: give an agent, a configuration or a chat id")
    if not (request.text.strip() or request.files):
        raise InvalidInput(message="the message is empty: give it a text or a file")
    if request.chat_id:
        segment(request.chat_id, "chat id")
    return without_none(
        chat_id=request.chat_id,
        agent=agent_reference(request.agent) if request.agent else None,
        agent_config=config.wire() if config else None,
        agent_name=(config and config.name) or None,  # distinguishes ad-hoc agents
        context=request.context,
        input=_message_input(request),
    )


def _message_input(request: AgentRunRequest) -> dict[str, Any]:
    """Newer servers read `attachments` and ignore `images` and `files`, which older servers read."""
    attachments = [
        without_none(
            id=file.id or None,
            uri=file.uri,
            filename=file.filename,
            content_type=file.content_type,
            size=file.size,
        )
        for file in request.files
    ]
    images = [file.uri for file in request.files if file.content_type.startswith("image/")]
    others = [file.uri for file in request.files if not file.content_type.startswith("image/")]
    return without_none(text=request.text, attachments=attachments or None, images=images or None, files=others or None)


def _sent(value: Any, request: AgentRunRequest) -> Sent:
    answer = parsed(_Answer, value)
    messages = [message for message in (answer.assistant_message, answer.user_message) if message is not None]
    chat_id = next((message.chat_id for message in messages if message.chat_id), "") or request.chat_id or ""
    if not chat_id:
        raise UpstreamError(message="inference.sh did not say which chat the message is in")
    return Sent(chat_id=chat_id, user_message=answer.user_message, assistant_message=answer.assistant_message)


def _next_step_if_lost(request: AgentRunRequest) -> str:
    if request.chat_id:
        return f"Do not send it again before looking for it: read the chat {request.chat_id} with chat_get."
    return "Do not send it again: an agent may be at work on it in a new chat."


def _tool_path(invocation_id: str) -> str:
    return f"/tools/{segment(invocation_id, 'invocation id')}"
