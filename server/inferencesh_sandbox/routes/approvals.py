"""`/chats/{chat}/tools/{tool}`: explain a pending tool call, and always allow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from inferencesh_sandbox import always_allow as allowing
from inferencesh_sandbox.agent_requests import find_chat
from inferencesh_sandbox.routes.tools import apply_decision, require_person
from inferencesh_sandbox.wire import Problem, answer, body_of, missing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.messages import Invocation
    from inferencesh_sandbox.routes.context import Context


def approvals(context: Context) -> list[Route]:
    facts = context.tenants.facts

    def in_chat(request: Request) -> Invocation:
        chat, name = find_chat(context.tenants.of(request), request.path_params["chat"]), request.path_params["tool"]
        if name not in chat.invocations:
            raise missing("tool invocation", name)
        return chat.invocations[name]

    async def options(request: Request) -> Response:
        return answer(request, allowing.options(waiting_for_approval(request)))

    def waiting_for_approval(request: Request) -> Invocation:
        invocation = in_chat(request)
        if invocation.status != "awaiting_approval":
            raise Problem(409, "invalid_transition", f"tool invocation {invocation.id} is {invocation.status}")
        return invocation

    async def explain(request: Request) -> Response:
        invocation = waiting_for_approval(request)
        explanation = {
            "risk_level": "low",
            "explanation": f"It uses {invocation.tool.name}, which makes something and changes nothing.",
            "reasoning": "The person asked for it.",
            "risk": "It costs a little.",
        }
        return answer(request, explanation)

    async def always_allow(request: Request) -> Response:
        invocation, body = in_chat(request), await body_of(request)
        require_person(request, invocation)
        newest = facts.always_allow_options
        if not newest and body.get("tool_name") != invocation.tool.name:
            raise Problem(400, "validation_error", f"tool_name: the invocation is of {invocation.tool.name!r}")
        option = allowing.find_option(waiting_for_approval(request), str(body.get("option") or "")) if newest else None
        saved = option["rules"] if option else [allowing.rule(invocation, "", invocation.tool.name)]
        apply_decision(context, request, invocation, "always_allow", option=option["key"] if option else "")
        invocation.chat.rules += saved
        return answer(request, {"option": option, "rules": saved} if newest else invocation.dto())

    routes = [Route("/chats/{chat}/tools/{tool}/always-allow", always_allow, methods=["POST"])]
    if facts.always_allow_options:
        routes.append(Route("/chats/{chat}/tools/{tool}/always-allow/options", options))
    if facts.explanations:
        routes.append(Route("/chats/{chat}/tools/{tool}/explain", explain, methods=["POST"]))
    return routes
