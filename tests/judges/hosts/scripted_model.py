"""A model on this machine that does what a script says, in the four ways that hosts speak to models.

It serves Anthropic's Messages, OpenAI's Responses, OpenAI's Chat Completions and Gemini's generateContent. For each turn
of a conversation it calls the next tool of the script, and after the last it says `DONE`. Every request is kept: it holds
what a host shows to its model of the tools and of their answers.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

Json = dict[str, Any]
DONE = "DONE"
IDLE = '{"title": "A title", "next_speaker": "user", "reasoning": "none"}'
"""For requests without tools: hosts ask for titles and the like besides."""


@dataclass(frozen=True)
class Call:
    """One tool that the model calls."""

    tool: str
    """Its name on the server: hosts put a prefix before it."""
    arguments: Json


@dataclass(frozen=True)
class Tool:
    """One tool as a host shows it."""

    name: str
    namespace: str = ""
    """Codex groups the tools of a server under a name."""

    def is_named(self, name: str) -> bool:
        return re.search(rf"(^|[^a-zA-Z]){re.escape(name)}$", self.name) is not None


@dataclass
class Request:
    """What a host sent to its model."""

    path: str
    body: Json
    tools: Sequence[Tool]
    results: Sequence[str]
    """What the host shows of each answer that a tool gave, as JSON."""


class Dialect(Protocol):
    """One way in which hosts speak to models."""

    def tools(self, body: Json) -> list[Tool]: ...
    def results(self, body: Json) -> list[Any]: ...
    def reply(self, step: Call | str, tool: Tool | None) -> Json:
        """What a call, or a text, is as one message."""
        ...

    def events(self, reply: Json) -> list[Json]:
        """The same in pieces, for a host that asked for a stream."""
        ...


class Messages:
    """Anthropic Messages."""

    def tools(self, body: Json) -> list[Tool]:
        return [Tool(tool["name"]) for tool in body.get("tools", ())]

    def results(self, body: Json) -> list[Any]:
        contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
        return [block for content in contents for block in content if block.get("type") == "tool_result"]

    def reply(self, step: Call | str, tool: Tool | None) -> Json:
        if isinstance(step, Call) and tool:
            block = {"type": "tool_use", "id": _id("toolu"), "name": tool.name, "input": step.arguments}
        else:
            block = {"type": "text", "text": step}
        return {
            "id": _id("msg"),
            "type": "message",
            "role": "assistant",
            "model": "scripted",
            "content": [block],
            "stop_reason": "tool_use" if tool else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }

    def events(self, reply: Json) -> list[Json]:
        [block] = reply["content"]
        if block["type"] == "text":
            empty, delta = block | {"text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = block | {"input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        end = {"stop_reason": reply["stop_reason"], "stop_sequence": None}
        return [
            {"type": "message_start", "message": reply | {"content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]


class Responses:
    """OpenAI Responses, with the namespaces that Codex groups tools by."""

    def tools(self, body: Json) -> list[Tool]:
        listed = [*body.get("tools", ())]
        for item in body["input"]:
            if item.get("type") == "additional_tools":
                listed += item["tools"]
        tools = [Tool(tool["name"]) for tool in listed if tool["type"] == "function"]
        groups = [group for group in listed if group["type"] == "namespace"]
        return tools + [Tool(tool["name"], group["name"]) for group in groups for tool in group["tools"]]

    def results(self, body: Json) -> list[Any]:
        return [item for item in body["input"] if item.get("type") == "function_call_output"]

    def reply(self, step: Call | str, tool: Tool | None) -> Json:
        if isinstance(step, Call) and tool:
            item = {
                "type": "function_call",
                "id": _id("fc"),
                "call_id": _id("call"),
                "name": tool.name,
                "arguments": json.dumps(step.arguments),
                "status": "completed",
            } | ({"namespace": tool.namespace} if tool.namespace else {})
        else:
            text = {"type": "output_text", "text": step, "annotations": []}
            item = {"type": "message", "id": _id("msg"), "role": "assistant", "status": "completed", "content": [text]}
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        return {"id": _id("resp"), "object": "response", "status": "completed", "output": [item], "usage": usage}

    def events(self, reply: Json) -> list[Json]:
        [item] = reply["output"]
        return [
            {"type": "response.created", "response": reply | {"status": "in_progress", "output": []}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": reply},
        ]


class Chat:
    """OpenAI Chat Completions."""

    def tools(self, body: Json) -> list[Tool]:
        return [Tool(tool["function"]["name"]) for tool in body.get("tools", ())]

    def results(self, body: Json) -> list[Any]:
        return [message for message in body["messages"] if message["role"] == "tool"]

    def reply(self, step: Call | str, tool: Tool | None) -> Json:
        message: Json = {"role": "assistant", "content": step}
        if isinstance(step, Call) and tool:
            function = {"name": tool.name, "arguments": json.dumps(step.arguments)}
            call = {"index": 0, "id": _id("call"), "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {"id": _id("chat"), "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice], "usage": usage}  # fmt: skip

    def events(self, reply: Json) -> list[Json]:
        [choice] = reply["choices"]
        chunk = reply | {"object": "chat.completion.chunk", "usage": None}
        first = {"index": 0, "delta": choice["message"], "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        return [chunk | {"choices": [first]}, chunk | {"choices": [last], "usage": reply["usage"]}]


class Gemini:
    """Gemini's generateContent."""

    def tools(self, body: Json) -> list[Tool]:
        groups = [tool.get("functionDeclarations", ()) for tool in body.get("tools", ())]
        return [Tool(function["name"]) for group in groups for function in group]

    def results(self, body: Json) -> list[Any]:
        parts = [part for content in body["contents"] for part in content.get("parts", ())]
        return [part for part in parts if "functionResponse" in part]

    def reply(self, step: Call | str, tool: Tool | None) -> Json:
        if isinstance(step, Call) and tool:
            part: Json = {"functionCall": {"name": tool.name, "args": step.arguments}}
        else:
            part = {"text": step}
        content = {"role": "model", "parts": [part]}
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}

    def events(self, reply: Json) -> list[Json]:
        return [reply]


def _dialect(path: str) -> Dialect | None:
    if path.endswith("/messages"):
        return Messages()
    if path.endswith("/responses"):
        return Responses()
    if path.endswith("/chat/completions"):
        return Chat()
    if path.endswith(("enerateContent", ":streamGenerateContent")):
        return Gemini()
    return None


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:20]}"


@dataclass
class ScriptedModel:
    """The model of one host."""

    url: str
    script: Sequence[Call]
    requests: list[Request] = field(default_factory=list)

    @property
    def tools(self) -> list[Tool]:
        """All that the host offered to its model, the last time that it offered any."""
        offers = [request.tools for request in self.requests if request.tools]
        return list(offers[-1]) if offers else []

    @property
    def results(self) -> Sequence[str]:
        """All that the host showed to its model of the tools' answers."""
        return max((request.results for request in self.requests), key=len, default=())

    def step(self, dialect: Dialect, path: str, body: Json) -> Json:
        """Keep the request, and answer it with what the script says next."""
        tools, results = dialect.tools(body), [json.dumps(result) for result in dialect.results(body)]
        self.requests.append(Request(path, body, tools, results))
        if not tools:
            return dialect.reply(IDLE, None)
        if len(results) >= len(self.script):
            return dialect.reply(DONE, None)
        call = self.script[len(results)]
        tool = next((tool for tool in tools if tool.is_named(call.tool)), None)
        return dialect.reply(call if tool else f"There is no tool {call.tool}.", tool)


@contextmanager
def scripted_model(*script: Call) -> Iterator[ScriptedModel]:
    """Serve a model on a free port of the loopback interface, for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing: what is asked is kept as a whole."""

        def do_HEAD(self) -> None:
            self._answer(b"", "text/plain")

        def do_GET(self) -> None:
            models = {"object": "list", "data": [{"id": "scripted", "object": "model"}], "models": []}
            self._answer(json.dumps(models).encode())

        def do_POST(self) -> None:
            path, body = self.path.partition("?")[0], json.loads(self._body() or b"{}")
            if not (dialect := _dialect(path)):
                self._answer(b'{"input_tokens": 1, "totalTokens": 1}')  # who counts tokens is content with that
                return
            reply = model.step(dialect, path, body)
            if not (body.get("stream") or ":stream" in path):
                self._answer(json.dumps(reply).encode())
                return
            lines = [
                (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
                for event in dialect.events(reply)
            ]
            if isinstance(dialect, Chat):
                lines.append("data: [DONE]\n\n")
            self._answer("".join(lines).encode(), "text/event-stream")

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
            return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

        def _answer(self, body: bytes, kind: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    model = ScriptedModel(f"http://127.0.0.1:{server.server_port}", script)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
