"""`/agents`: the agent templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from inferencesh_sandbox import agent_dto
from inferencesh_sandbox.agents import AGENTS
from inferencesh_sandbox.lookup import find_by_name, version_of
from inferencesh_sandbox.pagination import page
from inferencesh_sandbox.wire import Json, answer, body_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.routes import Context

_SEARCHED = ("namespace", "name", "title", "description")
_INTERNAL = (
    ("plan", "create", "Make a plan of steps"),
    ("plan", "update", "Change the status of a step"),
    ("plan", "load", "Read the plan"),
    ("memory", "set", "Remember a value"),
    ("memory", "get", "Recall a value"),
    ("memory", "get_all", "Recall everything"),
    ("widget", "ui", "Show a form"),
    ("widget", "html", "Show a page"),
    ("finish", "", "End with a structured output"),
)


def agents(context: Context) -> list[Route]:
    async def listed(request: Request) -> Response:
        context.tenants.of(request)
        cards = [agent_dto.agent_dto(agent) for agent in AGENTS]
        return answer(request, page(cards, await body_of(request), searched=_SEARCHED))

    async def get(request: Request) -> Response:
        context.tenants.of(request)
        agent, version_id = agent_dto.resolve_agent(AGENTS, _name_in(request))
        return answer(request, agent_dto.agent_dto(agent, version_id=version_id))

    async def version(request: Request) -> Response:
        context.tenants.of(request)
        agent = find_by_name("agent", AGENTS, _name_in(request))
        version_id = version_of(agent, request.path_params["version"])
        return answer(request, agent_dto.version_dto(agent, version_id))

    async def versions(request: Request) -> Response:
        context.tenants.of(request)
        agent = find_by_name("agent", AGENTS, _name_in(request))
        versions_dto = [agent_dto.version_dto(agent, version_id) for version_id in agent.version_ids]
        return answer(request, page(versions_dto, await body_of(request), searched=("id",)))

    async def internal(request: Request) -> Response:
        context.tenants.of(request)
        return answer(request, [_internal(*item) for item in _INTERNAL])

    return [
        Route("/agents/list", listed, methods=["POST"]),
        Route("/agents/internal-tools", internal),
        Route("/agents/{agent}/versions/list", versions, methods=["POST"]),
        Route("/agents/{agent}/versions/{version}", version),
        Route("/agents/{agent}", get),
        Route("/agents/{namespace}/{name}", get),
    ]


def _name_in(request: Request) -> str:
    parts = request.path_params
    return parts.get("agent") or f"{parts['namespace']}/{parts['name']}"


def _internal(category: str, operation: str, description: str) -> Json:
    name = f"{category}_{operation}" if operation else category
    return {
        "name": name,
        "display_name": name,
        "description": description,
        "type": "internal",
        "internal": {"category": category, "operation": operation or category},
    }
