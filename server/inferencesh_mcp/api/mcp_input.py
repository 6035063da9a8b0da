"""Input that an MCP server behind an agent asks a person for, and the answer for the API. Pure: no I/O.

The call of the tool waits in `awaiting_input` and holds the server's own requests, as the protocol spells them, by key. All
requests of one call are answered together; the server may ask again, in another round of the same call.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from inferencesh_mcp.api.json import as_object, as_text, is_object, texts, unpacked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferencesh_mcp.api.chat_models import ToolInvocation

MAX_REQUESTS = 10
"""Requests of one call; a call with more is answered on the person's page."""
MAX_FIELDS = 50
"""Fields of one form: a person fills in no more at a prompt."""
MAX_SCHEMA_LENGTH = 20_000
"""Characters of a form's schema as JSON, so that a host gets a small message."""
_SCALARS = frozenset({"string", "number", "integer", "boolean"})


@dataclass(frozen=True, kw_only=True)
class InputRequest:
    """One request of an MCP server: a form to fill in, or a page to open."""

    key: str
    """The key of the answer."""
    mode: Literal["form", "url"]
    message: str
    schema: dict[str, Any]
    """Of a form: a flat object, as in MCP's elicitation."""
    url: str
    """Of a page."""

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that an accepted form must have."""
        return tuple(texts(self.schema.get("required")))

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a form, by name."""
        return as_object(self.schema.get("properties"))


def input_requests(call: ToolInvocation) -> tuple[InputRequest, ...]:
    """The requests of a call; empty if any of them is not a form or page that can be passed on completely."""
    values = as_object(_data(call).get("input_requests"))
    if len(values) > MAX_REQUESTS:
        return ()
    requests = [request for key, value in values.items() if (request := _request(key, value))]
    return tuple(requests) if len(requests) == len(values) else ()


def input_round(call: ToolInvocation) -> str:
    """A digest of a call's present requests, with the server's own state."""
    whole = json.dumps(_data(call), sort_keys=True, default=str)
    return hashlib.sha256(whole.encode(errors="replace")).hexdigest()


def input_result(answers: Mapping[str, Mapping[str, Any]]) -> str:
    """The answers, by key, as the text that the API takes: `{key: {action, content?}}`."""
    return json.dumps(answers, ensure_ascii=False, separators=(",", ":"))


def _data(call: ToolInvocation) -> dict[str, Any]:
    """The data of an MCP tool's call while it waits: an object, or one as JSON text."""
    return as_object(unpacked(call.data)) if call.type == "mcp" else {}


def _request(key: str, value: Any) -> InputRequest | None:
    request = as_object(value)
    params = request.get("params")
    if request.get("method") != "elicitation/create" or not is_object(params):
        return None
    message = as_text(params.get("message"))
    if params.get("mode") == "url":
        url = as_text(params.get("url"))
        return InputRequest(key=key, mode="url", message=message, schema={}, url=url) if _is_page(url) else None
    schema = params.get("requestedSchema", params.get("requested_schema"))
    if params.get("mode", "form") != "form" or not is_object(schema) or not _is_flat(schema):
        return None
    return InputRequest(key=key, mode="form", message=message, schema=schema, url="")


def _is_page(url: str) -> bool:
    """Whether a person can be sent to this address: only https, so that nobody reads what they type there."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return url.isprintable() and parts.scheme == "https" and bool(parts.hostname) and not parts.username


def _is_flat(schema: dict[str, Any]) -> bool:
    """Whether a form's schema is one that every host can show: an object of plain fields."""
    fields = schema.get("properties", {})
    if schema.get("type", "object") != "object" or not is_object(fields) or len(fields) > MAX_FIELDS:
        return False
    if len(json.dumps(schema, default=str)) > MAX_SCHEMA_LENGTH:
        return False
    return all(is_object(field) and _is_plain(field) for field in fields.values())


def _is_plain(field: dict[str, Any]) -> bool:
    kind = field.get("type")
    if kind == "array":  # several choices of a list
        return is_object(field.get("items"))
    return (isinstance(kind, str) and kind in _SCALARS) or "enum" in field or "oneOf" in field
