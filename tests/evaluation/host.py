"""A host that passes on one form of each answer, counts its calls, and lets its person decide."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
from mcp import Client
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

Form = Literal["text", "structured"]
"""What of an answer the model sees: some hosts pass on its text alone, others the structured content alone."""

_ID = r"[0-9a-z]{26}"
_IN_TEXT = {
    "task_id": rf'(?:task_id="|task |^|\n|\d\. completed )({_ID})',
    "chat_id": rf'(?:chat_id="|Chat |^)({_ID})',
    "session_id": r'(?:session="|session_id="|[Ss]ession )([^\s",)]+)',
    "uri": r"(https?://[^\s\"',)]+)",
    "id": rf"\(({_ID})\)",
    "file_id": rf"file_id ({_ID})",
}
"""How a text names what a next call needs."""


@dataclass(frozen=True)
class Answer:
    """What a model sees of one answer."""

    content: str
    is_error: bool

    def says(self, *parts: str) -> bool:
        """Whether all parts are in it, in any case."""
        return all(part.lower() in self.content.lower() for part in parts)

    def matches(self, pattern: str) -> bool:
        return re.search(pattern, self.content) is not None

    def value(self, name: str, place: int = 0) -> str:
        """What a next call needs, as the answer names it: an id or an address."""
        return self.values(name)[place]

    def values(self, name: str) -> list[str]:
        """All of them, in order, each once."""
        pattern = rf'"(?:{name}|{_ALIASES.get(name, name)})": "([^"]+)"' if self.is_json else _IN_TEXT[name]
        return list(dict.fromkeys(re.findall(pattern, self.content)))

    @property
    def is_json(self) -> bool:
        return self.content.startswith("{")


_ALIASES = {"uri": "url", "id": "invocation_id"}


@dataclass(frozen=True)
class Exchange:
    """One call and its answer."""

    tool: str
    arguments: dict[str, Any]
    answer: Answer


@dataclass
class Host:
    """One conversation with the server. `decide` is the person: what they answer when they are asked."""

    client: Client
    form: Form
    folder: Path
    person: Person
    ledger: Any
    """What the sandbox saw: the truth about runs, cancellations and requests."""
    exchanges: list[Exchange] = field(default_factory=list)

    async def call(self, tool: str, /, **arguments: Any) -> Answer:
        result = await self.client.call_tool(tool, arguments)
        answer = Answer(_seen(result, self.form), bool(result.is_error))
        self.exchanges.append(Exchange(tool, arguments, answer))
        return answer

    @property
    def calls(self) -> list[str]:
        return [exchange.tool for exchange in self.exchanges]

    @property
    def failures(self) -> int:
        return sum(exchange.answer.is_error for exchange in self.exchanges)


@dataclass
class Person:
    """Answers what the host asks: accepts, declines or cancels, and notes the questions."""

    action: Literal["accept", "decline", "cancel"] = "accept"
    content: dict[str, Any] | None = None
    questions: list[str] = field(default_factory=list)

    async def __call__(self, _context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        await anyio.sleep(0.4)  # a person needs a moment; what answers faster is a host that asked nobody
        schema = getattr(params, "requested_schema", None) or {}
        content = self.content if self.content is not None else _first_choices(schema)
        return ElicitResult(action=self.action, content=content if self.action == "accept" else None)


def _first_choices(schema: dict[str, Any]) -> dict[str, Any]:
    """Fill in a form as a person does who agrees: each field's default, or its first choice."""
    filled: dict[str, Any] = {}
    for name, rule in schema.get("properties", {}).items():
        choices = rule.get("enum") or [choice.get("const") for choice in rule.get("oneOf", [])]
        filled[name] = rule["default"] if "default" in rule else choices[0] if choices else ""
        if rule.get("type") == "boolean":
            filled[name] = True
    return filled


def _seen(result: CallToolResult, form: Form) -> str:
    if form == "structured":
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(block.text for block in result.content if block.type == "text")
