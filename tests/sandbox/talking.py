"""Talking to the sandbox's agents over plain HTTP, with the clock turned as fast as they speak."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio

from tests.sandbox.conftest import LIMIT, Caller

Json = dict[str, Any]


def idle(line: Json) -> bool:
    return line.get("event") == "chats" and line["data"]["status"] == "idle"


def waiting(line: Json) -> bool:
    """The agent waits for someone: an approval, a widget, a client tool."""
    tools = line["data"]["tool_invocations"] if line.get("event") == "chat_messages" else []
    return any(tool["status"].startswith("awaiting") for tool in tools)


@dataclass
class Talker:
    """One key that talks to agents."""

    me: Caller

    async def send(
        self, text: str, agent: str | Json = "sandbox/assistant", chat: str | None = None, **more: Any
    ) -> Json:
        who = {"agent": agent} if isinstance(agent, str) else {"agent_config": agent}
        files = more.pop("files", {})
        answer = await self.me.post("/agents/run", {"chat_id": chat, "input": {"text": text, **files}, **who, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def lines(self, chat: str, until: Callable[[Json], bool] = idle) -> list[Json]:
        """Every line of a new stream, up to the first that fits."""
        lines: list[Json] = []
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(self.me.clock.hurry)
                async with (
                    self.me.http.stream("GET", f"/chats/{chat}/stream") as answer,
                    aclosing(answer.aiter_lines()) as told,
                ):
                    async for line in told:
                        lines.append(json.loads(line))
                        if until(lines[-1]):
                            break
                group.cancel_scope.cancel()
        return lines

    async def chat(self, chat: str) -> Json:
        """The chat with its messages, which have pages of their own; those that only tell of an event are kept apart."""
        told = (await self.me.get(f"/chats/{chat}")).json()
        newest_first: list[Json] = []
        cursor, more = "", True
        while more:
            page = (await self.me.get(f"/chats/{chat}/messages?limit=100&cursor={cursor}")).json()
            newest_first += page["items"]
            cursor, more = page["next_cursor"], page["has_next"]
        messages = newest_first[::-1]
        return {
            **told,
            "chat_messages": [one for one in messages if one["role"] != "event"],
            "events": [one["content"][0] for one in messages if one["role"] == "event"],
        }

    async def turn(
        self, text: str, agent: str | Json = "sandbox/assistant", chat: str | None = None, **more: Any
    ) -> Json:
        """Send a message, wait until the agent is done, and return the whole chat."""
        name = (await self.send(text, agent, chat, **more))["assistant_message"]["chat_id"]
        await self.lines(name)
        return await self.chat(name)

    async def blocked(self, text: str, agent: str | Json, chat: str | None = None, **more: Any) -> tuple[str, Json]:
        """Send a message, and return the chat's id and the tool at which the agent waits."""
        name = (await self.send(text, agent, chat, **more))["assistant_message"]["chat_id"]
        last = (await self.lines(name, waiting))[-1]
        return name, next(tool for tool in last["data"]["tool_invocations"] if tool["status"].startswith("awaiting"))


def said(chat: Json) -> list[str]:
    """What the agent said in a chat, message by message."""
    return [
        part["text"]
        for message in chat["chat_messages"]
        if message["role"] == "assistant"
        for part in message["content"]
        if part["type"] == "text"
    ]


def tools(chat: Json) -> list[Json]:
    return [tool for message in chat["chat_messages"] for tool in message["tool_invocations"]]


def ad_hoc(*tools: Json, **more: Any) -> Json:
    return {"name": "mine", "core_app": {"ref": "sandbox/llm"}, "tools": list(tools), **more}


WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather",
    "type": "client",
    "client": {
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        }
    },
}
