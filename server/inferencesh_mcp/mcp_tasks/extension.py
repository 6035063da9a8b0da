"""MCP tasks: a client that declares them follows what lasts by itself, by polling, instead of waiting for the answer.

Optional always: nothing needs it, and for any other client nothing changes. Nothing is kept here either: the id of an
MCP task is all there is to know of it (`sealing`), and how it stands is read upstream each time (`kinds`).
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import Context, require_client_extension
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from inferencesh_mcp.context import as_mcp_task, principal_of
from inferencesh_mcp.errors import InferenceError, InvalidInput, NotFound
from inferencesh_mcp.mcp_tasks.task_id import LASTS, Expired, NotOurs, Sealer
from inferencesh_mcp.mcp_tasks.types import Held, Standing, headline
from inferencesh_mcp.tools.results import DeferredResult, error_data

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp_types import CallToolRequestParams

    from inferencesh_mcp.context import Ctx, Shared
    from inferencesh_mcp.mcp_tasks.types import Lasting

    Request = ServerRequestContext[Shared, Any]

NO_SUCH = "There is no such MCP task."
SOONEST = 250  # milliseconds to the first look; it grows by as much with each second

DONE: dict[str, Any] = {"resultType": "complete"}


class Named(RequestParams):
    """The parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str = Field(alias="taskId")


class Answered(Named):
    """The parameters of `tasks/update`."""

    input_responses: dict[str, Any] = Field(alias="inputResponses")


class Tasks(Extension):
    """`io.modelcontextprotocol/tasks` of 2026-07-28."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, sealer: Sealer, kinds: Mapping[str, Lasting], *, poll_interval_ms: int) -> None:
        self.kinds = dict(kinds)
        """How each kind of thing that goes on is read, answered and cancelled."""
        self._sealer = sealer
        self._poll_interval_ms = poll_interval_ms

    def methods(self) -> Sequence[MethodBinding]:
        newer = frozenset(MODERN_PROTOCOL_VERSIONS)
        return (
            MethodBinding("tasks/get", Named, self._get, newer),
            MethodBinding("tasks/update", Answered, self._update, newer),
            MethodBinding("tasks/cancel", Named, self._cancel, newer),
        )

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,  # noqa: ARG002 - the tool decides, by what it answers
        ctx: Request,
        call_next: CallNext,
    ) -> HandlerResult:
        """Have the tool hand over what lasts, and make an MCP task of it; an answer that is whole stays an answer."""
        if not self._declared(ctx):
            return await call_next(ctx)
        result = await call_next(as_mcp_task(ctx))
        if not isinstance(result, DeferredResult):
            return result
        held = Held(kind=result.kind, of=result.upstream_ids, began=datetime.now(UTC).timestamp())
        task_id = self._sealer.seal(held, principal_of(ctx))
        return self._told(task_id, held, Standing(status="working", message=headline(result))) | {"resultType": "task"}

    def _declared(self, ctx: Request) -> bool:
        """Older clients may declare it too, and could not read what comes back."""
        can = ctx.session.client_capabilities
        return (
            ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
            and can is not None
            and self.identifier in (can.extensions or {})
        )

    async def _get(self, ctx: Request, params: Named) -> dict[str, Any]:
        held, kind = self._known(ctx, params.task_id)
        with _told_to_host():
            standing = await kind.look(_context(ctx), held)
        return self._told(params.task_id, held, standing) | DONE

    async def _update(self, ctx: Request, params: Answered) -> dict[str, Any]:
        held, kind = self._known(ctx, params.task_id)
        with _told_to_host():
            await kind.answer(_context(ctx), held, params.input_responses)
        return DONE

    async def _cancel(self, ctx: Request, params: Named) -> dict[str, Any]:
        held, kind = self._known(ctx, params.task_id)
        with _told_to_host():
            await kind.cancel(_context(ctx), held)
        return DONE

    def _known(self, ctx: Request, task_id: str) -> tuple[Held, Lasting]:
        """What an id stands for. One that is not the caller's costs nothing upstream."""
        require_client_extension(ctx, self.identifier)
        headers = getattr(ctx.request, "headers", None)
        if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != task_id:
            raise MCPError(code=HEADER_MISMATCH, message="The header Mcp-Name is not the taskId of the request.")
        try:
            held = self._sealer.opened(task_id, principal_of(ctx))
        except Expired as exc:
            raise MCPError(code=INVALID_PARAMS, message=f"The MCP task has expired. {_by_tool(exc.held)}") from exc
        except NotOurs as exc:
            raise MCPError(code=INVALID_PARAMS, message=NO_SUCH) from exc
        if held.kind not in self.kinds:  # a newer replica's
            raise MCPError(code=INVALID_PARAMS, message=NO_SUCH)
        return held, self.kinds[held.kind]

    def _told(self, task_id: str, held: Held, standing: Standing) -> dict[str, Any]:
        """An MCP task as the specification writes it."""
        began = datetime.fromtimestamp(held.began, UTC)
        changed = max(standing.changed_at or began, began)
        told: dict[str, Any] = {
            "taskId": task_id,
            "status": standing.status,
            "createdAt": began.isoformat(),
            "lastUpdatedAt": changed.isoformat(),
            "ttlMs": int(LASTS * 1000),
            # Most runs end within seconds: what is young is worth a look more often.
            "pollIntervalMs": min(self._poll_interval_ms, max(SOONEST, round(held.age * SOONEST))),
        }
        if standing.message:
            told["statusMessage"] = standing.message
        if standing.result is not None:
            told["result"] = _dumped(standing.result) | DONE
        if standing.asks:
            told["inputRequests"] = {key: _dumped(request) for key, request in standing.asks.items()}
        if standing.error is not None:
            told["error"] = _dumped(standing.error)
        return told


def _dumped(model: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", model.model_dump(mode="json", by_alias=True, exclude_none=True))


def _context(ctx: Request) -> Ctx:
    """The context as tools have it."""
    return Context(request_context=ctx)


def _by_tool(held: Held) -> str:
    """How what goes on can be read without the MCP task."""
    match held.of:
        case {"task": str(task)}:
            return f'Its run can be read with task_get(task_id="{task}").'
        case {"chat": str(chat)}:
            return f'Its chat can be read with chat_get(chat_id="{chat}").'
        case _:
            return "task_list names the runs."


@contextmanager
def _told_to_host() -> Generator[None]:
    """Our failures as errors of the protocol: here it is the host that asks, and no model reads the answer."""
    try:
        yield
    except NotFound as exc:
        raise MCPError(code=INVALID_PARAMS, message="What the MCP task stands for is gone.") from exc
    except InvalidInput as exc:
        raise MCPError(code=INVALID_PARAMS, message=str(exc)) from exc
    except InferenceError as exc:
        raise MCPError(code=INTERNAL_ERROR, message=f"{exc} {exc.next_step}".strip(), data=error_data(exc)) from exc
