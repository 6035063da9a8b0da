"""A fake MCP server whose tools ask the person for input, in one round or two."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from inferencesh_sandbox.wire import Problem, is_object

if TYPE_CHECKING:
    from inferencesh_sandbox.wire import Json

SERVER = "sandbox-bookings"
ACTIONS = frozenset({"accept", "decline", "cancel"})


def _form(message: str, required: list[str], **fields: Json) -> Json:
    schema = {"type": "object", "properties": fields, "required": required}
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


TABLE = _form(
    "For how many people, and when?",
    ["people"],
    people={"type": "integer", "title": "People", "minimum": 1, "maximum": 12},
    window={"type": "boolean", "title": "At the window", "default": False},
)
CONSENT = _form("May the restaurant call you?", [], name={"type": "string", "title": "Name"})
ACCOUNT: Json = {
    "method": "elicitation/create",
    "params": {
        "mode": "url",
        "message": "Connect your account with the restaurant.",
        "url": "https://bookings.example/connect",
        "elicitationId": "connect",
    },
}
SAMPLING: Json = {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 10}}
TOOLS: dict[str, tuple[dict[str, Json], ...]] = {
    "book_table": ({"table": TABLE},),
    "connect_account": ({"account": ACCOUNT},),
    "plan_evening": ({"table": TABLE, "consent": CONSENT},),
    "order_meal": ({"table": TABLE}, {"consent": CONSENT}),
    "ask_model": ({"model": SAMPLING},),
}
"""What each tool asks for, round by round, by its key."""


def input_data(requests: Json, *, state: str, number: int) -> Json:
    """What an invocation's `data` holds while it waits for these requests."""
    return {"input_required": True, "input_requests": deepcopy(requests), "request_state": state, "round": number}


def validate_responses(result: str, requests: Json) -> dict[str, Json]:
    """Insist that an answer is the JSON text of `{key: {action, content?}}`, with a word to each request."""
    try:
        parsed: Any = json.loads(result)
    except ValueError:
        parsed = None
    responses = parsed if is_object(parsed) else {}
    if set(responses) != set(requests):
        raise Problem(400, "validation_error", f"result: must be the JSON text of an object of {sorted(requests)}")
    for key, response in responses.items():
        action = response.get("action") if is_object(response) else None
        if action not in ACTIONS:
            raise Problem(400, "validation_error", f"result: {key}.action must be accept, decline or cancel")
    return responses
