"""Agents as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_sandbox.lookup import find_by_name, public_fields, version_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferencesh_sandbox.agents.types import Agent
    from inferencesh_sandbox.wire import Json


def resolve_agent(agents: Sequence[Agent], ref: str) -> tuple[Agent, str]:
    """Find the agent and the version that `[agent/]namespace/name[@version]` means."""
    name, _, version = ref.removeprefix("agent/").partition("@")
    agent = find_by_name("agent", agents, name)
    return agent, version_of(agent, version)


def agent_dto(agent: Agent, *, version_id: str = "") -> Json:
    """An agent, as an AgentDTO; naming a version adds it."""
    card: Json = {
        **public_fields(agent.id),
        "namespace": agent.namespace,
        "name": agent.name,
        "title": agent.title,
        "description": agent.config.description or "",
        "images": {"card": "", "thumbnail": "", "banner": ""},
        "version_id": version_id or agent.version_ids[0],
    }
    return {**card, "version": version_dto(agent, version_id)} if version_id else card


def version_dto(agent: Agent, version_id: str) -> Json:
    """A version, as an AgentVersionDTO."""
    config = agent.config
    return {
        **public_fields(version_id),
        "description": config.description or "",
        "system_prompt": config.system_prompt or "",
        "example_prompts": config.example_prompts or [],
        "core_app": config.core_app.model_dump(exclude_none=True) if config.core_app else None,
        "tools": [tool.model_dump(exclude_none=True) for tool in config.tools or ()],
        "skills": [],
        "context": [field.model_dump(exclude_none=True) for field in config.context or ()],
        "internal_tools": config.internal_tools or {},
        "output_schema": config.output_schema,
    }
