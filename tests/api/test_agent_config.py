"""The configuration of an ad-hoc agent: what the official builders make is accepted, the rest refused field by field."""

import json

import inferencesh.tools as python
import pytest

from inferencesh_mcp.api.agent_config import AgentConfigInput
from inferencesh_mcp.errors import InvalidInput

SEND = "https://x.example/send"


def as_json(value):
    return json.loads(json.dumps(value))


def sent(config):
    return as_json(AgentConfigInput.parse(config).wire())


BY_PYTHON = {
    "client": python.tool("get_weather").describe("Get weather").param("city", python.string("City")).param(
        "unit", python.optional(python.enum_of(["c", "f"], "Unit"))).param("where", python.obj({"lat": python.number("Lat")}, "Place")).param(
        "tags", python.array(python.integer(), "Tags")).param("exact", python.boolean()).require_approval(),
    "client, nothing": python.tool("x"),
    "app": python.app_tool("img", "infsh/flux@abc").function("run").session_enabled().setup({"a": 1}).input({"b": 2}).display("I"),
    "app, nothing": python.app_tool("img", "infsh/flux@abc"),
    "agent": python.agent_tool("expert", "my/expert@latest"),
    "http": python.http_tool("gmail", SEND).method("GET").auth(credential="google").header("Accept", "x").param("to", python.string()),
    "http, nothing": python.http_tool("gmail", SEND),
    "call, key": python.call_tool("gmail", SEND).auth(api_key="K"),
    "call, bearer": python.call_tool("gmail", SEND).auth(bearer="T"),
    "webhook": python.webhook_tool("w", SEND).secret("S"),
    "webhook, nothing": python.webhook_tool("w", SEND),
    "mcp": python.mcp_tool("n", server="exa", tool_name="search"),
}  # fmt: skip


@pytest.mark.parametrize("builder", BY_PYTHON.values(), ids=BY_PYTHON)
def test_a_tool_of_the_official_builder_is_sent_unchanged(builder):
    """With its nulls and its `false`."""
    config = as_json({"tools": [builder.build()]})

    assert config == sent(config)


@pytest.mark.parametrize("internal", [python.internal_tools().memory(), python.internal_tools().all(), python.internal_tools().none(),
                                      python.internal_tools().finish().plan(False).meta(), python.internal_tools()])  # fmt: skip
def test_internal_tools_of_the_official_builder_are_sent_unchanged(internal):
    config = as_json({"internal_tools": internal.build()})

    assert config == sent(config)


TOOLS = [
    {"name": "get_weather", "display_name": "Weather", "description": "d", "type": "client", "require_approval": True, "client": {"input_schema": {"type": "object", "properties": {"a": {"default": None}}}}},
    {"name": "img", "type": "app", "app": {"ref": "infsh/flux@abc", "function": "run", "session_enabled": True, "setup": {"model": None}, "input": {"steps": 4}}},
    {"name": "expert", "type": "agent", "agent": {"ref": "my/expert@latest"}},
    {"name": "w", "type": "hook", "hook": {"url": SEND, "secret": "S"}},
    {"name": "old", "type": "mcp", "mcp": {"integration_id": "int1", "tool_name": "search"}},
    {"name": "new", "type": "mcp", "mcp": {"server": "exa", "tool_name": "search"}},
    {"name": "i", "description": "", "type": "internal", "internal": {"category": "plan", "operation": "create"}},
    {"name": "c", "description": "", "type": "call", "call": {"url": SEND, "auth": {"type": "none"}}},
    {"name": "integration", "type": "http", "http": {"url": SEND, "auth": {"type": "integration", "provider": "google", "integration_id": "i1"}}},
    {"name": "credential", "type": "http", "http": {"url": SEND, "auth": {"type": "credential", "provider": "google"}}},
    {"name": "key", "type": "http", "http": {"url": SEND, "method": "GET", "auth": {"type": "api_key", "secret": "K", "header": "X-API-Key"}, "headers": {"Accept": "x"}}},
    {"name": "bearer", "type": "http", "http": {"url": SEND, "auth": {"type": "bearer", "secret": "T"}}},
]  # fmt: skip


def test_a_whole_configuration_is_sent_unchanged():
    config = {
        "name": "helper",
        "description": "d",
        "system_prompt": "p",
        "core_app": {"ref": "infsh/llm@abc", "setup": {"a": 1}, "input": {"temperature": 0}},
        "tools": TOOLS,
        "skills": [{"name": "s", "description": "d", "url": "https://x.example", "preload": True}],
        "context": [{"name": "user", "required": True, "default": "x"}],
        "internal_tools": {"finish": True},
        "output_schema": {"type": "object", "properties": {"z": {}, "a": {}}},
    }

    assert config == sent(config)


def test_the_default_header_of_an_api_key_is_sent():
    tool = {"name": "x", "type": "http", "http": {"url": SEND, "auth": {"type": "api_key", "secret": "K"}}}

    assert "X-API-Key" == sent({"tools": [tool]})["tools"][0]["http"]["auth"]["header"]


WRONG = [
    ("x", "the agent's configuration is wrong: should be"),
    ({"hooks": [{"event": "agent.start", "handler": "SECRET"}]}, "hooks: is an unknown field"),
    ({"permissions": {"allow_all_tools": True}}, "permissions: is an unknown field"),
    ({"core_app": {}}, "core_app: name the app, for example"),
    ({"core_app": {"ref": 3}}, "core_app.ref: should be a valid string"),
    ({"tools": [{"name": "x", "type": "harness"}]}, r"tools\[0\].type: should be 'client', 'app'"),
    ({"tools": [{"name": "x"}]}, r"tools\[0\].type: is missing"),
    ({"tools": [{"name": "x", "type": "client"}]}, r"tools\[0\]: give its settings in 'client'"),
    ({"tools": [{"name": "x", "type": "client", "client": {}, "app": {"ref": "a/b"}}]}, "and none of another type"),
    ({"tools": [{"name": "x", "type": "client", "client": {}, "app": None}]}, "and none of another type"),
    ({"tools": [{"name": "x", "type": "http", "http": {"url": "u", "auth": {"type": "zzz"}}}]}, "http.auth: must have a type of 'none'"),
    ({"tools": [{"name": "x", "type": "http", "http": {"url": "u", "auth": {}}}]}, "http.auth: has no type"),
    ({"tools": [{"name": "", "type": "client", "client": {}}]}, r"tools\[0\].name: "),
    ({"tools": [{"name": "x", "type": "client", "client": {"input_schema": "SECRET"}}]}, r"tools\[0\].client.input_schema: should be"),
    ({"tools": [{"name": "x", "type": "http", "http": {"url": "u", "auth": {"type": "bearer", "secret": ["SECRET"]}}}]}, r"tools\[0\].http.auth.secret: should be"),
    ({"tools": [{"name": "x", "type": "mcp", "mcp": {"tool_name": "t"}}]}, r"tools\[0\].mcp: give either 'integration_id' or 'server'"),
    ({"tools": [{"name": "x", "type": "client", "client": {}}] * 2}, "two tools are named 'x'"),
    ({"internal_tools": {"plan": "SECRET"}}, "internal_tools.plan: should be a valid boolean"),
    ({"internal_tools": {"zzz": True}}, "internal_tools.zzz"),
    ({"tools": [{"name": "x"}] * 9}, r"\(and 4 more\)"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_each_wrong_field_is_named(value, message):
    """Without its value."""
    with pytest.raises(InvalidInput, match=message) as caught:
        AgentConfigInput.parse(value)

    assert "SECRET" not in str(caught.value) + repr(caught.value.__cause__)
    assert "not_started" == caught.value.outcome


def test_secrets_are_in_no_repr():
    bearer = {"url": SEND, "auth": {"type": "bearer", "secret": "SECRET"}, "headers": {"x": "SECRET"}}
    tools = [
        {"name": "x", "type": "http", "http": bearer},
        {"name": "y", "type": "hook", "hook": {"url": SEND, "secret": "SECRET"}},
    ]

    assert "SECRET" not in repr(AgentConfigInput.parse({"tools": tools}))
