"""What the tool builders of the official Python SDK print, for a tool of every kind.

`builders.json` has, for each case, what npm's builder prints and what PyPI's does, byte for byte. They differ in this:

- Python always writes `require_approval`, and null for what an http tool or a webhook lacks; JS leaves both out.
- Python's `credential` stands where JS has `integration` with its id, and Python names an MCP server by its slug.
- Python does not go into the items of an array: objects in there keep `optional` and get no `required`.
- In a parameter, Python writes the description last, after `enum`, `properties` and `items`; JS writes it after the type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inferencesh.tools import (
    agent_tool,
    app_tool,
    array,
    boolean,
    call_tool,
    enum_of,
    http_tool,
    integer,
    internal_tools,
    mcp_tool,
    number,
    obj,
    optional,
    string,
    tool,
    webhook_tool,
)

EXPECTED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "builders.json").read_bytes())


def built() -> dict[str, Any]:
    """Each case, as the builder makes it."""
    where = obj({"lat": number("Lat"), "lon": optional(number())}, "Place")
    return {
        "client": tool("get_weather").display_name("Weather").describe("Get weather").require_approval()
        .param("city", string("City")).param("days", optional(integer("How many")))
        .param("unit", enum_of(["c", "f"], "Unit")).param("where", where)
        .param("tags", array(string("Tag"), "Tags")).param("exact", boolean()).build(),
        "client, bare": tool("now").build(),
        "client, all optional inside": tool("find").param("by", obj({"name": optional(string())})).build(),
        "client, array of objects": tool("add").param("rows", array(obj({"n": integer(), "s": optional(string())}))).build(),
        "client, with its handler": tool("echo").param("text", string()).handler(lambda given: given["text"])["schema"],
        "app": app_tool("img", "infsh/flux@abc").describe("d").function("run").session_enabled()
        .setup({"model": "s"}).input({"steps": 4}).build(),
        "app, param has no effect": app_tool("img", "infsh/flux").param("prompt", string()).require_approval().build(),
        "agent": agent_tool("expert", "my/expert@latest").describe("d").build(),
        "http, connection": http_tool("gmail", "https://x.example/send").auth(credential="google").param("to", string()).build(),
        "http, key": http_tool("fetch", "https://x.example").method("GET").auth(api_key="K").header("Accept", "application/json")
        .build(),
        "http, key in a header of its own": http_tool("fetch", "https://x.example").auth(api_key="K", header="X-Mine").build(),
        "http, bearer": http_tool("fetch", "https://x.example").auth(bearer="T").build(),
        "http, bare": http_tool("fetch", "https://x.example").build(),
        "call": call_tool("fetch", "https://x.example").method("DELETE").build(),
        "webhook": webhook_tool("w", "https://x.example").secret("S").param("a", string("A")).build(),
        "webhook, bare": webhook_tool("w", "https://x.example").build(),
        "mcp": mcp_tool("n", server="exa", tool_name="search").describe("d").param("q", string()).build(),
        "internal, one": internal_tools().memory().build(),
        "internal, one off": internal_tools().plan(enabled=False).meta().build(),
        "internal, all": internal_tools().all().build(),
        "internal, none": internal_tools().none().build(),
    }  # fmt: skip


def compare() -> None:
    """Insist that PyPI's builder prints what `builders.json` says, byte for byte."""
    made = built()
    assert list(made) == list(EXPECTED)
    for case, schema in made.items():
        assert json.dumps(schema) == json.dumps(EXPECTED[case]["py"]), case
