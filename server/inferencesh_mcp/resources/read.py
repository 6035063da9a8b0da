"""The contents of a resource: the text and the JSON of the tool of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp_types import (
    BlobResourceContents,
    ReadResourceResult,
    TextContent,
    TextResourceContents,
)

from inferencesh_mcp.resources.templates import LOGS, STABLE_TTL_MS
from inferencesh_mcp.tools.truncate import as_json, fit, tokens

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.resources.templates import Template

MAX_TOKENS = 19_500  # tokens of text and JSON together: a host shows both to its model (promise 6)
MIN_JSON_TOKENS = 400  # tokens for the JSON, however long the text is


async def read(ctx: Ctx, uri: str, template: Template, values: dict[str, str]) -> ReadResourceResult:
    """Read one of our resources with the caller's key (I-10)."""
    result = await template.read(ctx, values)
    structured_content: dict[str, Any] = result.structured_content or {}
    # Read with the caller's key, so no shared cache may keep it, even if the app is public (T-3).
    return ReadResourceResult(
        contents=_contents(uri, result, structured_content if template is not LOGS else {}),
        ttl_ms=STABLE_TTL_MS if template.is_final(structured_content) else 0,
        cache_scope="private",
    )


def _contents(
    uri: str, result: CallToolResult, structured_content: dict[str, Any]
) -> list[TextResourceContents | BlobResourceContents]:
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    contents: list[TextResourceContents | BlobResourceContents] = [
        TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    ]
    if structured_content:  # logs have only text
        tokens_left = max(MIN_JSON_TOKENS, MAX_TOKENS - tokens(text))
        contents.append(
            TextResourceContents(
                uri=uri, mime_type="application/json", text=as_json(fit(structured_content, tokens_left))
            )
        )
    return contents
