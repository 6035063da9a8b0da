"""What only the host knows: the folders that its person opened to this server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import anyio
from mcp import MCPError
from mcp_types import ListRootsRequest, ListRootsResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from inferencesh_mcp.context import caller

if TYPE_CHECKING:
    from inferencesh_mcp.context import Ctx
    from inferencesh_mcp.flows import Caller

PATIENCE = 5.0  # seconds for the host to say which folders; without an answer only the settings count


async def caller_with_roots(ctx: Ctx, given: Any = "/") -> Caller:
    """The caller, who may also read the host's roots where the older protocol offers them and `given` names a path."""
    who = caller(ctx)
    capabilities = ctx.client_capabilities
    can_tell = ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS and capabilities and capabilities.roots
    if who.folders is None or not can_tell or not _names_a_path(given):
        return who
    return replace(who, folders=who.folders.with_roots(await _roots(ctx)))


def _names_a_path(value: Any) -> bool:
    """Whether any text in a value could be a path: what is asked of the host costs time."""
    from inferencesh_mcp.flows.file_sources import may_be_path

    if isinstance(value, dict):
        return any(_names_a_path(part) for part in cast("dict[str, Any]", value).values())
    if isinstance(value, list):
        return any(_names_a_path(part) for part in cast("list[Any]", value))
    return isinstance(value, str) and may_be_path(value)


async def _roots(ctx: Ctx) -> list[Path]:
    with anyio.move_on_after(PATIENCE):
        try:
            told = await ctx.session.send_request(ListRootsRequest(), ListRootsResult)
        except (MCPError, ValidationError):
            return []
        return [Path(unquote(urlsplit(str(root.uri)).path)) for root in told.roots]
    return []
