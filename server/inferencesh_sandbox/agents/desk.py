"""An agent that does what a message names: a form, a plan, a memory, another agent, an http call, a picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inferencesh_sandbox import mcp_servers
from inferencesh_sandbox.agents import forms
from inferencesh_sandbox.agents.types import Agent, Config, Tool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferencesh_sandbox.turns import Turn
    from inferencesh_sandbox.wire import Json

_STEPS = ("Read the message", "Do what it names", "Say what was done")


async def plan(turn: Turn) -> None:
    """Make a plan and go through its steps."""
    steps: list[Json] = [
        {"index": number, "title": title, "description": "", "status": "pending"} for number, title in enumerate(_STEPS)
    ]
    turn.chat.plan_steps = steps
    await turn.internal("plan_create", {"steps": [step["title"] for step in steps]}, "3 steps")
    for step in steps:
        for status in ("in_progress", "completed"):
            await turn.clock.sleep(0.02)
            step["status"] = status
            await turn.internal("plan_update", {"index": step["index"], "status": status}, "ok")
    await turn.say("All three steps of the plan are done.")


async def remember(turn: Turn) -> None:
    """Keep `key is value` in the chat's memory."""
    _, *text = re.split(r"remember (?:that )?", " ".join(turn.text.split()), maxsplit=1, flags=re.IGNORECASE)
    key, _, value = "".join(text).partition(" is ")
    value = value[:-1] if value.endswith((".", "!")) else value
    key, value = (key, value) if key and value else ("note", turn.text)
    turn.chat.memory[key] = value
    await turn.internal("memory_set", {"key": key, "value": value}, "ok")
    await turn.say(f"I will remember that {key} is {value}.")


async def recall(turn: Turn) -> None:
    memory = turn.chat.memory
    await turn.internal("memory_get_all", {}, str(memory))
    text = "; ".join(f"{key} is {value}" for key, value in memory.items())
    await turn.say(f"I remember: {text}." if text else "I remember nothing yet.")


async def _delegate(turn: Turn) -> None:
    await turn.say("I will ask my colleague.")
    used = await turn.use(turn.config.tool("colleague"), message=turn.text)
    await turn.say(f"My colleague says: {used.result}" if used.status == "completed" else f"It failed: {used.result}")


async def _book(turn: Turn) -> None:
    """Use the tool of the MCP server that the message is about; it asks the person for input."""
    words = (
        ("account", "connect_account"),
        ("evening", "plan_evening"),
        ("meal", "order_meal"),
        ("model", "ask_model"),
    )
    name = next((tool for word, tool in words if word in turn.text.lower()), "book_table")
    used = await turn.use(turn.config.tool(name))
    await turn.say(f"The bookings server got: {used.result}")


async def _fetch(turn: Turn) -> None:
    used = await turn.use(turn.config.tool("fetch_page"), path="/status")
    await turn.say(f"The sandbox has no network, so this was only pretended: {used.result}")


async def _draw(turn: Turn) -> None:
    used = await turn.use(turn.config.tool("draw"), prompt=turn.text[:4000], width=64, height=64)
    if used.status == "completed":
        turn.show(used.data["image"])
        await turn.say(f"I drew it with sandbox/draw: {used.data['image']}")
    else:
        await turn.say(f"Drawing failed: {used.result}")


_DOES: tuple[tuple[str, Callable[[Turn], Awaitable[None]]], ...] = (
    (r"form|widget|surface|a2ui|page", forms.ask),
    (r"plan", plan),
    (r"remember", remember),
    (r"recall|memory", recall),
    (r"delegate|colleague|sub-?agent", _delegate),
    (r"http|fetch", _fetch),
    (r"book", _book),
    (r"draw|picture|image", _draw),
)


async def _serve(turn: Turn) -> None:
    """Do each action that the message names, in order."""
    actions = [do for pattern, do in _DOES if re.search(rf"\b(?:{pattern})", turn.text, re.IGNORECASE)]
    for do in actions:
        await do(turn)
    if not actions:
        await turn.say(
            "Name what I shall do: a form, a surface, a page, a plan, remember X is Y, recall, delegate, http, draw, "
            "or book a table, a meal, an evening or with an account, which an MCP server asks about."
        )


_BOOKING = [
    Tool(name=name, display_name="Bookings", description="A tool of an MCP server", type="mcp",
         mcp={"server": mcp_servers.SERVER, "tool_name": name})
    for name in mcp_servers.TOOLS
]  # fmt: skip

DESK = Agent(
    name="desk",
    title="Desk (sandbox)",
    config=Config(
        description=(
            "Shows what an agent can do: a form (or an A2UI surface, or a page), a plan, remember X is Y, recall, delegate "
            "to another agent, a pretended http call, a booking that an MCP server asks about, a picture really drawn. A scripted agent of the sandbox."
        ),
        example_prompts=["Show me a form", "Show me a surface", "Make a plan", "Remember that tea is green", "Draw a lake"],
        tools=[
            Tool(name="colleague", display_name="Colleague", description="Ask another agent", type="agent",
                 agent={"ref": "sandbox/assistant"}),
            Tool(name="fetch_page", display_name="Fetch a page", description="Fetch a page of example.com", type="http",
                 http={"url": "https://example.com", "method": "GET",
                       "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}),
            *_BOOKING,
            Tool(name="draw", display_name="Draw", description="Draw a picture", type="app", app={"ref": "sandbox/draw"}),
        ],
        internal_tools={"plan": True, "memory": True, "widget": True},
    ),
    script=_serve,
)  # fmt: skip
