"""`/tools` and `/interrupts`: answer, approve or reject an agent's tool calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.routing import Route

from inferencesh_sandbox import mcp_servers
from inferencesh_sandbox.ledger import Decided, ResultGiven
from inferencesh_sandbox.tenants import caller_of, is_person
from inferencesh_sandbox.turns import widget_result
from inferencesh_sandbox.wire import Json, Problem, answer, body_of, invalid_field, missing, objects_in

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.messages import Interrupt, Invocation
    from inferencesh_sandbox.routes import Context

_FILES = 20


def tools(context: Context) -> list[Route]:
    def requested(request: Request) -> Invocation:
        name = request.path_params["tool"]
        for chat in context.tenants.of(request).chats:
            if name in chat.invocations:
                return chat.invocations[name]
        raise missing("tool invocation", name)

    async def set_result(request: Request) -> Response:
        invocation, body = requested(request), await body_of(request)
        if (invocation.widget or invocation.input_requests) and not context.tenants.facts.keys_answer_questions:
            require_person(request, invocation)
        result = _result(invocation, body)
        files = objects_in(body, "attachments")
        if len(files) > _FILES:
            raise Problem(400, "validation_error", f"attachments: at most {_FILES}")
        invocation.answer(result, {"attachments": files} if files else None)
        context.ledger.note(
            ResultGiven(
                chat_id=invocation.chat.id,
                invocation_id=invocation.id,
                result=result,
                caller=caller_of(request),
            )
        )
        return answer(request, invocation.dto())

    async def invoke(request: Request) -> Response:
        invocation = requested(request)
        apply_decision(context, request, invocation, "invoke")
        return answer(request, invocation.dto())

    async def reject(request: Request) -> Response:
        invocation, body = requested(request), await body_of(request)
        apply_decision(context, request, invocation, "reject", str(body.get("reason") or ""))
        return answer(request, invocation.dto())

    return [
        Route("/tools/{tool}", set_result, methods=["POST"]),
        Route("/tools/{tool}/invoke", invoke, methods=["POST"]),
        Route("/tools/{tool}/reject", reject, methods=["POST"]),
    ]


def interrupts(context: Context) -> list[Route]:
    """The approvals that runs wait for."""

    async def resolve(request: Request) -> Response:
        interrupt, body = _interrupt(context, request), await body_of(request)
        decision = body.get("decision")
        if decision not in {"allow", "deny"}:
            raise Problem(400, "validation_error", "decision: must be allow or deny")
        apply_decision(context, request, interrupt.invocation, "invoke" if decision == "allow" else "reject")
        return answer(request, interrupt.dto())

    async def of_run(request: Request) -> Response:
        name = request.path_params["run"]
        for chat in context.tenants.of(request).chats:
            if any(run.id == name for run in chat.runs):
                return answer(
                    request, [interrupt.dto() for interrupt in chat.interrupts.values() if interrupt.run_id == name]
                )
        raise missing("agent run", name)

    return [
        Route("/interrupts/{interrupt}/resolve", resolve, methods=["POST"]),
        Route("/agent-runs/{run}/interrupts", of_run),
    ]


def require_person(request: Request, invocation: Invocation) -> None:
    """Raise a Problem unless a signed-in person asks."""
    if not is_person(request):
        detail = "approvals need the person's own sign-in; the sandbox takes it from keys that begin with inf_person_"
        raise Problem(403, "requires_sign_in", detail, extra={"meta": {"chat_id": invocation.chat.id}})


def apply_decision(
    context: Context, request: Request, invocation: Invocation, decision: str, reason: str = "", option: str = ""
) -> None:
    """Apply the decision of a signed-in person."""
    require_person(request, invocation)
    decide(context, invocation, decision, reason, option, caller=caller_of(request))


def decide(
    context: Context, invocation: Invocation, decision: str, reason: str = "", option: str = "", *, caller: str
) -> None:
    """Apply a person's decision."""
    allow = decision != "reject"
    # The interrupt first: the decision publishes the chat, which must no longer show it as pending.
    waiting = [interrupt for interrupt in invocation.chat.pending_interrupts if interrupt.invocation is invocation]
    if invocation.status == "awaiting_approval":
        for interrupt in waiting:
            interrupt.resolve("allow" if allow else "deny", reason)
    invocation.decide(allow=allow, reason=reason)
    context.ledger.note(
        Decided(
            chat_id=invocation.chat.id,
            invocation_id=invocation.id,
            decision=decision,
            reason=reason,
            option=option,
            caller=caller,
        )
    )


def _interrupt(context: Context, request: Request) -> Interrupt:
    name = request.path_params["interrupt"]
    for chat in context.tenants.of(request).chats:
        if name in chat.interrupts:
            return chat.interrupts[name]
    raise missing("interrupt", name)


def _result(invocation: Invocation, body: Json) -> str:
    """Read a result. The JS SDK's React half sends a widget's action bare and not as a string."""
    result = body.get("result")
    if result is None and isinstance(body.get("action"), dict):
        result = json.dumps({name: body[name] for name in ("action", "form_data") if name in body})
    if not isinstance(result, str):
        raise invalid_field("result", "must be a string")
    if invocation.input_requests is not None:
        mcp_servers.validate_responses(result, invocation.input_requests)
    return widget_result(result) if invocation.widget else result
