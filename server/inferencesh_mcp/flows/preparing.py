"""A run before it costs anything: what is asked for, whether it fits the app, and its files on their way.

What judges and uploads is imported when the first run is asked for: most starts wait for none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from inferencesh_mcp.api.models import AppFunction, AppVersion, RunRequest
from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.plaintext import label

if TYPE_CHECKING:
    from inferencesh_mcp.api.models import App
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.flows import Caller, Report


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run as the caller asks for it; empty or None is the app's default."""

    app: AppRef
    input: dict[str, Any]
    setup: dict[str, Any] | None = None
    infra: Literal["cloud", "private", "private_first"] | None = None
    variant: str | None = None
    session: str | None = None
    session_timeout: int | None = None


async def checked(caller: Caller, wanted: Wanted, *, reread: bool = True) -> tuple[App, Wanted]:
    """Return the app, and what is wanted of it as its schema writes that, when all fits and every file that the input
    names can be read. Sends no bytes. `reread`: an app whose schema the input does not fit may have another one by now.

    Raises:
        InvalidInput: each field that is wrong, and what it should be.
        FileRefused: a file that may not or cannot be read.
    """
    from inferencesh_mcp.flows.uploading import refuse_unreadable

    app = await caller.catalogue.app(caller.api, caller.principal, wanted.app)
    wanted, wrong = _judged(app, wanted)
    if wrong and reread:
        app = await caller.catalogue.app(caller.api, caller.principal, wanted.app, fresh=True)
        wanted, wrong = _judged(app, wanted)
    if wrong:
        raise InvalidInput(
            message=f"The input does not fit {wanted.app}: {'; '.join(wrong)}",
            next_step=f'Correct this and call again; `app_get(app="{wanted.app}")` shows every field.',
        )
    refuse_unreadable(caller.folders, function_of(app, wanted.app).input_schema, wanted.input)
    return app, wanted


async def ready(caller: Caller, app: App, wanted: Wanted, report: Report) -> RunRequest:
    """Upload the files that the input names and return what is sent off."""
    from inferencesh_mcp.flows.uploading import upload_all

    schema = function_of(app, wanted.app).input_schema
    return RunRequest(
        app=str(replace(wanted.app, function="")),
        input=await upload_all(caller.api, caller.folders, schema, wanted.input, report),
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
    name = ref.function or version.default_function or "run"
    found = version.functions.get(name)
    if found is None and not ref.function:  # an app of one function says what it takes on the version itself
        return AppFunction(name=name, input_schema=version.input_schema, output_schema=version.output_schema)
    if found is None:
        known = ", ".join(map(label, version.functions)) or "run"
        raise InvalidInput(message=f"{app.ref} has no function '{name}'.", next_step=f"Its functions: {known}.")
    return found


def version_of(app: App) -> AppVersion:
    """The version that was asked for; an app may come without one, and then its schemas are not known."""
    return app.version or AppVersion()


def _judged(app: App, wanted: Wanted) -> tuple[Wanted, list[str]]:
    """What is wanted, with what a host could only send as a string made what the app takes; and what is wrong with it."""
    from inferencesh_mcp.flows.checking import problems
    from inferencesh_mcp.flows.repairing import repaired

    version, schema = version_of(app), function_of(app, wanted.app).input_schema
    wanted = replace(wanted, input=repaired(schema, wanted.input))
    found = problems(schema, wanted.input)
    if wanted.setup is not None:
        found += [f"setup: {problem}" for problem in problems(version.setup_schema, wanted.setup)]
    if wanted.variant and version.variants and wanted.variant not in version.variants:
        found.append(f"variant must be one of {', '.join(map(label, version.variants))}; got {wanted.variant}")
    if wanted.session_timeout is not None and (wanted.session != "new" or not 1 <= wanted.session_timeout <= 3600):
        found.append('session_timeout is 1 to 3600 seconds and goes with session="new" only')
    return wanted, found
