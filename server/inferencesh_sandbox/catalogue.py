"""The apps as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from inferencesh_sandbox.apps import APPS
from inferencesh_sandbox.facts import NEWEST, Facts
from inferencesh_sandbox.lookup import find_by_name, public_fields
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from pydantic import BaseModel

    from inferencesh_sandbox.apps.types import App, Function

ALIASES = {"sandbox/increment": ("sandbox/memory", "increment")}
"""Older names of apps; each may pin a function of the app that it leads to."""
_RESOURCES = {"gpu": {"count": 0, "vram": 0, "type": "none"}, "ram": 0}


@dataclass(frozen=True)
class Ref:
    """A parsed reference: `[app/]namespace/name[@version][:function]`."""

    name: str
    version: str
    function: str

    @classmethod
    def read(cls, text: str) -> Ref:
        head, colon, tail = text.rpartition(":")
        # A colon before an `@` belongs to the name, as in the SDKs.
        versioned_name, function = (head, tail) if colon and "@" not in tail else (text, "")
        name, _, version = versioned_name.partition("@")
        return cls(name.removeprefix("app/"), version, function)


def find_app(name: str) -> App:
    """Find an app by its id, `namespace/name` or an older name. The error suggests similar names."""
    return find_by_name("app", APPS, ALIASES.get(name, (name, ""))[0])


def pinned_function(name: str) -> str:
    """The function that an older name stands for; empty for other names."""
    return ALIASES.get(name, ("", ""))[1]


def function_of(app: App, name: str) -> Function:
    """Find a function by its name. Default: the app's default function."""
    function = app.function(name or app.default_function)
    if function is None:
        names = ", ".join(item.name for item in app.functions)
        raise Problem(400, "validation_error", f"{app.ref} has no function {name!r}; it has: {names}")
    return function


def app_dto(app: App, *, version_id: str = "", facts: Facts = NEWEST) -> Json:
    """An app, as an AppDTO; naming a version adds it, with the schemas."""
    card: Json = {
        **public_fields(app.id),
        "namespace": app.namespace,
        "name": app.name,
        "title": app.title,
        "description": app.description,
        "agent_description": app.description,
        "category": app.category,
        "images": {"card": "", "thumbnail": "", "banner": ""},
        "tags": ["sandbox"],
        "status": "active",
        "version_id": version_id or app.version_ids[0],
    }
    return {**card, "version": version_dto(app, version_id, facts)} if version_id else card


def version_dto(app: App, version_id: str, facts: Facts) -> Json:
    """A version, as an AppVersionDTO."""
    default = function_of(app, "")
    return {
        **public_fields(version_id),
        "metadata": {},
        "repository": "",
        "setup_schema": _schema(app.setup) if app.setup else None,
        "input_schema": _schema(default.input_model),
        "output_schema": _schema(default.output_model),
        "functions": {item.name: _function_dto(item) for item in app.functions},
        "default_function": app.default_function,
        "variants": {"default": {"name": "default", "order": 0, "resources": _RESOURCES, "env": {}, "python": "3.11"}},
        "env": {},
        "kernel": "python-3.11",
        "required_secrets": _required(app, "secret", "key"),
        **_connections(app, facts),
        "resources": _RESOURCES,
    }


def _function_dto(function: Function) -> Json:
    return {
        "name": function.name,
        "description": function.description,
        "input_schema": _schema(function.input_model),
        "output_schema": _schema(function.output_model),
        "capabilities": [],
        "kind": function.kind,
    }


@cache
def _schema(model: type[BaseModel]) -> Json:
    """Cached: each run of an app reads it."""
    return model.model_json_schema()


def _connections(app: App, facts: Facts) -> Json:
    if facts.named_integrations:
        return {"required_integrations": _required(app, "credential", "key")}
    return {"required_credentials": _required(app, "credential", "slug")}


def _required(app: App, kind: str, name: str) -> list[Json]:
    return [
        {name: item["key"], "description": f"What {app.name} signs in with", "optional": False}
        for item in app.requirements
        if item["type"] == kind
    ]
