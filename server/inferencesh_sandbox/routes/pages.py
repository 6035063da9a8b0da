"""`/app/chats/{chat}`: a page on which a person approves or rejects what an agent asks for."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from inferencesh_sandbox.routes.tools import decide
from inferencesh_sandbox.wire import missing

if TYPE_CHECKING:
    from starlette.requests import Request

    from inferencesh_sandbox.chats import Chat
    from inferencesh_sandbox.messages import Invocation
    from inferencesh_sandbox.routes import Context

_DECISIONS = {"invoke": "Approve", "reject": "Reject"}
_ON_PAGE = "page"
"""The caller of these decisions in the ledger: nobody signs in to the sandbox."""
_HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Chat in the inference.sh sandbox</title>"
    "<style>body{font:16px/1.5 sans-serif;max-width:40em;margin:2em auto;padding:0 1em}</style>"
)


def pages(context: Context) -> list[Route]:
    def requested(request: Request) -> Chat:
        """The chat of any key: its id, which cannot be guessed, is all that the page asks for."""
        chat_id = request.path_params["chat"]
        chats = (chat for tenant in context.tenants if (chat := tenant.chats.get(chat_id)))
        chat = next(chats, None)
        if chat is None:
            raise missing("chat", chat_id)
        return chat

    async def show(request: Request) -> Response:
        return HTMLResponse(_page(requested(request)))

    async def decided(request: Request) -> Response:
        chat, tool, decision = requested(request), request.path_params["tool"], request.path_params["decision"]
        if tool not in chat.invocations or decision not in _DECISIONS:
            raise missing("decision", f"{tool}/{decision}")
        decide(context, chat.invocations[tool], decision, caller=_ON_PAGE)
        return RedirectResponse(f"/app/chats/{chat.id}", status_code=303)

    return [
        Route("/app/chats/{chat}", show),
        Route("/app/chats/{chat}/tools/{tool}/{decision}", decided, methods=["POST"]),
    ]


def _page(chat: Chat) -> str:
    """The page. It works without a script."""
    waiting = [_question(invocation) for invocation in chat.open if invocation.status == "awaiting_approval"]
    body = "".join(waiting) or "<p>Nothing waits for your decision here.</p>"
    return f"{_HEAD}<h1>{escape(chat.name or 'Chat')}</h1><p>With {escape(chat.agent.ref)}, in the sandbox. Nothing here costs or is real.</p>{body}"


def _question(invocation: Invocation) -> str:
    arguments = escape(json.dumps(invocation.arguments, ensure_ascii=False, indent=1))
    path = f"/app/chats/{invocation.chat.id}/tools/{invocation.id}"
    buttons = "".join(
        f"<form method=post action={path}/{decision} style=display:inline><button>{label}</button></form> "
        for decision, label in _DECISIONS.items()
    )
    return f"<h2>The agent asks to use {escape(invocation.tool.name)}</h2><pre>{arguments}</pre>{buttons}"
