"""The agents as inference.sh tells them, found by what people call them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from inferencesh_mcp.sandbox.naming import short
from inferencesh_mcp.sandbox.wire import Json, Problem, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferencesh_mcp.sandbox.agents.kinds import Agent

_MADE = "2026-01-02T03:04:05Z"
_OWNER = {"user_id": "sandbox", "team_id": "sandbox", "visibility": "public"}
_SAID_LATEST = frozenset({"", "latest"})


def named(agents: Sequence[Agent], name: str) -> Agent:
    """Find an agent by its id or `namespace/name`; or say which ones are like it."""
    for agent in agents:
        if name in {agent.ref, agent.id, short(agent.id)}:
            return agent
    raise missing("agent", name, suggestions=get_close_matches(name, [agent.ref for agent in agents], 3, 0.5))


def referred(agents: Sequence[Agent], ref: str) -> tuple[Agent, str]:
    """Find the agent and the version that `[agent/]namespace/name[@version]` means."""
    name, _, version = ref.removeprefix("agent/").partition("@")
    agent = named(agents, name)
    return agent, version_of(agent, version)


def version_of(agent: Agent, version: str) -> str:
    """Find a version by its id or short id; none said is the current one."""
    if version in _SAID_LATEST:
        return agent.version_ids[0]
    for known in agent.version_ids:
        if version in {known, short(known)}:
            return known
    there = [f"{agent.ref}@{short(known)}" for known in agent.version_ids]
    raise Problem(404, "not_found", f"{agent.ref} has no version {version!r}", more={"suggestions": there})


def told(agent: Agent, *, version_id: str = "") -> Json:
    """An agent, as an AgentDTO; naming a version adds it."""
    card: Json = {
        "id": agent.id,
        "short_id": short(agent.id),
        "created_at": _MADE,
        "updated_at": _MADE,
        **_OWNER,
        "namespace": agent.namespace,
        "name": agent.name,
        "title": agent.title,
        "description": agent.config.description or "",
        "images": {"card": "", "thumbnail": "", "banner": ""},
        "version_id": version_id or agent.version_ids[0],
    }
    return {**card, "version": version_told(agent, version_id)} if version_id else card


def version_told(agent: Agent, version_id: str) -> Json:
    """A version, as an AgentVersionDTO."""
    config = agent.config
    return {
        "id": version_id,
        "short_id": short(version_id),
        "created_at": _MADE,
        "updated_at": _MADE,
        **_OWNER,
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
