"""A run before it costs anything: what is asked for, whether it fits the app, and its files on their way.

What judges and uploads is imported when the first run is asked for: most starts wait for none.
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
    """A run as the caller asks for it; empty or None is the app's default."""

    app: AppRef
    input: dict[str, Any]
    setup: dict[str, Any] | None = None
    infra: Literal["cloud", "private", "private_first"] | None = None
    variant: str | None = None
    session: str | None = None
    session_timeout: int | None = None


async def validate(
    caller: Caller, wanted: RunSpec, *, reread: bool = True, work: ValidationBudget | None = None
) -> tuple[App, RunSpec]:
    """Return the app, and what is wanted of it as its schema writes that, when all fits and every file that the input
    names can be read. Sends no bytes. `reread`: an app whose schema the input does not fit may have another one by now.
    `work`: what the call that has several inputs may spend on all of them.

    Raises:
        InvalidInput: each field that is wrong, and what it should be; or a function that no tool can run.
        FileRefused: a file that may not or cannot be read.
    """
    from inferencesh_mcp.flows.upload import refuse_unreadable

    # A file that is sent as text in the input counts only once it is uploaded, so the size is looked at in `build_request`.
    _refuse_unreadable_back("input", wanted.input, math.inf)
    _refuse_unreadable_back("setup", wanted.setup)
    app = await caller.app_cache.app(caller.api, caller.principal, wanted.app)
    refuse_live(app, wanted.app)
    wanted, wrong = _judged(app, wanted, work)
    if wrong and reread:
        app = await caller.app_cache.app(caller.api, caller.principal, wanted.app, fresh=True)
        wanted, wrong = _judged(app, wanted, work)
    if wrong:
        raise InvalidInput(
            message=f"The input does not fit {wanted.app}: {'; '.join(wrong)}",
            next_step=f'Correct this and call again; `app_get(app="{wanted.app}")` shows every field.',
        )
    refuse_unreadable(caller.folders, function_of(app, wanted.app).input_schema, wanted.input)
    return app, wanted


async def build_request(
    caller: Caller, app: App, wanted: RunSpec, report: Report, uploads: Uploads | None = None
) -> RunRequest:
    """Upload the files that the input names and return what is sent off. `uploads` are those of a whole batch."""
    from inferencesh_mcp.flows.upload import upload_all

    schema = function_of(app, wanted.app).input_schema
    given = await upload_all(caller.api, caller.folders, schema, wanted.input, report, uploads)
    _refuse_unreadable_back("input", given)
    return RunRequest(
        app=str(replace(wanted.app, function="")),
        input=given,
        setup=wanted.setup,
        function=wanted.app.function or None,
        infra=wanted.infra,
        variant=wanted.variant,
        session=wanted.session,
        session_timeout=wanted.session_timeout,
    )


def function_of(app: App, ref: AppRef) -> AppFunction:
    """The function that would run, with its own schema.

    Raises:
        InvalidInput: the app has no such function.
    """
    version = version_of(app)
    name = ref.function or app.resolved_function or version.default_function or "run"
    found = version.functions.get(name)
    if found is None and not ref.function:  # an app of one function says what it takes on the version itself
        return AppFunction(name=name, input_schema=version.input_schema, output_schema=version.output_schema)
    if found is None:
        known = ", ".join(map(label, version.functions)) or "run"
        raise InvalidInput(message=f"{app.ref} has no function '{name}'.", next_step=f"Its functions: {known}.")
    return found


def refuse_live(app: App, ref: AppRef) -> None:
    """Refuse a function of kind `stream`: its task would wait, and cost, for a WebSocket that nobody opens.

    Raises:
        InvalidInput: says which functions can be run instead.
    """
    function = function_of(app, ref)
    if not is_live(function):
        return
    others = ", ".join(sorted(name for name, one in version_of(app).functions.items() if not is_live(one)))
    raise InvalidInput(
        message=f"{app.ref}: '{function.name}' is a live stream over a WebSocket, which no tool can follow.",
        next_step=f"Functions that can be run: {others}." if others else "Choose another app with app_list.",
    )


def is_live(function: AppFunction) -> bool:
    """Whether a function talks over a WebSocket instead of returning an output."""
    return function.kind == "stream"


def version_of(app: App) -> AppVersion:
    """The version that was asked for; an app may come without one, and then its schemas are not known."""
    return app.version or AppVersion()


def connections_of(version: AppVersion, function: AppFunction) -> list[ConnectionRequirement]:
    """Every connection that a run of this function needs, whichever name the API has for them."""
    return [*_credentials(version, function), *version.required_integrations]


async def missing_requirements(
    caller: Caller, app: App, version: AppVersion, function: AppFunction
) -> tuple[Requirement, ...] | None:
    """What a run would be refused for; None where that could not be found out in time."""
    if not version.required_secrets and not connections_of(version, function):
        return ()
    check = await optional_call(
        caller.api.check_requirements(
            version.required_secrets, _credentials(version, function), version.required_integrations
        ),
        f"check of what {app.ref} needs",
    )
    if check is None:
        return None
    return check.missing or (() if check.satisfied else None)


def _credentials(version: AppVersion, function: AppFunction) -> list[ConnectionRequirement]:
    return [*version.required_credentials, *function.credentials]


def _refuse_unreadable_back(name: str, value: Any, limit: float = SENT_LIMIT) -> None:
    """Refuse what a task could not repeat to us: the run would be paid for, and every answer about it unreadable."""
    try:
        encoded(value, limit)
    except NotReadableBack as exc:
        raise InvalidInput(message=f"The {name} {exc}.", next_step="Change that and call again.") from exc


def _judged(app: App, wanted: RunSpec, work: ValidationBudget | None) -> tuple[RunSpec, list[str]]:
    """What is wanted, with what a host could only send as a string made what the app takes; and what is wrong with it."""
    from inferencesh_mcp.schema.validate import problems, repaired

    version, schema = version_of(app), function_of(app, wanted.app).input_schema
    wanted = replace(wanted, input=repaired(schema, wanted.input, work))
    found = problems(schema, wanted.input, work)
    if wanted.setup is not None:
        wanted = replace(wanted, setup=repaired(version.setup_schema, wanted.setup, work))
        found += [f"setup: {problem}" for problem in problems(version.setup_schema, wanted.setup, work)]
    if wanted.variant and app.version and wanted.variant not in version.variants:
        known = f"must be one of {', '.join(map(label, version.variants))}; got {wanted.variant}"
        found.append(
            f"variant {known if version.variants else 'is for apps that have variants, and this one has none'}"
        )
    if wanted.session_timeout is not None and (wanted.session != "new" or not 1 <= wanted.session_timeout <= 3600):
        found.append('session_timeout is 1 to 3600 seconds and goes with session="new" only')
    return wanted, found
