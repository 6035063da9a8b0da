"""`/suggest`: apps and agents by the words of a query, the best first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.routing import Route

from inferencesh_sandbox.apps import APPS
from inferencesh_sandbox.wire import Json, Problem, answer, body_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.apps.types import App
    from inferencesh_sandbox.routes import Context

_CATEGORIES = ("", "app", "skill", "knowledge")
_MEANINGS = {
    "picture": "image", "photo": "image", "illustration": "image", "paint": "draw", "number": "count", "add": "count",
    "chatbot": "llm", "remember": "memory", "wait": "slow", "sketch": "draw",
}  # fmt: skip
"""Words of people, and the words of the catalogue for the same."""


def search(context: Context) -> list[Route]:
    async def suggest(request: Request) -> Response:
        context.tenants.of(request)
        body = await body_of(request)
        query, category = str(body.get("query") or ""), str(body.get("category") or "")
        if not query or category not in _CATEGORIES:
            raise Problem(400, "validation_error", "query is missing, or category is none of app, skill and knowledge")
        limit = int(body.get("limit") or (10 if category else 3))
        scored = sorted(((_score(app, query), app.ref) for app in APPS), key=lambda pair: (-pair[0], pair[1]))
        matches = [(score, ref) for score, ref in scored if score > 0][:limit] if category in {"", "app"} else []
        return answer(request, {"query": query, "results": [_result(ref, score) for score, ref in matches]})

    return [Route("/suggest", suggest, methods=["POST"])]


def _score(app: App, query: str) -> float:
    """The share of the query's words that the app's texts have, or words of the same meaning."""
    text = f"{app.name} {app.title} {app.category} {app.description}".lower()
    words: list[str] = [word for word in re.findall(r"[a-z0-9]+", query.lower()) if len(word) > 2]
    hits = [word for word in words if word in text or _MEANINGS.get(word, word) in text]
    named = 0.5 if any(_MEANINGS.get(word, word) in app.name for word in words) else 0
    return round((len(hits) / len(words) + named) / 1.5, 3) if words else 0


def _result(ref: str, score: float) -> Json:
    app = next(app for app in APPS if app.ref == ref)
    command = f"belt app run {ref}"
    return {"type": "app", "name": ref, "description": app.description[:200], "command": command, "score": score}
