"""A run before it costs anything: validate the request, upload its files, and build what is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from inferencesh_mcp.api.json import MAX_SENT_BYTES, NotReadableBack, encoded
from inferencesh_mcp.api.models import AppFunction, AppVersion, RunRequest
from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.flows.concurrency import optional_call
from inferencesh_mcp.sanitize import label

if TYPE_CHECKING:
    from inferencesh_mcp.api.models import App, ConnectionRequirement
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.errors import Requirement
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.flows.upload import Uploads
    from inferencesh_mcp.schema.bounded_validator import Budget
    from inferencesh_mcp.schema.file_fields import Place


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A run as the caller requests it; empty or None is the app's default."""

    app: AppRef
    input: dict[str, Any]
    setup: dict[str, Any] | None = None
    infra: Literal["cloud", "private", "private_first"] | None = None
    variant: str | None = None
    session: str | None = None
    session_timeout: int | None = None
    run_at: str | None = None
    """When to start, in RFC 3339."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that may start: its input fits the app, and its files can be read."""

    spec: RunSpec
    """With the input and the setup as the app takes them."""
    app: App
    function: AppFunction
    files: tuple[Place, ...] = ()
    """The places of its input that name a file to upload."""


async def prepare(
    caller: Caller, spec: RunSpec, uploads: Uploads, *, reread: bool = True, budget: Budget | None = None
) -> Prepared:
    """Check that a run fits its app and that its files can be read. Sends no bytes.

    `reread`: if the input does not fit, read the app again, because its schema may have changed.
    `budget`: what a call with several inputs may spend on all of them.

    Raises:
        InvalidInput: names each field that is wrong, and what it should be; or a function that no tool can run.
        FileRefused: a file that may not or cannot be read.
    """
    # A file that the input holds as text counts only after its upload, so `build_request` checks the size.
    _refuse_unsendable("input", spec.input, math.inf)
    _refuse_unsendable("setup", spec.setup)
    app = await caller.app_cache.app(caller.api, caller.principal, spec.app)
    prepared, problems = _fit(app, spec, budget)
    if problems and reread:
        app = await caller.app_cache.app(caller.api, caller.principal, spec.app, fresh=True)
        prepared, problems = _fit(app, spec, budget)
    if problems:
        raise InvalidInput(
            message=f"The input does not fit {spec.app}: {'; '.join(problems)}",
            next_step=f'Correct this and call again; `app_get(app="{spec.app}")` shows every field.',
        )
    return replace(prepared, files=await uploads.check(prepared.function.input_schema, prepared.spec.input))


def _fit(app: App, spec: RunSpec, budget: Budget | None) -> tuple[Prepared, list[str]]:
    """The run with its input as the app takes it, and what is wrong with it."""
    from inferencesh_mcp.schema.bounded_validator import Budget  # imports jsonschema: 60 ms
    from inferencesh_mcp.schema.validate import check

    budget = budget or Budget()
    version, function = version_of(app), runnable_function(app, spec.app)
    checked = check(function.input_schema, spec.input, budget)
    problems, setup = checked.problems, spec.setup
    if setup is not None:
        checked_setup = check(version.setup_schema, setup, budget)
        setup = checked_setup.value
        problems = problems + [f"setup: {problem}" for problem in checked_setup.problems]
    if spec.variant and app.version and spec.variant not in version.variants:
        rule = f"must be one of {', '.join(map(label, version.variants))}; got {spec.variant}"
        problems.append(
            f"variant {rule if version.variants else 'is for apps that have variants, and this one has none'}"
        )
    if spec.session_timeout is not None and (spec.session != "new" or not 1 <= spec.session_timeout <= 3600):
        problems.append('session_timeout is 1 to 3600 seconds and goes with session="new" only')
    return Prepared(spec=replace(spec, input=checked.value, setup=setup), app=app, function=function), problems


async def build_request(prepared: Prepared, uploads: Uploads) -> RunRequest:
    """Upload the files of a run, and return its request."""
    spec = prepared.spec
    app_input = await uploads.upload(spec.input, prepared.files)
    _refuse_unsendable("input", app_input)
    return RunRequest(
        app=str(replace(spec.app, function="")),
        input=app_input,
        setup=spec.setup,
        function=spec.app.function or None,
        infra=spec.infra,
        variant=spec.variant,
        session=spec.session,
        session_timeout=spec.session_timeout,
        run_at=spec.run_at,
    )


def _refuse_unsendable(name: str, value: Any, limit: float = MAX_SENT_BYTES) -> None:
    """Refuse a value that a task could not return to us: the run would be paid for, and every answer unreadable."""
    try:
        encoded(value, limit)
    except NotReadableBack as exc:
        raise InvalidInput(message=f"The {name} {exc}.", next_step="Change that and call again.") from exc


def function_of(app: App, ref: AppRef) -> AppFunction:
    """The function that would run, with its own schema.

    Raises:
        InvalidInput: the app has no such function.
    """
    version = version_of(app)
    name = ref.function or app.resolved_function or version.default_function or "run"
    function = version.functions.get(name)
    if function is None and not ref.function:  # an app with one function may have its schema on the version itself
        return AppFunction(name=name, input_schema=version.input_schema, output_schema=version.output_schema)
    if function is None:
        names = ", ".join(map(label, version.functions)) or "run"
        raise InvalidInput(message=f"{app.ref} has no function '{name}'.", next_step=f"Its functions: {names}.")
    return function


def runnable_function(app: App, ref: AppRef) -> AppFunction:
    """The function that would run. One of kind `stream` is refused: its task would wait, and cost, for a WebSocket.

    Raises:
        InvalidInput: the app has no such function, or it is live; says which functions can be run instead.
    """
    function = function_of(app, ref)
    if not is_live(function):
        return function
    others = ", ".join(sorted(name for name, other in version_of(app).functions.items() if not is_live(other)))
    raise InvalidInput(
        message=f"{app.ref}: '{function.name}' is a live stream over a WebSocket, which no tool can follow.",
        next_step=f"Functions that can be run: {others}." if others else "Choose another app with app_list.",
    )


def is_live(function: AppFunction) -> bool:
    """Whether a function talks over a WebSocket instead of returning an output."""
    return function.kind == "stream"


def version_of(app: App) -> AppVersion:
    """The version that was requested; an app without one has no known schemas."""
    return app.version or AppVersion()


def connections_of(version: AppVersion, function: AppFunction) -> list[ConnectionRequirement]:
    """Every connection that a run of this function needs, under any of the API's names for them."""
    return [*_credentials(version, function), *version.required_integrations]


async def missing_requirements(
    caller: Caller, app: App, version: AppVersion, function: AppFunction
) -> tuple[Requirement, ...] | None:
    """The requirements that are missing in the caller's account; None if the platform did not say in time."""
    if not version.required_secrets and not connections_of(version, function):
        return ()
    check = await optional_call(
        caller.api.check_requirements(
            version.required_secrets, _credentials(version, function), version.required_integrations
        ),
        f"requirements check for {app.ref}",
    )
    if check is None:
        return None
    return check.missing or (() if check.satisfied else None)


def _credentials(version: AppVersion, function: AppFunction) -> list[ConnectionRequirement]:
    return [*version.required_credentials, *function.credentials]
