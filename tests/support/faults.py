"""The faults that a test injects into its sandbox: through `Faults`, or through a request's `X-Sandbox-Fault` header.

`fault_wire` carries out the faults of the wire, `sandbox` those of the work. The header is for tests in other
languages; the sandbox as it is shipped does not know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import anyio
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from inferencesh_sandbox.ledger import matches
from inferencesh_sandbox.wire import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = "x-sandbox-fault"


class _Fault(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Status(_Fault):
    """Answer this instead of doing anything; without a body, a problem that fits the status."""

    kind: Literal["status"] = "status"
    code: int = Field(ge=200, le=599)
    headers: dict[str, str] = {}
    body: str | bytes | None = None
    error: str = "internal_error"
    """The code in the problem's `type`."""


class Drop(_Fault):
    """Reset the connection once the request has been read; do nothing else."""

    kind: Literal["drop"] = "drop"


class Swallow(_Fault):
    """Do the work, then reset the connection without a word."""

    kind: Literal["swallow"] = "swallow"


class RstAfter(_Fault):
    """Reset the connection after so many lines (pieces, of a body that has no lines) or bytes of the answer."""

    kind: Literal["rst_after"] = "rst_after"
    lines: int | None = None
    bytes: int | None = None


class FinAfter(_Fault):
    """End the answer, as if all were well, after so many lines or bytes; `cut` closes without the chunked ending."""

    kind: Literal["fin_after"] = "fin_after"
    lines: int | None = None
    bytes: int | None = None
    cut: bool = False


class Stall(_Fault):
    """Say nothing more for ever: before any work, or with `lines` after so many lines of the answer."""

    kind: Literal["stall"] = "stall"
    lines: int | None = None


class Intake(_Fault):
    """Of an upload: take only so many bytes of the body, then reset the connection or read no more."""

    kind: Literal["intake"] = "intake"
    bytes: int = Field(ge=0)
    then: Literal["reset", "stall"] = "reset"


class Drip(_Fault):
    """Send the answer's body in pieces of `size` bytes, `every` seconds apart by the sandbox's clock."""

    kind: Literal["drip"] = "drip"
    size: int = Field(default=1, ge=1)
    every: float = Field(default=0.01, ge=0)


class Delay(_Fault):
    """Wait by the sandbox's clock before doing anything."""

    kind: Literal["delay"] = "delay"
    seconds: float = Field(ge=0)


class Garble(_Fault):
    """Spoil the lines of an answer at line `at`, counted from 0; the whole answer for `crlf`, `bom` and `blank`.

    `bad` inserts what is no JSON, `truncated` cuts the line in half, `giant` inserts one valid line of `size` bytes,
    `endless` inserts bytes without a newline for ever, `duplicate` repeats the line, and `stale` repeats the first line
    after the line; `at: -1` is after the last.
    """

    kind: Literal["garble"] = "garble"
    form: Literal["bad", "truncated", "crlf", "bom", "blank", "giant", "endless", "duplicate", "stale", "text"]
    at: int = 0
    size: int = 10 * 1024 * 1024
    text: str = ""
    """What `text` inserts, as a line of its own."""


class StayQueued(_Fault):
    """Of `POST /apps/run`: the task stays queued until it is cancelled."""

    kind: Literal["stay_queued"] = "stay_queued"


class Twice(_Fault):
    """Of `POST /apps/run`: two identical tasks are made for the one request."""

    kind: Literal["twice"] = "twice"


class EndAtOnce(_Fault):
    """Of `POST /apps/run` and of a message to an agent: the task or the turn is over before its answer is sent."""

    kind: Literal["end_at_once"] = "end_at_once"


class HideTasks(_Fault):
    """Of `POST /tasks/list`: the list is empty."""

    kind: Literal["hide_tasks"] = "hide_tasks"


class LoseWorker(_Fault):
    """Of `POST /apps/run`: the session's worker is lost as soon as the task runs."""

    kind: Literal["lose_worker"] = "lose_worker"


Fault = Annotated[
    Status | Drop | Swallow | RstAfter | FinAfter | Stall | Intake | Drip | Delay | Garble
    | StayQueued | Twice | EndAtOnce | HideTasks | LoseWorker,
    Field(discriminator="kind"),
]  # fmt: skip
_HEADER: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


class Gate:
    """A door in front of requests: each waits there, unread by the sandbox, until `release`."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        """Set when the first request stands before the gate."""
        self._opened = anyio.Event()

    def release(self) -> None:
        self._opened.set()

    async def passed(self) -> None:
        self.reached.set()
        await self._opened.wait()


@dataclass(eq=False)
class _Rule:
    fault: Fault | Gate
    method: str
    path: str
    left: int

    def takes(self, method: str, path: str) -> bool:
        return self.left != 0 and self.method in {"*", method} and matches(path, self.path)


class Faults:
    """The faults that wait for their requests, in the order they were added; all that match apply together."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def add(self, fault: Fault, *, method: str = "*", path: str = "/**", times: int = 1) -> None:
        """Break the next `times` requests of this method and path (`-1`: all of them, until `clear`)."""
        self._rules.append(_Rule(fault, method, path, times))

    def hold(self, method: str, path: str, *, times: int = 1) -> Gate:
        """Hold the next `times` requests of this method and path until the gate's `release`."""
        gate = Gate()
        self._rules.append(_Rule(gate, method, path, times))
        return gate

    def clear(self) -> None:
        """Forget every fault and open every gate."""
        for rule in self._rules:
            if isinstance(rule.fault, Gate):
                rule.fault.release()
        self._rules.clear()

    def taken_by(self, method: str, path: str, headers: Mapping[str, str]) -> list[Fault | Gate]:
        """Say what is wrong with this one request, and use it up."""
        mine = [rule for rule in self._rules if rule.takes(method, path)]
        for rule in mine:
            rule.left -= 1
        self._rules = [rule for rule in self._rules if rule.left != 0]
        return [*(rule.fault for rule in mine), *_asked_for(headers)]


def _asked_for(headers: Mapping[str, str]) -> list[Fault]:
    if HEADER not in headers:
        return []
    text = headers[HEADER].strip()
    try:
        return _HEADER.validate_json(text if text.startswith("[") else f"[{text}]")
    except ValidationError as exc:
        raise Problem(400, "invalid_request", f"{HEADER}: {exc.errors()[0]['msg']}") from exc
