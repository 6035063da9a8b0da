"""The API's records as frozen values. Unknown fields are dropped, null means absent, invalid values become the default.

No record is refused for one field: a task that costs money must not be lost because of its `rating`. Sources: the type
lists of npm `@inferencesh/sdk` 0.6.10 and 0.6.54 and of PyPI `inferencesh` 0.36.0.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from inferencesh_mcp.api.enums import ENDED, is_media_type, log_type_word, plain_word, status_word
from inferencesh_mcp.api.json import encodable, is_array, is_object, items
from inferencesh_mcp.api.problem_details import requirements
from inferencesh_mcp.errors import NotFound, Requirement, UpstreamError
from inferencesh_mcp.sanitize import address, clean, token
from inferencesh_mcp.sanitize import name as reference_part

LINE_LIMIT = 500
"""Characters of a label. The platform's longest ones are file names, of 255."""
_CURSOR = re.compile(
    r"[!#-;=?-\[\]-~]{0,4000}"
)  # printable ASCII without spaces, quotes, backslashes and angle brackets


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    return json.dumps(value) if is_object(value) or is_array(value) else str(value)


def _line(value: Any) -> str:
    """A label, such as a title or a category, as one line: our answers put it inside lines of their own."""
    return clean(_text(value), LINE_LIMIT)


def _id(value: Any) -> str:
    """An id as one word: our answers put it inside calls that a model should make."""
    return token(_text(value))


def _name(value: Any) -> str:
    """A namespace, or the name of an app or an agent."""
    return reference_part(_text(value))


def _address(value: Any) -> str:
    """A URL; characters that are not allowed in one are encoded."""
    return address(_text(value))


def _cursor(value: Any) -> str:
    """A cursor is passed back unchanged; one that could not be quoted in a call is dropped."""
    text = _text(value)
    return text if _CURSOR.fullmatch(text) else ""


def _media_type(value: Any) -> str:
    text = _text(value)
    return text if is_media_type(text) else ""


def _whole(value: Any) -> Any:
    """An integer of at most 64 bits, else None."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 2**63 else None


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and abs(value) < 1e300 else 0.0


def _flag(value: Any) -> bool:
    return value in (1, "true")  # True is 1; not a set, in which a list cannot be looked for


def _moment(value: Any) -> Any:
    """RFC 3339, in UTC without a zone. None for anything else, and for Go's zero time."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    if moment.year <= 1:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _object(value: Any) -> Any:
    return value if is_object(value) else {}


def _objects(value: Any) -> Any:
    """The objects in an array. A tuple was parsed before and is kept, as are its values."""
    if _is_parsed(value):
        return value
    return [item for item in items(value) if is_object(item) or isinstance(item, BaseModel)]


def _named_objects(value: Any) -> Any:
    return {_line(name): item for name, item in _object(value).items() if is_object(item)}


def _object_or_none(value: Any) -> Any:
    return value if is_object(value) or isinstance(value, BaseModel) else None


def _words(value: Any) -> Any:
    return [_line(item) for item in items(value) if isinstance(item, str)] if not _is_parsed(value) else value


def _is_parsed(value: Any) -> bool:
    return isinstance(value, tuple)


T = TypeVar("T")
Text = Annotated[str, BeforeValidator(_text)]
Line = Annotated[str, BeforeValidator(_line)]
Id = Annotated[str, BeforeValidator(_id)]
Name = Annotated[str, BeforeValidator(_name)]
Word = Annotated[str, BeforeValidator(lambda value: plain_word(_text(value)))]
Address = Annotated[str, BeforeValidator(_address)]
Cursor = Annotated[str, BeforeValidator(_cursor)]
MediaType = Annotated[str, BeforeValidator(_media_type)]
Whole = Annotated[int | None, BeforeValidator(_whole)]
Moment = Annotated[datetime | None, BeforeValidator(_moment)]
Object = Annotated[dict[str, Any], BeforeValidator(_object)]
Number = Annotated[float, BeforeValidator(_number)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Status = Annotated[str, BeforeValidator(status_word)]
LogType = Annotated[str, BeforeValidator(log_type_word)]
Many = Annotated[tuple[T, ...], BeforeValidator(_objects)]
Named = Annotated[dict[str, T], BeforeValidator(_named_objects)]
One = Annotated[T | None, BeforeValidator(_object_or_none)]


class Wire(BaseModel):
    """Base of all records. Schemas are built at first use, because most processes need few of them."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if is_object(data) else data


class TaskLog(Wire):
    """One log of a task: all of its text so far."""

    id: Id = ""
    log_type: LogType = "task"
    content: Text = ""
    """Plain text; some servers may send it base64-encoded."""
    created_at: Moment = None


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
    capabilities: Words = ()
    credentials: Many[ConnectionRequirement] = ()
    """What this function needs in addition to its version's requirements."""
    kind: Text = "run"
    """`run`, or `stream`: a live exchange over a WebSocket."""


class AppVariant(Wire):
    """One of the sizes of an app."""

    name: Text = ""
    order: Whole = 0
    resources: Object = {}


class AppVersion(Wire):
    """One version of an app: its schemas and needs."""

    id: Id = ""
    short_id: Id = ""
    created_at: Moment = None
    metadata: Object = {}
    input_schema: Object = {}
    output_schema: Object = {}
    setup_schema: Object = {}
    functions: Named[AppFunction] = {}
    default_function: Line = ""
    variants: Named[AppVariant] = {}
    required_secrets: Many[SecretRequirement] = ()
    required_credentials: Many[ConnectionRequirement] = ()
    """In the newest API."""
    required_integrations: Many[ConnectionRequirement] = ()
    """In an older API."""
    resources: Object = {}


class App(Wire):
    """An app of the catalogue."""

    id: Id = ""
    short_id: Id = ""
    namespace: Name = ""
    name: Name = ""
    title: Line = ""
    description: Text = ""
    agent_description: Text = ""
    category: Line = ""
    tags: Words = ()
    images: Object = {}
    status: Line = ""
    """`active`, `maintenance`, `deprecated`, `retired`, or empty if the API does not say."""
    status_message: Text = ""
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
    app_version_id: Id = ""
    app_variant: Line = ""
    app: One[App] = None
    function: Line = ""
    infra: Line = ""
    input: Any = None
    setup: Any = None
    output: Any = None
    error: Text = ""
    logs: Many[TaskLog] = ()
    usage_events: Many[UsageEvent] = ()
    session_id: Id = ""
    session_timeout: Whole = None
    """Seconds."""
    created_at: Moment = None
    updated_at: Moment = None
    run_at: Moment = None
    streamed: Text = ""
    """Text that was streamed while the task ran; `output` replaces it."""

    @property
    def ended(self) -> bool:
        """Whether the task will never change again."""
        return self.status in ENDED

    @model_validator(mode="before")
    @classmethod
    def _streamed_text(cls, data: Any) -> Any:
        """A merged record keeps all accumulated output under `streamed`; a task has only its text."""
        if is_object(data) and is_object(data.get("streamed")):
            return {**data, "streamed": data["streamed"].get("response", "")}
        return data


class TaskStatus(Wire):
    """The status alone, as a poll returns it."""

    id: Id = ""
    status: Status = "unknown"
    updated_at: Moment = None


class TaskLogs(Wire):
    """A task's logs without its input and output."""

    task_id: Id = Field(default="", validation_alias=AliasChoices("task_id", "id"))
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
    path: Text = ""
    visibility: Line = ""
    metadata: Object = {}
    created_at: Moment = None


class Session(Wire):
    """A warm worker that is kept between runs."""

    id: Id = ""
    status: Word = ""
    """`active`, `ended` or `expired`."""
    app_id: Id = ""
    app_version_id: Id = ""
    worker_id: Id = ""
    task_id: Id = ""
    call_count: Whole = 0
    idle_timeout: Whole = None
    """Seconds."""
    expires_at: Moment = None
    ended_at: Moment = None
    last_call_at: Moment = None
    created_at: Moment = None

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
    estimate_error: Text = ""
    pricing_description: Text = ""


PAGE_LIMIT = 100
"""Most items of one page."""


class Page(Wire, Generic[T]):
    """One page of a list; `next_cursor` asks for the next."""

    items: Many[T] = ()
    next_cursor: Cursor = ""
    has_next: Flag = False
    total_items: Whole = None

    @model_validator(mode="before")
    @classmethod
    def _from_array(cls, data: Any) -> Any:
        """Accept a bare array as a page, and keep at most `PAGE_LIMIT` items."""
        entries = data if is_array(data) else data.get("items") if is_object(data) else None
        if not is_array(entries):
            return data
        return {**(data if is_object(data) else {}), "items": entries[:PAGE_LIMIT]}


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


M = TypeVar("M", bound=Wire)


def parsed(model: type[M], value: Any) -> M:
    """Validate a value as a model. The UpstreamError for anything else does not quote the value."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        name = model.__name__.partition("[")[0].lower()
        raise UpstreamError(message=f"inference.sh answered with something that is not a {name}") from exc
