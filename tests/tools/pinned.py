"""What the tests of pinned apps share: apps that change, and the tools that a host sees of them."""

from __future__ import annotations

import json
from typing import Any

from mcp import Client

from inferencesh_mcp.server import TOOLS
from inferencesh_sandbox import catalogue
from tests.conftest import WAYS, Upstream
from tests.support.faults import Status

MEMORY = [way for way in WAYS if way.transport == "memory"]
HTTP = [way for way in WAYS if way.transport == "http"]
PRIVATE = {"visibility": "private"}
CHANGED = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


async def names(client: Client) -> list[str]:
    """The tools that are not the server's own."""
    own = {definition.function.__name__ for definition in TOOLS}
    return [tool.name for tool in (await client.list_tools()).tools if tool.name not in own]


async def hero_takes(client: Client) -> set[str]:
    (hero,) = [tool for tool in (await client.list_tools()).tools if tool.name == "hero"]
    return set(hero.input_schema["properties"])


def answering(upstream: Upstream, app_name: str, *, app: dict[str, Any] | None = None, **version: Any) -> None:
    """Have the API tell of an app as if its author had changed it."""
    current = catalogue.find_app(app_name)
    card = catalogue.app_dto(current, version_id=current.version_ids[0]) | (app or {})
    changed = card["version"] | version
    changed["functions"] = {
        name: function | {key: part for key, part in version.items() if key in function}
        for name, function in changed["functions"].items()
    }
    body = json.dumps(card | {"version": changed})
    upstream.sandbox.faults.add(
        Status(code=200, headers={"content-type": "application/json"}, body=body),
        method="GET", path=f"/apps/{app_name}", times=-1,
    )  # fmt: skip
