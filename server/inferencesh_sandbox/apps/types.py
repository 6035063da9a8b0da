"""What a sandbox app is: its card, its functions, and what one run is handed to work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from inferencesh_sandbox.lookup import Offered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.wire import Json


class AppInput(BaseModel):
    """The input of a function. Unknown fields are ignored, as on the platform."""

    model_config = ConfigDict(title="AppInput")


class AppOutput(BaseModel):
    """The output of a function."""

    model_config = ConfigDict(title="AppOutput")


def file_field(description: str) -> Any:
    """A field that holds a file: its schema says `format: file`, which is how clients know what to upload."""
    return Field(description=description, json_schema_extra={"format": "file"})


class AppFailed(Exception):
    """The run ends as failed, with this text as its error."""


@dataclass(frozen=True)
class Picked:
    """A file as an app reads it."""

    body: bytes
    content_type: str


class Work(Protocol):
    """The runtime that an app gets for one run."""

    @property
    def clock(self) -> Clock: ...

    @property
    def setup(self) -> Json: ...

    @property
    def memory(self) -> dict[str, Any]:
        """Values that a session keeps between runs. Empty outside a session."""
        ...

    def log(self, text: str) -> None:
        """Write a log line. The owner sees it at once."""

    def publish_partial(self, output: Json) -> None:
        """Publish the partial output."""

    def delta(self, **texts: str) -> None:
        """Add text to the output, and stream only what was added."""

    def used(self, kind: str, quantity: float, unit: str) -> None:
        """Record the usage of the run."""

    def publish(self, body: bytes, filename: str, content_type: str) -> str:
        """Store a file for the owner and return its URI."""
        ...

    def pick(self, uri: str) -> Picked:
        """Read a file by its URI, or fail the run with the reason."""
        ...


@dataclass(frozen=True)
class Function:
    """A function of an app."""

    name: str
    description: str
    input_model: type[AppInput]
    output_model: type[AppOutput]
    run: Callable[[Work, Any], Awaitable[Mapping[str, Any]]]
    kind: str = "run"
    """`run`, or `stream`: a live exchange over a WebSocket."""


@dataclass(frozen=True)
class Price:
    """The pretended price of a run, in microcents: 100,000,000 are a US dollar."""

    confidence: str = "exact"
    least: int = 0
    most: int = 0
    depends_on: tuple[str, ...] = ()
    description: str = "Free: this is the sandbox."
    per_second: int = 0
    """What a range adds for each second that the app runs."""


def _free(_inputs: Any) -> Price:
    return Price()


@dataclass(frozen=True, kw_only=True)
class App(Offered):
    """One app of the sandbox's catalogue."""

    description: str
    category: str
    functions: tuple[Function, ...]
    default_function: str = "run"
    setup: type[BaseModel] | None = None
    pace: float = 0.0
    """Seconds between the statuses before and after the work."""
    price: Callable[[Any], Price] = field(default=_free)

    def function(self, name: str) -> Function | None:
        return next((item for item in self.functions if item.name == name), None)
