"""The client of inference.sh for one caller: one short typed method for each endpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.agents import Chats
from inferencesh_mcp.api.costs import Billing
from inferencesh_mcp.api.enums import STATUSES, is_media_type
from inferencesh_mcp.api.json import is_array, without_none
from inferencesh_mcp.api.models import (
    MAX_PAGE_SIZE,
    App,
    AppVersion,
    ConnectionRequirement,
    Estimate,
    File,
    Page,
    RequirementCheck,
    RunRequest,
    SecretRequirement,
    Session,
    Suggestion,
    Suggestions,
    Task,
    TaskLogs,
    checked_task,
    version_in,
)
from inferencesh_mcp.api.refs import segment
from inferencesh_mcp.api.retry import Operation
from inferencesh_mcp.api.sender import Sender, list_body, search_body
from inferencesh_mcp.api.task_stream import task_states
from inferencesh_mcp.api.wire import parsed
from inferencesh_mcp.errors import NotFound, RequirementsNotMet, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from inferencesh_mcp.api.file_transport import Download
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.api.transport import Transport

VERSION_PAGES = 5
"""Pages of versions that are searched for a short id."""


class Api:
    """inference.sh with one caller's key. Cheap to create: the connections belong to the transport.

    Every method raises the typed errors of `inferencesh_mcp.errors`, and KeyMissing without a key.
    """

    def __init__(
        self, transport: Transport, key: str | None, on_key_refused: Callable[[], None] = lambda: None
    ) -> None:
        """`on_key_refused` is called whenever the API refuses the key. KeyRefused for text that cannot be a key."""
        self._sender = Sender(transport, key, on_key_refused)
        self._transport = transport
        self.chats = Chats(self._sender)

    @property
    def account(self) -> str:
        """A name for the upstream account within this process: equal for all callers with the same key, and not the key itself."""
        return self._sender.account

    @property
    def billing(self) -> Billing:
        """Charges, balance, limits and rights of the caller's account."""
        return Billing(self._sender)

    def now(self) -> datetime:
        """The time by the platform's clock, as far as it is known."""
        return self._transport.now()

    async def sleep(self, seconds: float) -> None:
        """Wait by the transport's clock, like its own pauses."""
        await self._transport.sleep(seconds)

    async def list_apps(self, query: str = "", category: str = "", limit: int = 20, cursor: str = "") -> Page[App]:
        """Apps of the catalogue, or those that match `query`."""
        body = list_body(limit, cursor, _filters(category=category)) | search_body(query)
        return parsed(Page[App], await self._sender.post(Operation.READ, "/apps/list", body))

    async def suggest_apps(self, query: str, limit: int) -> tuple[Suggestion, ...]:
        """At most `limit` apps by the meaning of `query`, the best first."""
        body = {"query": query, "limit": limit, "category": "app"}
        results = parsed(Suggestions, await self._sender.post(Operation.READ, "/suggest", body)).results
        return tuple(result for result in results if result.type == "app" and result.name)[:limit]

    async def app(self, ref: AppRef) -> App:
        """One app with the version that `ref` names, or its current version."""
        app = parsed(App, await self._sender.get(f"/apps/{ref.path}"))
        if ref.version and not (app.version and ref.version in {app.version.id, app.version.short_id}):
            return app.model_copy(update={"version": await self._version(app.id, ref)})
        if app.version is None and app.version_id:
            return app.model_copy(update={"version": await self._version(app.id, replace(ref, version=app.version_id))})
        return app

    async def check_requirements(
        self,
        secrets: Sequence[SecretRequirement],
        credentials: Sequence[ConnectionRequirement] = (),
        integrations: Sequence[ConnectionRequirement] = (),
    ) -> RequirementCheck:
        """Whether the account has these. The newest API reads `credentials`, an older one `integrations`."""
        body = {
            "secrets": [_requirement(secret) for secret in secrets],
            "credentials": [_requirement(credential, key="slug") for credential in credentials],
            "integrations": [_requirement(integration) for integration in integrations],
        }
        body = {name: requirements for name, requirements in body.items() if requirements}
        try:
            return parsed(RequirementCheck, await self._sender.post(Operation.READ, "/credentials/check", body))
        except RequirementsNotMet as error:
            return RequirementCheck.model_construct(satisfied=False, missing=error.requirements)

    async def estimate(self, app_id: str, app_input: Any, function: str | None = None) -> Estimate:
        """The estimated cost of a run with this input."""
        body = without_none(input=app_input, function=function)
        return parsed(
            Estimate, await self._sender.post(Operation.READ, f"/store/apps/{segment(app_id, 'app id')}/estimate", body)
        )

    async def run(self, request: RunRequest) -> Task:
        """Start a run, which costs money, at most once.

        Every error carries `outcome`: `not_started` after a refusal or if nothing was sent, once the safe retries are used
        up; OutcomeUnknown, with `sent_at`, if the run may have started but its answer was lost.
        """
        body = request.model_dump(exclude_unset=True, exclude_none=True) | {"input": request.input}
        with self._sender.starting():
            task = parsed(Task, await self._sender.post(Operation.START, "/apps/run", body))
            if not task.id:
                raise UpstreamError(message="inference.sh answered with a task that has no id")
            return task

    async def task(self, task_id: str) -> Task:
        """A task as it is now; UpstreamError if the answer is a different task."""
        return checked_task(task_id, parsed(Task, await self._sender.get(_task_path(task_id))))

    async def list_tasks(
        self,
        limit: int = 20,
        cursor: str = "",
        statuses: Sequence[str] = (),
        app: str = "",
        since: datetime | None = None,
    ) -> Page[Task]:
        """Tasks, newest first. `statuses` are of STATUSES, `app` is an app's id, `since` the earliest creation, in UTC."""
        filters = _filters(app_id=app)
        if statuses:
            numbers = [STATUSES.index(status) for status in statuses]
            filters.append({"field": "status", "operator": "in", "value": numbers})
        if since is not None:
            moment = since.isoformat().replace("+00:00", "Z")
            filters.append({"field": "created_at", "operator": "gte", "value": moment})
        body = list_body(limit, cursor, filters) | {"sort": [{"field": "created_at", "dir": "desc"}]}
        return parsed(Page[Task], await self._sender.post(Operation.READ, "/tasks/list", body))

    async def task_files(self, task_id: str) -> tuple[File, ...]:
        """The files of a task's output, with their names."""
        return parsed(Page[File], await self._sender.get(f"{_task_path(task_id)}/files?role=output")).items

    async def task_logs(self, task_id: str) -> TaskLogs:
        """A task's logs; read from the task itself if the API has no endpoint for them."""
        logs = await self._sender.get_optional(f"{_task_path(task_id)}/logs")
        return parsed(TaskLogs, logs or await self._sender.get(_task_path(task_id)))

    async def cancel(self, task_id: str) -> None:
        """Request the cancellation of a task; it ends later. Conflict if it has ended already."""
        await self._sender.post(Operation.STOP, f"{_task_path(task_id)}/cancel")

    def follow(
        self, task: Task, stream: bool = True, poll_interval: float = 2.0
    ) -> AbstractAsyncContextManager[AsyncIterator[Task]]:
        """A block with the new states of a task, until one has ended.

        `async with api.follow(task) as states: async for state in states: …`; leaving the block closes the connection at
        once. `stream=False` polls every `poll_interval` seconds. Raises what `task` raises.
        """
        self._sender.check_key()
        return task_states(self._sender, task, stream=stream, poll_interval=poll_interval)

    async def create_file(
        self, *, filename: str, content_type: str, size: int | None = None, public: bool = False
    ) -> File:
        """Create a file's record, with the address to PUT its bytes to. `size` is in bytes, None if not known."""
        record = without_none(uri="", filename=filename, content_type=content_type, size=size, public=public or None)
        created = await self._sender.post(Operation.READ, "/files", {"files": [record]})
        file = parsed(File, created[0] if is_array(created) and created else created)
        if not file.upload_url or not file.uri:
            raise UpstreamError(message="inference.sh gave no address to upload the file to")
        return file

    async def put_file(self, file: File, content: Callable[[], AsyncGenerator[bytes]], size: int) -> None:
        """Send a file's bytes; `content` is called for each attempt. Forbidden if the upload address has expired."""
        kind = file.content_type if is_media_type(file.content_type) else "application/octet-stream"
        await self._transport.files.put(file.upload_url, content, size=size, content_type=kind, account=self.account)

    async def list_files(self, limit: int = 20, cursor: str = "") -> Page[File]:
        return parsed(Page[File], await self._sender.post(Operation.READ, "/files/list", list_body(limit, cursor)))

    async def file(self, file_id: str) -> File:
        return parsed(File, await self._sender.get(f"/files/{segment(file_id, 'file id')}"))

    async def delete_file(self, file_id: str) -> None:
        await self._sender.delete(f"/files/{segment(file_id, 'file id')}")

    def download(self, url: str) -> AbstractAsyncContextManager[Download]:
        """A block in which a file's bytes can be read. Only public https addresses are allowed; the key is not sent."""
        return self._transport.files.download(url, self.account)

    async def sessions(self) -> list[Session]:
        return list(parsed(Page[Session], await self._sender.get("/sessions")).items)

    async def session(self, session_id: str) -> Session:
        """One session; NotFound, or Gone if it has expired or was ended."""
        return parsed(Session, await self._sender.get(_session_path(session_id)))

    async def keepalive(self, session_id: str) -> Session:
        """Reset a session's idle timer."""
        path = f"{_session_path(session_id)}/keepalive"
        return parsed(Session, await self._sender.post(Operation.EXTEND, path))

    async def end_session(self, session_id: str) -> None:
        """End a session and release its worker."""
        await self._sender.delete(_session_path(session_id))

    async def _version(self, app_id: str, ref: AppRef) -> AppVersion:
        """The version that a reference names by its id or short id."""
        path = f"/apps/{segment(app_id, 'app id')}/versions"
        try:
            value = await self._sender.get(f"{path}/{segment(ref.version, 'version')}")
            return parsed(AppVersion, version_in(value))
        except NotFound:
            cursor = ""
        for _ in range(VERSION_PAGES):
            body = list_body(MAX_PAGE_SIZE, cursor)
            page = parsed(Page[AppVersion], await self._sender.post(Operation.READ, f"{path}/list", body))
            for version in page.items:
                if ref.version in {version.id, version.short_id}:
                    return version
            cursor = page.next_cursor
            if not (page.has_next and cursor):
                break
        raise NotFound(message=f"{ref.namespace}/{ref.name} has no version {ref.version}")


def _task_path(task_id: str) -> str:
    return f"/tasks/{segment(task_id, 'task id')}"


def _session_path(session_id: str) -> str:
    return f"/sessions/{segment(session_id, 'session id')}"


def _requirement(requirement: SecretRequirement | ConnectionRequirement, key: str = "key") -> dict[str, Any]:
    """A requirement in the form that the check takes."""
    fields = requirement.model_dump(exclude={"key", "instructions"}, exclude_defaults=True)
    return {key: requirement.key, **fields}


def _filters(**fields: Any) -> list[dict[str, Any]]:
    return [{"field": name, "operator": "eq", "value": value} for name, value in fields.items() if value != ""]
