"""How a failure reaches a host that asked for no tool: as an error of the protocol, in our words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mcp import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from inferencesh_mcp.errors import CallError, InferenceError
from inferencesh_mcp.tools.results import error_of, failure_text

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def told_to_host(uri: str) -> Generator[None]:
    """Around what asks the platform about a resource: our errors become the protocol's.

    `-32602` where another address would help (there is no such thing, or it is gone), else `-32603`; `data` says which
    address it was and has the same error that a tool's answer would.
    """
    try:
        yield
    except InferenceError as exc:
        code = INVALID_PARAMS if isinstance(exc, CallError) else INTERNAL_ERROR
        raise MCPError(code=code, message=failure_text(exc), data={"uri": uri, "error": error_of(exc)}) from exc
