"""Our typed tool builder against the official ones: the same tools, byte for byte as npm's prints them, and PyPI's read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from python_builders import EXPECTED

from inferencesh_mcp.api import toolbox as tb

if TYPE_CHECKING:
    from checks import Checks

URL = "https://x.example"


def built() -> dict[str, Any]:
    """Each case that is a tool, as ours makes it."""
    where = tb.object_of({"lat": tb.number("Lat"), "lon": tb.number(optional=True)}, "Place")
    weather = {
        "city": tb.string("City"),
        "days": tb.integer("How many", optional=True),
        "unit": tb.enum_of("c", "f", description="Unit"),
        "where": where,
        "tags": tb.array_of(tb.string("Tag"), "Tags"),
        "exact": tb.boolean(),
    }
    row = tb.object_of({"n": tb.integer(), "s": tb.string(optional=True)})
    image = {"function": "run", "session_enabled": True, "setup": {"model": "s"}, "input": {"steps": 4}}
    google = tb.IntegrationAuth(provider="google", integration_id="i1")
    return {
        "client": tb.client_tool("get_weather", "Get weather", weather, display_name="Weather", approval=True),
        "client, bare": tb.client_tool("now"),
        "client, all optional inside": tb.client_tool(
            "find", params={"by": tb.object_of({"name": tb.string(optional=True)})}
        ),
        "client, array of objects": tb.client_tool("add", params={"rows": tb.array_of(row)}),
        "client, with its handler": tb.client_tool("echo", params={"text": tb.string()}),
        "app": tb.app_tool("img", "infsh/flux@abc", "d", **image),
        "app, param has no effect": tb.app_tool("img", "infsh/flux", approval=True),
        "agent": tb.agent_tool("expert", "my/expert@latest", "d"),
        "http, connection": tb.http_tool("gmail", f"{URL}/send", params={"to": tb.string()}, auth=google),
        "http, key": tb.http_tool(
            "fetch", URL, method="GET", auth=tb.ApiKeyAuth(secret="K"), headers={"Accept": "application/json"}
        ),
        "http, key in a header of its own": tb.http_tool("fetch", URL, auth=tb.ApiKeyAuth(secret="K", header="X-Mine")),
        "http, bearer": tb.http_tool("fetch", URL, auth=tb.BearerAuth(secret="T")),
        "http, bare": tb.http_tool("fetch", URL),
        "call": tb.http_tool("fetch", URL, method="DELETE"),
        "webhook": tb.webhook_tool("w", URL, params={"a": tb.string("A")}, secret="S"),
        "webhook, bare": tb.webhook_tool("w", URL),
        "mcp": tb.mcp_tool("n", "search", "d", integration_id="int1"),
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
