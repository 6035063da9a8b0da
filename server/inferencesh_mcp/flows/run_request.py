"""A run before it costs anything: validate the request, upload its files, and build what is sent.

The modules that validate and upload are imported by the first run, so that the server starts without them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from inferencesh_mcp.api.json import SENT_LIMIT, NotReadableBack, encoded
from inferencesh_mcp.api.models import AppFunction, AppVersion, RunRequest
from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.flows.concurrency import optional_call
from inferencesh_mcp.sanitize import label

if TYPE_CHECKING:
    from inferencesh_mcp.api.models import App, ConnectionRequirement
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.errors import Requirement
    from inferencesh_mcp.flows import Caller, Report
    from inferencesh_mcp.flows.upload import Uploads
    from inferencesh_mcp.schema.validate import ValidationBudget


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


async def validate(
    caller: Caller, spec: RunSpec, *, reread: bool = True, budget: ValidationBudget | None = None
) -> tuple[App, RunSpec]:
    """Check that the run fits the app and that its files can be read; return the app, and the input as its schema asks.

    Sends no bytes. `reread`: if the input does not fit, read the app again, because its schema may have changed.
    `budget`: what a call with several inputs may spend on all of them.

    Raises:
        InvalidInput: names each field that is wrong, and what it should be; or a function that no tool can run.
        FileRefused: a file that may not or cannot be read.
    """
    from inferencesh_mcp.flows.upload import refuse_unreadable

    # A file that the input holds as text counts only after its upload, so `build_request` checks the size.
    _refuse_unsendable("input", spec.input, math.inf)
    _refuse_unsendable("setup", spec.setup)
    app = await caller.app_cache.app(caller.api, caller.principal, spec.app)
    refuse_live(app, spec.app)
    spec, wrong = _fit(app, spec, budget)
    if wrong and reread:
        app = await caller.app_cache.app(caller.api, caller.principal, spec.app, fresh=True)
        spec, wrong = _fit(app, spec, budget)
    if wrong:
        raise InvalidInput(
            message=f"The input does not fit {spec.app}: {'; '.join(wrong)}",
            next_step=f'Correct this and call again; `app_get(app="{spec.app}")` shows every field.',
        )
    await refuse_unreadable(caller.folders, function_of(app, spec.app).input_schema, spec.input)
    return app, spec


async def build_request(
    caller: Caller, app: App, spec: RunSpec, report: Report, uploads: Uploads | None = None
) -> RunRequest:
    """Upload the files that the input names, and return the request. `uploads` are those of a whole batch."""
    from inferencesh_mcp.flows.upload import upload_all

    schema = function_of(app, spec.app).input_schema
    app_input = await upload_all(caller.api, caller.folders, schema, spec.input, report, uploads)
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
    )


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


def refuse_live(app: App, ref: AppRef) -> None:
    """Refuse a function of kind `stream`: its task would wait, and cost, for a WebSocket that nobody opens.

    Raises:
        InvalidInput: says which functions can be run instead.
    """
    function = function_of(app, ref)
    if not is_live(function):
        return
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


def _refuse_unsendable(name: str, value: Any, limit: float = SENT_LIMIT) -> None:
    """Refuse a value that a task could not return to us: the run would be paid for, and every answer unreadable."""
    try:
        encoded(value, limit)
    except NotReadableBack as exc:
        raise InvalidInput(message=f"The {name} {exc}.", next_step="Change that and call again.") from exc


def _fit(app: App, spec: RunSpec, budget: ValidationBudget | None) -> tuple[RunSpec, list[str]]:
    """The run with its input repaired (hosts may send objects and numbers as strings), and what is wrong with it."""
    from inferencesh_mcp.schema.validate import problems, repaired

    version, schema = version_of(app), function_of(app, spec.app).input_schema
    spec = replace(spec, input=repaired(schema, spec.input, budget))
    wrong = problems(schema, spec.input, budget)
    if spec.setup is not None:
        spec = replace(spec, setup=repaired(version.setup_schema, spec.setup, budget))
        wrong += [f"setup: {problem}" for problem in problems(version.setup_schema, spec.setup, budget)]
    if spec.variant and app.version and spec.variant not in version.variants:
        rule = f"must be one of {', '.join(map(label, version.variants))}; got {spec.variant}"
        wrong.append(f"variant {rule if version.variants else 'is for apps that have variants, and this one has none'}")
    if spec.session_timeout is not None and (spec.session != "new" or not 1 <= spec.session_timeout <= 3600):
        wrong.append('session_timeout is 1 to 3600 seconds and goes with session="new" only')
    return spec, wrong
