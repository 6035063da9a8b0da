"""`/apps` and `/suggest`: the catalogue, and search in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.routing import Route

from inferencesh_sandbox import catalogue
from inferencesh_sandbox.apps import APPS
from inferencesh_sandbox.lookup import version_of
from inferencesh_sandbox.pagination import page
from inferencesh_sandbox.run_requests import validate
from inferencesh_sandbox.wire import Json, Problem, answer, body_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from inferencesh_sandbox.apps.types import App
    from inferencesh_sandbox.routes import Context

_SEARCHED = ("namespace", "name", "title", "description", "category")
_CATEGORIES = ("", "app", "skill", "knowledge")
_MEANINGS = {
    "picture": "image", "photo": "image", "illustration": "image", "paint": "draw", "sum": "calculator", "number": "count",
    "math": "calculator", "chatbot": "llm", "remember": "memory", "wait": "slow", "sketch": "draw", "add": "calculator",
}  # fmt: skip
"""Words of people, and the words of the catalogue for the same."""


def apps(context: Context) -> list[Route]:
    def requested(request: Request) -> App:
        context.tenants.of(request)
        return catalogue.find_app(_name_in(request))

    async def listed(request: Request) -> Response:
        context.tenants.of(request)
        cards = [catalogue.app_dto(app) for app in APPS]
        return answer(request, page(cards, await body_of(request), searched=_SEARCHED))

    async def get(request: Request) -> Response:
        app = requested(request)
        pinned = catalogue.pinned_function(_name_in(request))
        dto = catalogue.app_dto(app, version_id=app.version_ids[0], facts=context.facts)
        return answer(request, dto | ({"resolved_function": pinned} if pinned else {}))

    async def version(request: Request) -> Response:
        app = requested(request)
        version_id = version_of(app, request.path_params["version"])
        if context.facts.app_version_as_app:
            return answer(request, catalogue.app_dto(app, version_id=version_id, facts=context.facts))
        return answer(request, catalogue.version_dto(app, version_id, context.facts))

    async def versions(request: Request) -> Response:
        app = requested(request)
        versions_dto = [catalogue.version_dto(app, version, context.facts) for version in app.version_ids]
        return answer(request, page(versions_dto, await body_of(request), searched=("id",)))

    async def estimate(request: Request) -> Response:
        return answer(request, _estimated(requested(request), await body_of(request)))

    return [
        Route("/apps/list", listed, methods=["POST"]),
        Route("/apps/{app}/versions/list", versions, methods=["POST"]),
        Route("/apps/{app}/versions/{version}", version),
        Route("/store/apps/{app}/estimate", estimate, methods=["POST"]),
        Route("/apps/{app}", get),
        Route("/apps/{namespace}/{name}", get),
    ]


def _name_in(request: Request) -> str:
    parts = request.path_params
    return parts.get("app") or f"{parts['namespace']}/{parts['name']}"


def _estimated(app: App, body: Json) -> Json:
    function = catalogue.function_of(app, body.get("function") or "")
    price = app.price(validate(function.input_model, body.get("input") or {}, "input"))
    dto: Json = {"confidence": price.confidence, "pricing_description": price.description}
    if price.confidence == "exact":
        dto["microcents"] = price.most
    if price.confidence == "range":
        dto |= {"min": price.least, "max": price.most}
    return dto | ({"depends_on": list(price.depends_on)} if price.depends_on else {})


def search(context: Context) -> list[Route]:
    """Apps by the words of a query, the best first."""

    async def suggest(request: Request) -> Response:
        context.tenants.of(request)
        body = await body_of(request)
        query, category = str(body.get("query") or ""), str(body.get("category") or "")
        if not query or category not in _CATEGORIES:
            raise Problem(400, "validation_error", "query is missing, or category is none of app, skill and knowledge")
        limit = int(body.get("limit") or (10 if category else 3))
        scored = sorted(((_score(app, query), app) for app in APPS), key=lambda pair: (-pair[0], pair[1].ref))
        results = [_result(app, score) for score, app in scored if score > 0] if category in {"", "app"} else []
        return answer(request, {"query": query, "results": results[:limit]})

    return [Route("/suggest", suggest, methods=["POST"])]


def _score(app: App, query: str) -> float:
    """The share of the query's words that the app's texts have, or words of the same meaning."""
    text = f"{app.name} {app.title} {app.category} {app.description}".lower()
    words: list[str] = [word for word in re.findall(r"[a-z0-9]+", query.lower()) if len(word) > 2]
    hits = [word for word in words if word in text or _MEANINGS.get(word, word) in text]
    named = 0.5 if any(_MEANINGS.get(word, word) in app.name for word in words) else 0
    return round((len(hits) / len(words) + named) / 1.5, 3) if words else 0


def _result(app: App, score: float) -> Json:
    command = f"belt app run {app.ref}"
    return {"type": "app", "name": app.ref, "description": app.description[:200], "command": command, "score": score}
