"""INFERENCE_TOOL_PREFIX: other names for the tools, in lists, calls and our own words alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mcp import Client, MCPError

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.server import TOOLS
from inferencesh_mcp.settings import Settings
from tests.conftest import Connect, Way, connected
from tests.results import payload, text_of
from tests.system.faults.hosts import HTTP, MEMORY, STDIO, over
from tests.test_prompts import JOBS, put

pytestmark = pytest.mark.anyio

NAMES = [definition.function.__name__ for definition in TOOLS]
PREFIXED = {"INFERENCE_TOOL_PREFIX": "inf_"}
# A name of a tool that is mentioned without its prefix. `account` is a word too.
BARE = re.compile(rf"(?<!inf_)\b(?:{'|'.join(name for name in NAMES if '_' in name)})\b")
everywhere = over(*MEMORY, HTTP, STDIO[1])


@everywhere
async def test_tools_are_listed_called_and_mentioned_by_their_prefixed_names(connect: Connect, way: Way) -> None:
    async with connect(**PREFIXED, INFERENCE_PIN="sandbox/echo") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        ran = await client.call_tool(
            "inf_app_run", {"app": "sandbox/draw", "input": {"prompt": "a kite"}, "wait": False}
        )
        pinned = await client.call_tool("inf_echo", {"message": "hello"})
        balance = await client.call_tool("inf_account", {})
        wrong = await client.call_tool("inf_app_get", {"app": "sandbox/nothing"})
        instructions = str(client.instructions)
        prompts = [await put(client, name, arguments) for name, arguments in JOBS.items()]

    local = set() if way.transport == "http" else {"inf_file_save"}
    assert {f"inf_{name}" for name in NAMES if name != "file_save"} | local | {"inf_echo"} == tools.keys()
    assert "inf_task_get(" in text_of(ran)
    assert not pinned.is_error
    assert "USD" in text_of(balance) or "$" in text_of(balance)
    assert "inf_app_list" in payload(wrong)["error"]["next"]
    descriptions = [str(tool.model_dump()) for name, tool in tools.items() if name != "inf_echo"]
    for text in [*descriptions, instructions, text_of(ran), str(payload(ran)), text_of(wrong), *prompts]:
        assert [] == BARE.findall(text)


@everywhere
async def test_a_name_without_the_prefix_is_no_tool(connect: Connect) -> None:
    async with connect(**PREFIXED) as client:
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("app_list", {})


@over(*MEMORY)
async def test_what_an_app_says_of_our_tools_is_left_as_it_is(connect: Connect) -> None:
    """Its output is data; only our own words name our tools."""
    said = {"message": "Call app_run again.", "next": "task_get"}
    async with connect(**PREFIXED) as client:
        result = await client.call_tool("inf_app_run", {"app": "sandbox/echo", "input": said})

    assert said["message"] in text_of(result)
    assert said == {name: payload(result)["output"][name] for name in said}


@over(*MEMORY)
async def test_a_file_a_field_and_an_app_that_are_called_like_a_tool_keep_their_names(
    way: Way, environ: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "task_logs"
    async with connected(way, environ | PREFIXED | {"INFERENCE_SAVE_DIR": str(folder)}) as client:
        drawn = payload(await client.call_tool("inf_app_run", {"app": "sandbox/draw", "input": {"prompt": "a kite"}}))
        saved = await client.call_tool("inf_file_save", {"task_ids": [drawn["task_id"]], "filename": "file_list.png"})
        asked = {"app": "sandbox/echo", "input": {"file_list": "x"}, "dry_run": True}
        rehearsed = await client.call_tool("inf_app_run", asked)
        missing = await client.call_tool("inf_app_get", {"app": "acme/file_upload"})
        instructions = str(client.instructions)
        told = await put(client, "run_app", {"goal": "Draw what task_logs shows, in /home/me/task_list"})

    assert str(folder / "file_list.png") in text_of(saved)
    assert str(folder) in instructions
    assert '"file_list"' in text_of(rehearsed)
    assert "acme/file_upload" in text_of(missing)
    assert "Draw what task_logs shows, in /home/me/task_list" in told


@over(*MEMORY)
async def test_resources_and_protocol_errors_name_the_tools_too(connect: Connect) -> None:
    async with connect(**PREFIXED) as client:
        templates = (await client.list_resource_templates()).resource_templates
        slow = {"app": "sandbox/slow", "input": {"seconds": 5}, "wait": False}
        started = payload(await client.call_tool("inf_app_run", slow))
        contents = (await client.read_resource(f"inference://tasks/{started['task_id']}")).contents
        with pytest.raises(MCPError) as caught:
            await client.read_resource("inference://tasks/01m8j59pab9t89jkwrqnzaq35a")

    said = [
        *(str(template.description) for template in templates),
        *(str(content) for content in contents),
        str(caught.value.error),
    ]
    assert any("inf_task_get" in text for text in said)
    assert [] == [name for text in said for name in BARE.findall(text)]


@over(*MEMORY)
async def test_a_key_in_the_place_of_a_tools_name_is_not_shown(way: Way, environ: dict[str, str]) -> None:
    key = environ["INFERENCE_API_KEY"]
    async with connected(way, environ | {"INFERENCE_TOOL_PREFIX": "x_"}) as client:
        answers = [await _answer(client, name) for name in (key, f"x_{key}")]

    assert all(answers)
    assert key[4:] not in "".join(answers)


async def _answer(client: Client, name: str) -> str:
    try:
        return text_of(await client.call_tool(name, {}))
    except MCPError as exc:
        return str(exc)


@pytest.mark.parametrize("prefix", ["1a", "with space", "longer_than_8", "é"])
def test_a_prefix_that_hosts_do_not_take_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match="a letter and up to 7"):
        Settings.from_environ({"INFERENCE_TOOL_PREFIX": prefix})
