"""Parse and validate the body of `POST /agents/run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_sandbox import agent_dto
from inferencesh_sandbox.agents import AGENTS
from inferencesh_sandbox.agents.llm import think
from inferencesh_sandbox.agents.types import Agent, Config
from inferencesh_sandbox.chats import Chat
from inferencesh_sandbox.ids import short
from inferencesh_sandbox.messages import Attached, MessageRequest
from inferencesh_sandbox.run_requests import check_requirements, validate
from inferencesh_sandbox.wire import Json, as_object, invalid_field, is_array, missing, objects_in

if TYPE_CHECKING:
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.facts import Facts
    from inferencesh_sandbox.tenants import Tenant

_MAX_TEXT_LENGTH = 200_000
_FILES = 20


def message_in(body: Json, chat: Chat | None, *, base: str, facts: Facts) -> MessageRequest:
    """Validate a message in the platform's order: agent, requirements, input."""
    agent, version_id = _agent(body, chat)
    check_requirements(agent.requirements)
    fields = as_object(body.get("input"), "input")
    text, files = fields.get("text") or "", _files(fields, facts)
    if not isinstance(text, str) or len(text) > _MAX_TEXT_LENGTH:
        raise invalid_field("input.text", f"must be a string of at most {_MAX_TEXT_LENGTH} characters")
    if not text and not files:
        raise invalid_field("input.text", "is empty, and there are no files")
    return MessageRequest(agent=agent, version_id=version_id, text=text, files=files, base=base)


def chat_for(tenant: Tenant, body: Json) -> Chat | None:
    """Find the chat of a message. None if the message starts a chat."""
    name = body.get("chat_id")
    return find_chat(tenant, str(name)) if name else None


def find_chat(tenant: Tenant, name: str) -> Chat:
    chat = tenant.chats.get(name) or next((item for item in tenant.chats if name == short(item.id)), None)
    if chat is None:
        raise missing("chat", name)
    return chat


def create_chat(tenant: Tenant, clock: Clock, body: Json) -> Chat:
    """Open a chat with the agent of a request. `context` is read here alone."""
    agent, version_id = _agent(body, None)
    check_requirements(agent.requirements)
    chat = Chat(owner=tenant, clock=clock, agent=agent, version_id=version_id, context=_context(agent.config, body))
    tenant.chats.put(chat.id, chat)
    return chat


def _agent(body: Json, chat: Chat | None) -> tuple[Agent, str]:
    """The template that is named, or the agent that is described. Default: the agent of the chat."""
    ref, config = body.get("agent"), body.get("agent_config")
    if ref and config is not None:
        raise invalid_field("agent", "give either agent or agent_config")
    if isinstance(ref, str) and ref:
        return agent_dto.resolve_agent(AGENTS, ref)
    if config is not None:
        return _described(as_object(config, "agent_config"), str(body.get("agent_name") or ""))
    if chat is None:
        raise invalid_field("agent", "name a template in agent, or describe an agent in agent_config")
    return chat.agent, chat.version_id


def _described(config: Json, name: str) -> tuple[Agent, str]:
    agent_config: Config = validate(Config, config, "agent_config")
    agent_name = name or agent_config.name or "ad-hoc"
    agent = Agent(name=agent_name, title=agent_name, config=agent_config, script=think, namespace="")
    return agent, agent.version_ids[0]


def _context(config: Config, body: Json) -> dict[str, str]:
    texts = as_object(body.get("context") or {}, "context")
    if not all(isinstance(text, str) for text in texts.values()):
        raise invalid_field("context", "must be an object of strings")
    fields = config.context or []
    context = {field.name: field.default for field in fields if field.default is not None} | texts
    for field in fields:
        if field.required and field.name not in context:
            raise invalid_field(f"context.{field.name}", "is required when a chat starts")
    return context


def _files(fields: Json, facts: Facts) -> tuple[Attached, ...]:
    """Read the files. `attachments` is newer and overrides `images` and `files`."""
    if fields.get("attachments") and facts.attachments_read:
        files = [_attached(item, index) for index, item in enumerate(objects_in(fields, "attachments"))]
    else:
        files = [Attached(uri=uri, content_type="image/*") for uri in _uris(fields, "images")]
        files += [Attached(uri=uri) for uri in _uris(fields, "files")]
    if len(files) > _FILES:
        raise invalid_field("input", f"a message takes at most {_FILES} files")
    return tuple(files)


def _attached(item: Json, index: int) -> Attached:
    if not isinstance(item.get("uri"), str) or not item["uri"]:
        raise invalid_field(f"input.attachments.{index}.uri", "is missing")
    return Attached(
        uri=item["uri"], filename=str(item.get("filename") or ""), content_type=str(item.get("content_type") or "")
    )


def _uris(fields: Json, field: str) -> list[str]:
    uris: object = fields.get(field) or []
    if not is_array(uris) or not all(isinstance(uri, str) for uri in uris):
        raise invalid_field(f"input.{field}", "must be a list of URIs")
    return uris
