"""What a resource tells: the text of the tool of its kind, and the same as JSON."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    BlobResourceContents,
    ReadResourceResult,
    TextContent,
    TextResourceContents,
)

from inferencesh_mcp.errors import CallError, InferenceError
from inferencesh_mcp.resources.templates import FRESH, LOGS
from inferencesh_mcp.tools.results import error_data, error_text
from inferencesh_mcp.tools.truncate import as_json, fit, tokens

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp_types import CallToolResult

    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.resources.templates import Template

MOST = 19_500  # tokens of the text and the JSON together: a host puts both before its model (promise 6)
LEAST = 400  # tokens that are left for the JSON, however long the text


@contextmanager
def protocol_errors(uri: str) -> Generator[None]:
    """Turn our errors into errors of the protocol, around a request to the platform about a resource.

    `-32602` where another address would help (there is no such thing, or it is gone), else `-32603`; `data` says which
    address it was and has the same error that a tool's answer would.
    """
    try:
        yield
    except InferenceError as exc:
        code = INVALID_PARAMS if isinstance(exc, CallError) else INTERNAL_ERROR
        raise MCPError(code=code, message=error_text(exc), data={"uri": uri, "error": error_data(exc)}) from exc


async def read(ctx: Ctx, uri: str, template: Template, values: dict[str, str]) -> ReadResourceResult:
    """Read one of ours with the caller's key (I-10).

    Raises:
        MCPError: what went wrong, in our words.
    """
    with protocol_errors(uri):
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
            TextResourceContents(uri=uri, mime_type="application/json", text=as_json(fit(told, room).value))
        )
    return contents
