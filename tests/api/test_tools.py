"""The tool builder: byte for byte what the official builders print."""

import json

import inferencesh.tools as python
import pytest

from inferencesh_mcp.api import agent_config, building
from inferencesh_mcp.api.agent_config import AgentConfigInput, parse_tool
from inferencesh_mcp.api.vocabulary import INTEGRATION_PROVIDERS, TOOL_TYPES
from inferencesh_mcp.errors import InvalidInput


def printed(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


WEATHER = {
    "city": building.string("City"),
    "days": building.integer("How many", optional=True),
    "unit": building.enum_of("c", "f", description="Unit"),
    "where": building.object_of({"lat": building.number("Lat"), "lon": building.number(optional=True)}, "Place"),
    "tags": building.array_of(building.string("Tag"), "Tags"),
    "exact": building.boolean(),
}
TO = {"to": building.string()}
GMAIL = '{"name":"gmail","display_name":"gmail","description":"","type":"http","http":{"url":"https://x.example/send"%s,"input_schema":{"type":"object","properties":{"to":{"type":"string"}},"required":["to"]}}}'
SEND = "https://x.example/send"

# What the JavaScript builders of 0.6.10 and 0.6.54 print.
MADE = {
    "client": (
        building.client_tool("get_weather", "Get weather", WEATHER, display_name="Weather", approval=True),
        '{"name":"get_weather","display_name":"Weather","description":"Get weather","type":"client","require_approval":true,"client":{"input_schema":{"type":"object","properties":{"city":{"type":"string","description":"City"},"days":{"type":"integer","description":"How many"},"unit":{"type":"string","description":"Unit","enum":["c","f"]},"where":{"type":"object","description":"Place","properties":{"lat":{"type":"number","description":"Lat"},"lon":{"type":"number"}},"required":["lat"]},"tags":{"type":"array","description":"Tags","items":{"type":"string","description":"Tag"}},"exact":{"type":"boolean"}},"required":["city","unit","where","tags","exact"]}}}',
    ),
    "app": (
        building.app_tool("img", "infsh/flux@abc", "d", function="run", session_enabled=True, setup={"model": "s"}, input={"steps": 4}),
        '{"name":"img","display_name":"img","description":"d","type":"app","app":{"ref":"infsh/flux@abc","function":"run","session_enabled":true,"setup":{"model":"s"},"input":{"steps":4}}}',
    ),
    "agent": (
        building.agent_tool("expert", "my/expert@latest", "d"),
        '{"name":"expert","display_name":"expert","description":"d","type":"agent","agent":{"ref":"my/expert@latest"}}',
    ),
    "http, integration": (
        building.http_tool("gmail", SEND, params=TO, auth=agent_config.IntegrationAuth(provider="google", integration_id="i1")),
        GMAIL % ',"auth":{"type":"integration","provider":"google","integration_id":"i1"}',
    ),
    "http, key": (
        building.http_tool("gmail", SEND, params=TO, method="GET", auth=agent_config.ApiKeyAuth(secret="K"), headers={"Accept": "application/json"}),
        GMAIL % ',"method":"GET","auth":{"type":"api_key","secret":"K","header":"X-API-Key"},"headers":{"Accept":"application/json"}',
    ),
    "http, bearer": (building.http_tool("gmail", SEND, params=TO, auth=agent_config.BearerAuth(secret="T")), GMAIL % ',"auth":{"type":"bearer","secret":"T"}'),
    "http, credential": (
        building.http_tool("gmail", SEND, params=TO, auth=agent_config.CredentialAuth(provider="google")),
        GMAIL % ',"auth":{"type":"credential","provider":"google"}',
    ),
    "http, nothing": (building.http_tool("gmail", SEND, params=TO, headers={}), GMAIL % ""),
    "webhook": (
        building.webhook_tool("w", "https://x.example", params={"a": building.string("A")}, secret="S"),
        '{"name":"w","display_name":"w","description":"","type":"hook","hook":{"url":"https://x.example","secret":"S","input_schema":{"type":"object","properties":{"a":{"type":"string","description":"A"}},"required":["a"]}}}',
    ),
    "mcp": (
        building.mcp_tool("n", "search", "d", integration_id="int1"),
        '{"name":"n","display_name":"n","description":"d","type":"mcp","mcp":{"integration_id":"int1","tool_name":"search"}}',
    ),
    "mcp, newest": (
        building.mcp_tool("n", "search", "d", server="exa"),
        '{"name":"n","display_name":"n","description":"d","type":"mcp","mcp":{"server":"exa","tool_name":"search"}}',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tool", "expected"), MADE.values(), ids=MADE)
def test_a_tool_made_here_is_what_the_builder_prints(tool, expected):
    """Keys in the builder's order, what was not given left out."""
    assert expected == printed(tool.wire())


@pytest.mark.parametrize(("tool", "expected"), MADE.values(), ids=MADE)
def test_what_a_builder_printed_is_printed_again(tool, expected):
    assert expected == printed(parse_tool(json.loads(expected)).wire())


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
def test_what_the_python_builder_prints_is_printed_again(builder):
    """Its nulls and its `false` too."""
    expected = printed(builder.build())

    assert expected == printed(parse_tool(json.loads(expected)).wire())


@pytest.mark.parametrize("made", [python.internal_tools().memory(), python.internal_tools().all(), python.internal_tools().none(),
                                  python.internal_tools().finish().plan(False).meta(), python.internal_tools()])  # fmt: skip
def test_internal_tools_stay_in_order(made):
    expected = printed({"internal_tools": made.build()})

    assert expected == printed(AgentConfigInput.parse(json.loads(expected)).wire())


def test_a_whole_configuration_passes_unchanged():
    tools = [
        json.loads(expected)
        for name, (_, expected) in MADE.items()
        if not name.startswith("http") and name != "mcp, newest"
    ]
    config = {
        "name": "helper",
        "description": "d",
        "system_prompt": "p",
        "core_app": {"ref": "infsh/llm@abc", "setup": {"a": 1}, "input": {"temperature": 0}},
        "tools": [*tools, {"name": "i", "description": "", "type": "internal", "internal": {"category": "plan", "operation": "create"}},
                  {"name": "c", "description": "", "type": "call", "call": {"url": SEND, "auth": {"type": "none"}}}],
        "skills": [{"name": "s", "description": "d", "url": "https://x.example", "preload": True}],
        "context": [{"name": "user", "required": True, "default": "x"}],
        "internal_tools": {"finish": True},
        "output_schema": {"type": "object", "properties": {"z": {}, "a": {}}},
    }  # fmt: skip

    assert printed(config) == printed(AgentConfigInput.parse(config).wire())


def test_what_says_the_kind_is_sent_though_it_was_not_given():
    assert {"name": "x", "type": "client", "client": {}} == agent_config.ClientTool(
        name="x", client=agent_config.ClientConfig()
    ).wire()


def test_parameters_may_have_defaults_and_any_type():
    assert {"type": "object", "properties": {"a": {"type": "number", "default": 0.5}, "b": {"type": "null"}, "c": {"type": "object", "properties": {}}},
            "required": ["b", "c"]} == building.input_schema({
        "a": building.number(default=0.5, optional=True), "b": building.Param(type="null"), "c": building.object_of({})})  # fmt: skip


WRONG = [
    ("x", "the agent's configuration is wrong: should be"),
    ({"hooks": [{"event": "agent.start", "handler": "SECRET"}]}, "hooks: is no field that is known here"),
    ({"permissions": {"allow_all_tools": True}}, "permissions: is no field"),
    ({"core_app": {}}, "core_app: name the app, for example"),
    ({"core_app": {"ref": 3}}, "core_app.ref: should be a valid string"),
    ({"tools": [{"name": "x", "type": "harness"}]}, r"tools\[0\]: must have a type of 'client', 'app'"),
    ({"tools": [{"name": "x"}]}, r"tools\[0\]: has no type"),
    ({"tools": [{"name": "x", "type": "client"}]}, r"tools\[0\].client: is missing"),
    ({"tools": [{"name": "", "type": "client", "client": {}}]}, r"tools\[0\].name: "),
    ({"tools": [{"name": "x", "type": "client", "client": {"input_schema": "SECRET"}}]}, r"tools\[0\].client.input_schema: should be"),
    ({"tools": [{"name": "x", "type": "http", "http": {"url": "u", "auth": {"type": "bearer", "secret": ["SECRET"]}}}]}, r"tools\[0\].http.auth.secret: should be"),
    ({"tools": [{"name": "x", "type": "mcp", "mcp": {"tool_name": "t"}}]}, r"tools\[0\].mcp: give either 'integration_id' or 'server'"),
    ({"tools": [{"name": "x", "type": "client", "client": {}}] * 2}, "two tools are named 'x'"),
    ({"internal_tools": {"plan": "SECRET"}}, "internal_tools.plan: should be a valid boolean"),
    ({"internal_tools": {"zzz": True}}, "internal_tools.zzz"),
    ({"tools": [{"name": "x"}] * 9}, r"\(and 4 more\)"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "said"), WRONG)
def test_a_wrong_configuration_is_told_field_by_field(value, said):
    """And none of its values."""
    with pytest.raises(InvalidInput, match=said) as caught:
        AgentConfigInput.parse(value)

    assert "SECRET" not in str(caught.value) + repr(caught.value.__cause__)
    assert "not_started" == caught.value.outcome


def test_one_wrong_tool_is_told_of():
    with pytest.raises(InvalidInput, match=r"^the tool is wrong: http\.url: is missing$"):
        parse_tool({"name": "x", "type": "http", "http": {}})


def test_secrets_are_in_no_repr():
    tool = building.http_tool("x", SEND, auth=agent_config.BearerAuth(secret="SECRET"), headers={"x": "SECRET"})

    assert "SECRET" not in repr(tool) + repr(building.webhook_tool("x", SEND, secret="SECRET"))


def test_the_seeds_words_exist():
    assert ("google", 11, "client") == (INTEGRATION_PROVIDERS[0], len(INTEGRATION_PROVIDERS), TOOL_TYPES[6])
