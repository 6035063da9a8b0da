"""The official Python SDK's agents, unmodified, through the sandbox: every flow with its sync and its async client."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from inferencesh.agent import pending_approvals
from inferencesh.client import UploadFileOptions
from inferencesh.tools import app_tool, internal_tools, string, tool
from python_builders import compare
from python_sdk import PNG, Sdk

from inferencesh_sandbox.agents.assistant import ASSISTANT
from inferencesh_sandbox.ids import short

WEATHER = tool("get_weather").describe("Get the current weather").param("city", string("City")).build()
SCHEMA = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "sentiment": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "confidence": {"type": "number"},
    },
    "required": ["summary", "sentiment", "confidence"],
}


@dataclass
class Heard:
    """What the callbacks of one turn were told."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    deltas: list[Any] = field(default_factory=list)
    chats: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What the agent said last."""
        last = [message for message in self.messages if message["role"] == "assistant"][-1]
        return next(part["text"] for part in last["content"] if part["type"] == "text")


class Talk(Sdk):
    """One of the two clients, with an agent of its own."""

    def __init__(self, sdk: Sdk, config: Any = "sandbox/assistant", context: dict[str, str] | None = None) -> None:
        super().__init__(sdk.kind, sdk.client.agent(config, context), sdk.sandbox)
        self.inference = sdk

    def told(self, asyncly: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
        """A callback as this client takes it: a coroutine, or a plain function on the client's thread."""
        if self.kind == "async":
            return asyncly
        return lambda *args: anyio.from_thread.run(asyncly, *args)

    async def say(self, text: str, result: Any = None, **more: Any) -> Heard:
        """Send a message, listen until the turn is over, and answer every client tool with `result`."""
        heard = Heard()

        async def message(one: Any) -> None:
            heard.messages.append(one)

        async def delta(one: Any) -> None:
            heard.deltas.append(one)

        async def call(one: Any) -> None:
            heard.calls.append(one)
            await self.do("submit_tool_result", one.id, result)

        callbacks = {"on_message": self.told(message), "on_delta": self.told(delta)}
        if result is not None:
            callbacks["on_tool_call"] = self.told(call)
        await self.do("send_message", text, **callbacks, **more)
        return heard

    async def chat(self) -> dict[str, Any]:
        return await self.do("get_chat")

    async def until_idle(self) -> dict[str, Any]:
        while (chat := await self.chat())["status"] != "idle":
            await anyio.sleep(0.02)
        return chat

    async def refused(self, awaited: Awaitable[Any], words: str) -> None:
        """Insist on a refusal. Only the sync client tells why: the async one reads no body that is a problem+json."""
        error = await self.failure(awaited)
        assert isinstance(error, RuntimeError)
        assert (words if self.kind == "sync" else "Request failed") in str(error)

    @property
    def person(self) -> Talk:
        """The same chat, with the own sign-in of the person whose key this client has."""
        key = self.inference.client._api_key.replace("inf_", "inf_person_", 1)
        client = type(self.inference.client)(api_key=key, base_url=self.inference.client._base_url)
        signed_in = Talk(Sdk(self.kind, client, self.sandbox), self.client._options)
        signed_in.client._chat_id = self.client._chat_id
        return signed_in


async def template_chat(sdk: Sdk) -> None:
    talk = Talk(sdk, f"sandbox/assistant@{short(ASSISTANT.version_ids[1])}")
    heard = await talk.say("my name is Ada")
    assert heard.text.startswith("Hello Ada.")
    assert heard.messages[-1]["status"] == "ready"
    assert talk.client.chat_id


async def several_turns(sdk: Sdk) -> None:
    talk = Talk(sdk)
    await talk.say("my name is Ada")
    chat = talk.client.chat_id
    heard = await talk.say("what is my name?")
    assert heard.text == "Your name is Ada."
    assert talk.client.chat_id == chat
    assert len((await talk.chat())["chat_messages"]) == 4


async def agents_create(sdk: Sdk) -> None:
    talk = Talk(sdk)
    talk.client = sdk.client.agents.create({"core_app": {"ref": "sandbox/llm"}, "system_prompt": "Be brief."})
    assert "You said: 'hello'" in (await talk.say("hello")).text


async def no_waiting_without_callbacks(sdk: Sdk) -> None:
    talk = Talk(sdk)
    assistant = await talk.do("send_message", "hello")
    assert (assistant["status"], assistant["chat_id"]) == ("pending", talk.client.chat_id)
    chat = await talk.until_idle()
    assert chat["chat_messages"][-1]["id"] == assistant["id"]


async def deltas_grow(sdk: Sdk) -> None:
    heard = await Talk(sdk).say("count to 5")
    grown = [delta.output["response"] for delta in heard.deltas]
    assert grown == ["1", "1 2", "1 2 3", "1 2 3 4", "1 2 3 4 5"][-len(grown) :]
    assert grown[-1] == heard.text
    assert [delta.seq for delta in heard.deltas] == list(range(1, 6))


async def client_tool_once(sdk: Sdk) -> None:
    talk = Talk(sdk, {"core_app": {"ref": "sandbox/llm"}, "tools": [WEATHER]})
    heard = await talk.say("What is the weather in Paris?", "sunny")
    assert [(call.name, call.args) for call in heard.calls] == [("get_weather", {"city": "Paris"})]
    assert heard.text == "get_weather says: sunny"
    results = [result for result in sdk.sandbox.ledger.results if result.chat_id == talk.client.chat_id]
    assert len(results) == 1


async def two_client_tools(sdk: Sdk) -> None:
    clock = tool("get_time").describe("Get the current time").build()
    talk = Talk(sdk, {"core_app": {"ref": "sandbox/llm"}, "tools": [WEATHER, clock]})
    heard = await talk.say("Tell me the weather in Oslo, and the time", "fine")
    assert [call.name for call in heard.calls] == ["get_weather", "get_time"]
    assert heard.text == "get_weather says: fine get_time says: fine"


async def tool_result_with_files(sdk: Sdk) -> None:
    talk = Talk(sdk, {"core_app": {"ref": "sandbox/llm"}, "tools": [WEATHER]})
    await talk.do("send_message", "weather in Paris")
    while not (
        tools := [
            invocation for message in (await talk.chat())["chat_messages"] for invocation in message["tool_invocations"]
        ]
    ):
        await anyio.sleep(0.01)
    file = await sdk.do("files.upload", PNG)
    ref = {"uri": file["uri"], "filename": "a.png", "content_type": "image/png"}
    await talk.do("submit_tool_result", tools[0]["id"], "see the picture", [ref])
    chat = await talk.until_idle()
    assert chat["chat_messages"][1]["tool_invocations"][0]["data"] == {"attachments": [ref]}
    await talk.refused(talk.do("submit_tool_result", tools[0]["id"], "late"), "takes no result: it is completed")


async def files_uploaded(sdk: Sdk) -> None:
    """The sync client uploads what it is given; the async one takes what was uploaded."""
    talk = Talk(sdk)
    if sdk.kind == "sync":
        heard = await talk.say("look", files=[PNG, "data:image/png;base64," + "iVBORw0KGgo="])
        assert f"{len(PNG)} bytes, a png of 2x1" in heard.text
    else:
        file = await sdk.do("files.upload", PNG, UploadFileOptions(filename="dot.png", content_type="image/png"))
        ref = {"uri": file["uri"], "filename": "dot.png", "content_type": "image/png"}
        first = await talk.say("look", attachments=[ref])
        again = await talk.say("look again", attachments=[ref])
        assert "dot.png: image/png" in first.text
        assert first.text == again.text


async def structured_output(sdk: Sdk) -> None:
    config = {
        "core_app": {"ref": "sandbox/llm"},
        "output_schema": SCHEMA,
        "internal_tools": internal_tools().finish().build(),
    }
    talk = Talk(sdk, config)
    if sdk.kind == "async":
        output = await talk.client.run("Analyze: a negative review", on_message=lambda _: None)
    else:
        output = await talk.do("run", "Analyze: a negative review", on_message=lambda _: None)
    assert output["sentiment"] == "negative"
    assert set(output) == {"summary", "sentiment", "confidence"}


async def stop(sdk: Sdk) -> None:
    talk = Talk(sdk)
    await talk.do("send_message", "count to 1000 slowly")
    await talk.do("stop_chat")
    chat = await talk.chat()
    assert (chat["status"], chat["active_run"]["state"]) == ("idle", "canceled")
    assert chat["chat_messages"][-1]["status"] == "cancelled"


async def stop_ends_the_stream(sdk: Sdk) -> None:
    talk = Talk(sdk)
    await talk.do("send_message", "forever", on_message=None)
    async with anyio.create_task_group() as group:
        group.start_soon(talk.do, "stream_all")
        await anyio.sleep(0.2)
        await talk.do("stop_chat")


async def reset(sdk: Sdk) -> None:
    talk = Talk(sdk)
    await talk.say("my name is Ada")
    before = talk.client.chat_id
    reset = talk.client.reset()
    assert not inspect.isawaitable(reset)
    assert talk.client.chat_id is None
    heard = await talk.say("what is my name?")
    assert "not told" in heard.text
    assert talk.client.chat_id != before
    assert (await talk.do("get_chat", before))["id"] == before


async def streams_by_hand(sdk: Sdk) -> None:
    talk = Talk(sdk)
    await talk.do("send_message", "count to 5 slowly")
    heard = Heard()

    async def chat(one: Any) -> None:
        heard.chats.append(one)

    async def message(one: Any) -> None:
        heard.messages.append(one)

    await talk.do("stream_all", on_chat=talk.told(chat), on_message=talk.told(message))
    assert heard.chats[0]["status"] == "busy"
    assert heard.chats[-1]["active_run"]["state"] == "completed"
    assert heard.text == "1 2 3 4 5"
    for method in ("stream_messages", "stream_chat"):
        first = await _first(talk, method)
        assert first.get("chat_id", first["id"]) == talk.client.chat_id


async def _first(talk: Talk, method: str) -> dict[str, Any]:
    if talk.kind == "async":
        return await anext(getattr(talk.client, method)())
    return await anyio.to_thread.run_sync(lambda: next(getattr(talk.client, method)()))


async def approval_needs_the_person(sdk: Sdk) -> None:
    talk = Talk(sdk, "sandbox/approver")
    await talk.say("a lake")
    (waiting,) = pending_approvals(await talk.chat())
    assert (waiting.tool_name, waiting.chat_id) == ("draw", talk.client.chat_id)
    assert waiting.arguments["prompt"] == "a lake"
    for method in ("approve_tool", "reject_tool"):
        await talk.refused(talk.do(method, waiting.tool_invocation_id), "own sign-in")
    await talk.person.do("approve_tool", waiting.tool_invocation_id)
    chat = await talk.until_idle()
    assert chat["chat_messages"][1]["tool_invocations"][0]["status"] == "completed"
    await talk.refused(talk.person.do("approve_tool", waiting.tool_invocation_id), "takes no decision: it is completed")


async def rejection_with_a_reason(sdk: Sdk) -> None:
    talk = Talk(
        sdk,
        {"core_app": {"ref": "sandbox/llm"}, "tools": [app_tool("draw", "sandbox/draw").require_approval().build()]},
    )
    await talk.say("draw a lake")
    (waiting,) = pending_approvals(await talk.chat())
    await talk.person.do("reject_tool", waiting.tool_invocation_id, "too dear")
    chat = await talk.until_idle()
    assert chat["chat_messages"][-1]["content"][0]["text"] == "draw was not used: rejected: too dear."


async def widget(sdk: Sdk) -> None:
    talk = Talk(sdk, "sandbox/desk")
    heard = await talk.say("show a surface")
    (shown,) = [invocation for invocation in heard.messages[-1]["tool_invocations"] if invocation["widget"]]
    assert shown["widget"]["surfaceId"] == "order"
    await talk.do("submit_tool_result", shown["id"], {"action": {"type": "submit"}, "form_data": {"name": "Ada"}})
    chat = await talk.until_idle()
    assert chat["chat_messages"][-1]["content"][0]["text"] == "You chose submit with name = Ada."


async def context_counts_at_the_start(sdk: Sdk) -> None:
    talk = Talk(sdk, "sandbox/assistant", {"team": "blue"})
    assert "team = blue" in (await talk.say("what is the context?")).text


async def failing_agent(sdk: Sdk) -> None:
    heard = await Talk(sdk, "sandbox/failing").say("try")
    assert heard.messages[-1]["status"] == "failed"


async def refusals(sdk: Sdk) -> None:
    for agent, words in (("sandbox/locked", "secret SANDBOX_AGENT_KEY"), ("sandbox/nobody", "not found")):
        talk = Talk(sdk, agent)
        await talk.refused(talk.say("x"), words)


async def tool_builder(_sdk: Sdk) -> None:
    compare()


async def a_widget_is_sent_as_text(sdk: Sdk) -> None:
    sent = [json.loads(result.result) for result in sdk.sandbox.ledger.results if result.result.startswith("{")]
    assert {"action": {"type": "submit"}, "form_data": {"name": "Ada"}} in sent


FLOWS: tuple[Callable[[Sdk], Awaitable[None]], ...] = (
    template_chat, several_turns, agents_create, no_waiting_without_callbacks, deltas_grow, client_tool_once,
    two_client_tools, tool_result_with_files, files_uploaded, structured_output, stop, stop_ends_the_stream, reset,
    streams_by_hand, approval_needs_the_person, rejection_with_a_reason, widget, a_widget_is_sent_as_text,
    context_counts_at_the_start, failing_agent, refusals, tool_builder,
)  # fmt: skip
STREAMED: tuple[Callable[[Sdk], Awaitable[None]], ...] = (
    template_chat, agents_create, deltas_grow, client_tool_once, two_client_tools, files_uploaded, structured_output,
    stop_ends_the_stream, reset, streams_by_hand, context_counts_at_the_start, refusals,
)  # fmt: skip
"""Those that read messages from the stream alone, as the newest platform tells them."""
