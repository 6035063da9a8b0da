"""Our typed tool builder against the official ones: the same tools, byte for byte as npm's prints them, and PyPI's read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from python_builders import EXPECTED

from inferencesh_mcp.api import agent_config as tb
from inferencesh_mcp.api import building

if TYPE_CHECKING:
    from checks import Checks

URL = "https://x.example"


def built() -> dict[str, Any]:
    """Each case that is a tool, as ours makes it."""
    where = building.object_of({"lat": building.number("Lat"), "lon": building.number(optional=True)}, "Place")
    weather = {
        "city": building.string("City"),
        "days": building.integer("How many", optional=True),
        "unit": building.enum_of("c", "f", description="Unit"),
        "where": where,
        "tags": building.array_of(building.string("Tag"), "Tags"),
        "exact": building.boolean(),
    }
    row = building.object_of({"n": building.integer(), "s": building.string(optional=True)})
    image = {"function": "run", "session_enabled": True, "setup": {"model": "s"}, "input": {"steps": 4}}
    google = tb.IntegrationAuth(provider="google", integration_id="i1")
    return {
        "client": building.client_tool("get_weather", "Get weather", weather, display_name="Weather", approval=True),
        "client, bare": building.client_tool("now"),
        "client, all optional inside": building.client_tool(
            "find", params={"by": building.object_of({"name": building.string(optional=True)})}
        ),
        "client, array of objects": building.client_tool("add", params={"rows": building.array_of(row)}),
        "client, with its handler": building.client_tool("echo", params={"text": building.string()}),
        "app": building.app_tool("img", "infsh/flux@abc", "d", **image),
        "app, param has no effect": building.app_tool("img", "infsh/flux", approval=True),
        "agent": building.agent_tool("expert", "my/expert@latest", "d"),
        "http, connection": building.http_tool("gmail", f"{URL}/send", params={"to": building.string()}, auth=google),
        "http, key": building.http_tool(
            "fetch", URL, method="GET", auth=tb.ApiKeyAuth(secret="K"), headers={"Accept": "application/json"}
        ),
        "http, key in a header of its own": building.http_tool(
            "fetch", URL, auth=tb.ApiKeyAuth(secret="K", header="X-Mine")
        ),
        "http, bearer": building.http_tool("fetch", URL, auth=tb.BearerAuth(secret="T")),
        "http, bare": building.http_tool("fetch", URL),
        "call": building.http_tool("fetch", URL, method="DELETE"),
        "webhook": building.webhook_tool("w", URL, params={"a": building.string("A")}, secret="S"),
        "webhook, bare": building.webhook_tool("w", URL),
        "mcp": building.mcp_tool("n", "search", "d", integration_id="int1"),
    }


def judge_ours(checks: Checks) -> None:
    """A check for each case; `builders.json` is what the official builders were seen to print in this very run."""
    for case, expected in EXPECTED.items():
        if case.startswith("internal"):
            config = tb.AgentConfigInput.parse({"internal_tools": expected["js"]}).wire()
            _same(checks, f"our builder: {case}", config["internal_tools"], expected["js"])
            continue
        _same(checks, f"our builder: {case}", built()[case].wire(), expected["js"])
        _same(checks, f"our reading of Python's: {case}", tb.parse_tool(expected["py"]).wire(), expected["py"])


def _same(checks: Checks, name: str, ours: Any, theirs: Any) -> None:
    if json.dumps(ours) == json.dumps(theirs):
        checks.success(name)
    else:
        checks.failure(name, f"{json.dumps(ours)} is not {json.dumps(theirs)}")
