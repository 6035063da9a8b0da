"""`/chats/{chat}/tools/{tool}`: explain a pending tool call, and always allow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from inferencesh_sandbox.agent_requests import find_chat
from inferencesh_sandbox.ids import lasting_id, short
from inferencesh_sandbox.routes.tools import apply_decision, require_person
from inferencesh_sandbox.wire import Json, Problem, answer, body_of, missing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.messages import Invocation
    from inferencesh_sandbox.routes import Context


def approvals(context: Context) -> list[Route]:
    facts = context.tenants.facts

    def in_chat(request: Request) -> Invocation:
        chat, name = find_chat(context.tenants.of(request), request.path_params["chat"]), request.path_params["tool"]
        if name not in chat.invocations:
            raise missing("tool invocation", name)
        return chat.invocations[name]

    async def options(request: Request) -> Response:
        return answer(request, _options(waiting_for_approval(request)))

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
        option = _find_option(waiting_for_approval(request), str(body.get("option") or "")) if newest else None
        saved = option["rules"] if option else [_rule(invocation, "", invocation.tool.name)]
        apply_decision(context, request, invocation, "always_allow", option=option["key"] if option else "")
        invocation.chat.rules += saved
        return answer(request, {"option": option, "rules": saved} if newest else invocation.dto())

    routes = [Route("/chats/{chat}/tools/{tool}/always-allow", always_allow, methods=["POST"])]
    if facts.always_allow_options:
        routes.append(Route("/chats/{chat}/tools/{tool}/always-allow/options", options))
    if facts.explanations:
        routes.append(Route("/chats/{chat}/tools/{tool}/explain", explain, methods=["POST"]))
    return routes


def _options(invocation: Invocation) -> Json:
    """The options for a call, as AlwaysAllowOptionsDTO."""
    if invocation.tool.type == "client":
        return {"options": [], "default": "", "unavailable": "No rule can allow what the caller's side carries out."}
    choices = [
        _option(invocation, "exact", f"{invocation.tool.name} with exactly these inputs", invocation.exactly),
        _option(invocation, "tool", f"every use of {invocation.tool.name}", ""),
    ]
    return {
        "options": choices,
        "default": choices[0]["key"],
        "unavailable": "",
        "secret_send": invocation.secret_send,
    }


def _find_option(invocation: Invocation, key: str) -> Json | None:
    """Return the current option with this key. None if no key is given.

    Raises:
        Problem: 409, the key names no current option.
    """
    if not key:
        return None
    choice: Json | None = next((option for option in _options(invocation)["options"] if option["key"] == key), None)
    if choice is None:
        raise Problem(409, "conflict", f"option {key!r} is no longer offered for this call")
    return choice


def _rule(invocation: Invocation, specifier: str, label: str) -> Json:
    """A rule of the chat, as a PolicyRuleDTO."""
    return {
        "effect": "allow",
        "kind": "Tool",
        "selector": invocation.tool.name,
        "specifier": specifier,
        "label": label,
    }


def _option(invocation: Invocation, scope: str, label: str, specifier: str) -> Json:
    key = short(lasting_id(f"{scope} {invocation.tool.name} {specifier}"))
    description = "" if specifier else "Whatever its inputs are."
    rules = [_rule(invocation, specifier, label)]
    return {"key": f"{scope}:{key}", "scope": scope, "label": label, "description": description, "rules": rules}
