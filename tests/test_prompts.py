"""Prompts: three jobs, put with the names of our real tools."""

from __future__ import annotations

import re

import pytest
from mcp import Client, MCPError

from tests.conftest import Connect, Way, connected
from tests.system.faults.hosts import MEMORY, over

pytestmark = pytest.mark.anyio

JOBS = {
    "run_app": {"app": "sandbox/draw", "goal": "a red kite"},
    "compare_apps": {"apps": "sandbox/echo,sandbox/draw", "goal": "a red kite"},
    "hand_to_agent": {"agent": "sandbox/assistant", "job": "Write about a red kite"},
}


async def put(client: Client, name: str, arguments: dict[str, str]) -> str:
    message = (await client.get_prompt(name, arguments)).messages[0]
    assert message.content.type == "text"
    return message.content.text


async def test_each_prompt_names_its_arguments_and_existing_tools(connect: Connect) -> None:
    """Nothing in them sends a model to a tool that is not there."""
    async with connect() as client:
        listed = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        tools = {tool.name for tool in (await client.list_tools()).tools}
        said = {name: await put(client, name, arguments) for name, arguments in JOBS.items()}

    assert JOBS.keys() == listed.keys()
    for name, text in said.items():
        assert {argument.name for argument in listed[name].arguments or []} == JOBS[name].keys()
        assert "red kite" in text
        assert "sandbox/" in text
        named = set(re.findall(r"\b(?:app|task|file|agent|chat|session)_[a-z]+\b", text)) - {"task_id", "chat_id"}
        assert named
        assert named <= tools
        assert len(text) < 2_000


@over(*MEMORY)
async def test_optional_arguments_may_be_left_out(connect: Connect) -> None:
    """Without an app or an agent, one is looked for."""
    async with connect() as client:
        assert "app_list" in await put(client, "run_app", {"goal": "a red kite"})
        assert "agent_list" in await put(client, "hand_to_agent", {"job": "a red kite"})


@over(Way("memory", "2025"), Way("http", "2026"))
async def test_an_invalid_prompt_call_is_explained(connect: Connect) -> None:
    """As an error of the call, not of the server."""
    async with connect() as client:
        for name, arguments, right in [("nope", {}, "run_app"), ("run_app", {}, "needs goal"), ("run_app", {"goal": " "}, "needs goal")]:  # fmt: skip
            with pytest.raises(MCPError, match=right) as caught:
                await client.get_prompt(name, arguments)
            assert -32602 == caught.value.error.code


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"INFERENCE_READ_ONLY": "true"}, set[str]()),
        ({"INFERENCE_TOOLSETS": "agents"}, {"hand_to_agent"}),
        ({"INFERENCE_TOOLSETS": "apps,tasks,files"}, {"run_app", "compare_apps"}),
    ],
)
async def test_prompts_follow_the_toolsets(environ: dict[str, str], settings: dict[str, str], kept: set[str]) -> None:
    """A prompt whose tools are not on offer is not either."""
    async with connected(Way("memory", "2026"), environ | settings) as client:
        assert kept == {prompt.name for prompt in (await client.list_prompts()).prompts}
