"""The API's records of apps, tasks, files and sessions, and the body of a start.

Sources: the type lists of npm `@inferencesh/sdk` 0.6.10 and 0.6.54 and of PyPI `inferencesh` 0.36.0.
"""

# ruff: noqa: RUF012 - pydantic copies defaults, and ruff does not see that Wire is a model

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from inferencesh_mcp.api.enums import ENDED
from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.api.problem_details import requirements
from inferencesh_mcp.api.wire import (
    Address,
    Cursor,
    Flag,
    Id,
    Line,
    LogType,
    Many,
    MediaType,
    Moment,
    Name,
    Named,
    Number,
    Object,
    One,
    Status,
    T,
    Text,
    Whole,
    Wire,
    Word,
    Words,
    at_most,
)
from inferencesh_mcp.errors import NotFound, Requirement, UpstreamError

MAX_PAGE_SIZE = 100
"""Most items of one page."""


class TaskLog(Wire):
    """One log of a task: all of its text so far."""

    log_type: LogType = "task"
    content: Text = ""
    """Plain text; some servers may send it base64-encoded."""


class UsageEvent(Wire):
    """One metered item."""

    type: Line = ""
    model: Line = ""
    tier: Line = ""
    quantity: Number = 0.0
    unit: Line = ""


class SecretRequirement(Wire):
    """A secret that an app needs."""

    key: Line = ""
    description: Text = ""
    optional: Flag = False


class ConnectionRequirement(Wire):
    """A connection that an app needs: a credential with a slug in the newest API, an integration in the older one."""

    key: Line = Field(default="", validation_alias=AliasChoices("slug", "key"))
    description: Text = ""
    optional: Flag = False
    secrets: Words = ()
    scopes: Words = ()
    instructions: Text = ""
    """How to get it, in Markdown."""


class AppFunction(Wire):
    """One of the functions that an app offers."""

    name: Text = ""
    description: Text = ""
    input_schema: Object = {}
    output_schema: Object = {}
    credentials: Many[ConnectionRequirement] = ()
    """What this function needs in addition to its version's requirements."""
    kind: Text = "run"
    """`run`, or `stream`: a live exchange over a WebSocket."""


class AppVersion(Wire):
    """One version of an app: its schemas and needs."""

    id: Id = ""
    short_id: Id = ""
    input_schema: Object = {}
    output_schema: Object = {}
    setup_schema: Object = {}
    functions: Named[AppFunction] = {}
    default_function: Line = ""
    variants: Named[Wire] = {}
    """The sizes of the app; only their names are used."""
    required_secrets: Many[SecretRequirement] = ()
    required_credentials: Many[ConnectionRequirement] = ()
    """In the newest API."""
    required_integrations: Many[ConnectionRequirement] = ()
    """In an older API."""


class App(Wire):
    """An app of the catalogue."""

    id: Id = ""
    namespace: Name = ""
    name: Name = ""
    title: Line = ""
    description: Text = ""
    agent_description: Text = ""
    category: Line = ""
    status: Line = ""
    """`active`, `maintenance`, `deprecated`, `retired`, or empty if the API does not say."""
    visibility: Line = ""
    version_id: Id = ""
    version: One[AppVersion] = None
    resolved_function: Text = ""
    """The function that the requested name pins; empty if the name is not an alias for one."""

    @property
    def ref(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Task(Wire):
    """One run of an app, in its latest known state."""

    id: Id
    short_id: Id = ""
    status: Status = "unknown"
    """One lower-case word; an unknown word means that the task has not ended."""
    app_id: Id = ""
    app: One[App] = None
    function: Line = ""
    input: Any = None
    output: Any = None
    error: Text = ""
    logs: Many[TaskLog] = ()
    usage_events: Many[UsageEvent] = ()
    session_id: Id = ""
    created_at: Moment = None
    updated_at: Moment = None
    run_at: Moment = None
    """When it is scheduled to start."""
    streamed: Text = ""
    """Text that was streamed while the task ran; `output` replaces it."""

    @property
    def ended(self) -> bool:
        """Whether the task will never change again."""
        return self.status in ENDED


class TaskStatus(Wire):
    """The status alone, as a poll returns it."""

    status: Status = "unknown"


class TaskLogs(Wire):
    """A task's logs without its input and output."""

    status: Status = "unknown"
    logs: Many[TaskLog] = ()


class File(Wire):
    """A stored file, or the record of a file that will be uploaded."""

    id: Id = ""
    uri: Address = ""
    upload_url: Text = Field(default="", repr=False)
    """Where to PUT the bytes. Anyone with this address can write the file, so no repr shows it."""
    filename: Line = ""
    content_type: MediaType = ""
    size: Whole = None
    """Bytes."""
    created_at: Moment = None


class Session(Wire):
    """A warm worker that is kept between runs."""

    id: Id = ""
    status: Word = ""
    """`active`, `ended` or `expired`."""
    task_id: Id = ""
    call_count: Whole = 0
    idle_timeout: Whole = None
    """Seconds."""
    expires_at: Moment = None

    @property
    def over(self) -> bool:
        """Whether the session has ended or expired."""
        return self.status in {"ended", "expired"}


class Estimate(Wire):
    """The estimated cost of a run, in microcents: 100,000,000 are one US dollar."""

    confidence: Line = "unknown"
    """`exact`, `range` or `unknown`."""
    microcents: Whole = None
    min: Whole = None
    max: Whole = None
    depends_on: Words = ()
    pricing_description: Text = ""

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The least and the most that the run costs; None if the platform does not know."""
        if self.confidence not in {"exact", "range"}:
            return None
        exact = self.confidence == "exact"
        least, most = (self.microcents, self.microcents) if exact else (self.min, self.max)
        return None if most is None else (max(least or 0, 0), max(most, 0))


class Suggestion(Wire):
    """What the platform suggests for a query: the name and the description of an app."""

    type: Line = ""
    name: Line = ""
    description: Text = ""


class Suggestions(Wire):
    """The answer of `/suggest`, the best first."""

    results: Annotated[Many[Suggestion], at_most(MAX_PAGE_SIZE)] = ()


class Page(Wire, Generic[T]):
    """One page of a list; `next_cursor` asks for the next."""

    items: Many[T] = ()
    next_cursor: Cursor = ""
    has_next: Flag = False

    @model_validator(mode="before")
    @classmethod
    def _from_array(cls, data: Any) -> Any:
        """Accept a bare array as a page, and keep at most `MAX_PAGE_SIZE` items."""
        fields = data if is_object(data) else {"items": data}
        entries = fields.get("items")
        return {**fields, "items": entries[:MAX_PAGE_SIZE]} if is_array(entries) else data


class RequirementCheck(Wire):
    """Whether all secrets and connections exist, and which are missing."""

    satisfied: Flag = False
    missing: Annotated[tuple[Requirement, ...], BeforeValidator(requirements)] = Field(
        default=(), validation_alias=AliasChoices("errors", "missing")
    )


class RunRequest(BaseModel):
    """The body of a start. No other fields are sent: a webhook, for example, could leak data."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    app: str
    input: Any
    function: str | None = None
    setup: Any = None
    infra: Literal["cloud", "private", "private_first", "remote"] | None = None
    variant: str | None = None
    session: str | None = None
    """`new`, or the id of a session."""
    session_timeout: int | None = None
    """Seconds; used only with a new session."""
    run_at: str | None = None
    """When to start, in RFC 3339."""


def checked_task(task_id: str, task: Task) -> Task:
    """The task; UpstreamError if it is not the requested one, because its id identifies a paid run."""
    if task.id and task_id not in {task.id, task.short_id}:
        raise UpstreamError(message="inference.sh answered with a different task")
    return task


def version_in(value: Any) -> Any:
    """The version in an answer: the `version` of an app, or the answer itself.

    Raises:
        NotFound: the answer is an app without the requested version.
    """
    if not is_object(value):
        return value
    if is_object(value.get("version")):
        return value["version"]
    if "version_id" in value:  # only an app has this field
        raise NotFound(message="inference.sh answered without the requested version")
    return value
