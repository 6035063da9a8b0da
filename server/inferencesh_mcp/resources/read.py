"""What a resource tells: the text of the tool of its kind, and the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp_types import BlobResourceContents, ReadResourceResult, TextContent, TextResourceContents

from inferencesh_mcp.resources.errors import told_to_host
from inferencesh_mcp.resources.templates import FRESH, LOGS
from inferencesh_mcp.tools.truncate import as_json, fitted, tokens

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.resources.templates import Template

MOST = 19_500  # tokens of the text and the JSON together: a host puts both before its model (promise 6)
LEAST = 400  # tokens that are left for the JSON, however long the text


async def read(ctx: Ctx, uri: str, template: Template, values: dict[str, str]) -> ReadResourceResult:
    """Read one of ours with the caller's key (I-10).

    Raises:
        MCPError: what went wrong, in our words.
    """
    with told_to_host(uri):
        result = await template.tell(ctx, **values)
    told: dict[str, Any] = result.structured_content or {}
    # Read with somebody's key, so nobody else's host may keep it, whatever the app's visibility (threat T-3).
    return ReadResourceResult(
        contents=_contents(uri, result, told if template is not LOGS else {}),
        ttl_ms=FRESH if template.lasts(told) else 0,
        cache_scope="private",
    )


def _contents(
    uri: str, result: CallToolResult, told: dict[str, Any]
) -> list[TextResourceContents | BlobResourceContents]:
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    contents: list[TextResourceContents | BlobResourceContents] = [
        TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    ]
    if told:  # of logs the text is all there is
        room = max(LEAST, MOST - tokens(text))
        contents.append(
            TextResourceContents(uri=uri, mime_type="application/json", text=as_json(fitted(told, room).value))
        )
    return contents
