"""Find an app, read what it takes, run it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mcp_types import CallToolResult
from pydantic import Field

from inferencesh_mcp.api.json import without_none
from inferencesh_mcp.api.models import App, AppFunction, AppVersion, Estimate, Page, RunRequest
from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.context import Ctx, caller_of, caller_with_roots, wants_mcp_task
from inferencesh_mcp.errors import InvalidInput, Requirement
from inferencesh_mcp.flows import run
from inferencesh_mcp.flows.batch import run_many
from inferencesh_mcp.flows.concurrency import optional_call
from inferencesh_mcp.flows.run_request import RunSpec, function_of, is_live, missing_requirements, version_of
from inferencesh_mcp.sanitize import clean, label, quoted
from inferencesh_mcp.tools import app_description
from inferencesh_mcp.tools.batch_result import batch_result
from inferencesh_mcp.tools.define import tool
from inferencesh_mcp.tools.elicitation import ask_about_cost
from inferencesh_mcp.tools.error_results import requirement_data, requirement_lines
from inferencesh_mcp.tools.preview import with_preview
from inferencesh_mcp.tools.progress import progress
from inferencesh_mcp.tools.results import RESULT_SCHEMA, build_result, deferred, list_result, run_result
from inferencesh_mcp.tools.truncate import as_json, fit
from inferencesh_mcp.tools.units import moment, parse_time, price

if TYPE_CHECKING:
    from inferencesh_mcp.flows import Caller

# Every description stands alone and names the values of an enum: some hosts drop enums and limits (mcpo).
AppName = Annotated[str, Field(description="app: namespace/name, optionally with @version or :function")]
Infra = Annotated[
    Literal["cloud", "private", "private_first"] | None,
    Field(description="where it runs: cloud, private or private_first; default: the app's"),
]
Function = Annotated[str, Field(description="function of the app, as app_get lists them; default: its main one")]
Variant = Annotated[str, Field(description="variant of the app, as app_get lists them")]
Input = Annotated[
    dict[str, Any], Field(description="the app's fields, as app_get lists them; a file is a path, URL or data URI")
]
Setup = Annotated[dict[str, Any], Field(description="instance parameters, where app_get lists them")]
Limit = Annotated[int, Field(ge=1, le=100, description="most entries to list, 1 to 100")]
Cursor = Annotated[str, Field(description="next page: next_cursor of the last answer")]

MAX_FUNCTIONS = 30  # of an app that are described; real apps at hand have one, the sandbox at most four


@tool("apps", "Find apps", reads=True)
async def app_list(
    ctx: Ctx,
    query: Annotated[str, Field(description="words to search for")] = "",
    category: Annotated[
        Literal["any", "image", "video", "audio", "text", "chat", "3d", "other", "flow", "decision"],
        Field(description="only apps of: any, image, video, audio, text, chat, 3d, other, flow or decision"),
    ] = "any",
    limit: Limit = 20,
    cursor: Cursor = "",
) -> CallToolResult:
    """Find apps on inference.sh (image, video, audio, LLM, tools) by what they do, or by category."""
    api = caller_of(ctx).api
    # `any` is a value of its own: hosts in strict mode send every argument, and Gemini sends no empty text.
    api_category = "" if category == "any" else category
    page = Page[App]()
    apps: list[dict[str, str]] = []
    if query and not cursor and not api_category:
        suggestions = await optional_call(api.suggest_apps(query, limit), "suggestions") or ()
        apps = [{"app": app.name, "about": clean(app.description, 160)} for app in suggestions]
    if not apps:
        page = await api.list_apps(query=query, category=api_category, limit=limit, cursor=cursor)
        apps = [
            {"app": app.ref, "category": app.category, "about": clean(app.description or app.title, 160)}
            for app in page.items
        ]
    lines = [_app_line(app) for app in apps] or ["No app matches. Try other words."]
    return list_result("app_list", page, lines, {"apps": apps})


def _app_line(app: dict[str, str]) -> str:
    category = f" ({label(app['category'])})" if app.get("category") else ""
    return f"{label(app['app'], 120)}{category}: {quoted(app['about'], 160)}"


@tool("apps", "Read about an app", reads=True)
async def app_get(app: AppName, ctx: Ctx) -> CallToolResult:
    """Read an app: its input fields, functions, variants, price and requirements."""
    ref = AppRef.parse(app)
    caller = caller_of(ctx)
    app_record = await caller.app_cache.app(caller.api, caller.principal, ref)
    function, version = function_of(app_record, ref), version_of(app_record)
    sample = app_description.sample_input(function.input_schema)
    missing = await missing_requirements(caller, app_record, version, function)
    estimate = await run.estimate(caller, ref, app_record, sample, ref.function or None)
    setup = version.setup_schema
    fields: dict[str, Any] = {
        "app": str(ref),
        "description": clean(app_record.agent_description or app_record.description, 2000),
        "status": clean(app_record.status, 40) if app_record.status not in {"", "active"} else None,
        "function": function.name if len(version.functions) > 1 else None,
        "input_schema": fit(function.input_schema, limit=12_000),
        "setup_schema": fit(setup, limit=3_000) if setup.get("properties") else None,
        "functions": [_function_fields(name, function) for name, function in _named_functions(version)] or None,
        "more_functions": len(version.functions) - MAX_FUNCTIONS if len(version.functions) > MAX_FUNCTIONS else None,
        "variants": sorted(version.variants) or None,
        "needs": app_description.needs(version, function) or None,
        "missing": [requirement_data(need) for need in missing] if missing else None,
        "price": price(estimate),
        "price_for": app_description.price_for(estimate, sample) or None,
    }
    lines = [f"{fields['app']}: {quoted(fields['description'], 2000)}"]
    if fields["status"]:
        lines.append(f"Status: {label(fields['status'])}")
    lines += [*_needs_lines(fields["needs"] or [], missing), app_description.price_line(estimate, sample)]
    lines += _function_text(version, function, function_of(app_record, replace(ref, function="")).name)
    if fields["setup_schema"]:
        lines += ["Setup:", *(f"  {line}" for line in app_description.fields(setup))]
    if len(version.variants) > 1:
        lines.append(f"Variants: {', '.join(map(label, fields['variants']))}")
    return build_result(fit("\n".join(lines), limit=12_000), without_none(**fields))


def _named_functions(version: AppVersion) -> list[tuple[str, AppFunction]]:
    """The functions of an app that has several: all of them, as far as an answer can show them."""
    return sorted(version.functions.items())[:MAX_FUNCTIONS] if len(version.functions) > 1 else []


def _function_fields(name: str, function: AppFunction) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": clean(name, 80), "about": clean(function.description, 160)}
    if is_live(function):
        return fields | {"live": "a WebSocket, which no tool can run"}
    return fields | {"input_schema": fit(function.input_schema, limit=2_000)}


def _function_text(version: AppVersion, shown: AppFunction, default: str) -> list[str]:
    """What the app takes; of an app with several functions, what each of them does and takes."""
    functions = _named_functions(version)
    if not functions:
        return app_description.input_lines(shown.input_schema)
    lines = [
        line
        for name, function in functions
        for line in app_description.function_lines(name, function, is_default=name == default)
    ]
    left_out = len(version.functions) - len(functions)
    more = [f"{left_out} more functions are not shown."] if left_out else []
    return ['Functions (choose with function="…"):', *lines, *more]


def _needs_lines(needs: list[str], missing: tuple[Requirement, ...] | None) -> list[str]:
    """What the app needs; what of it is missing in this account is said once, with what to do."""
    if missing:
        return ["Missing in this account:", *requirement_lines(missing)]
    note = "could not be checked" if missing is None else "this account has all of it"
    return [f"Needs ({note}):", *(f"- {need}" for need in needs)] if needs else []


@tool("apps", "Run an app", starts=True, output_schema=RESULT_SCHEMA)
async def app_run(
    app: AppName,
    input: Input,  # noqa: A002
    ctx: Ctx,
    setup: Setup = {},
    function: Function = "",
    infra: Infra = None,
    variant: Variant = "",
    session: Annotated[
        str, Field(description='"new" keeps the worker for later runs; a session_id continues that session')
    ] = "",
    session_timeout: Annotated[
        int, Field(description='seconds a session may idle, 1 to 3600, default 60; only with session="new"')
    ] = 0,
    wait: Annotated[
        bool, Field(description="wait for the output, as long as this host allows; false: at once with the task_id")
    ] = True,
    stream: Annotated[bool, Field(description="follow the run live; false polls")] = True,
    run_at: Annotated[str, Field(description='when to start, if later: "2h", or a date in ISO 8601')] = "",
    dry_run: Annotated[bool, Field(description="only check the input, upload its files and price the run")] = False,
) -> CallToolResult:
    """Run an app and return its output. May cost credits. The input is checked first. If it takes long, the answer
    is a task_id to pass to task_get; never run it again to get a result."""
    spec = RunSpec(
        app=_with_function(AppRef.parse(app), function),
        input=input,
        setup=setup or None,
        infra=infra,
        variant=variant or None,
        session=session or None,
        session_timeout=session_timeout or None,
        run_at=_start_time(caller_of(ctx), run_at) if run_at else None,
    )
    if dry_run:
        async with progress(ctx) as report:
            return _dry_run_result(*await run.dry_run(await caller_with_roots(ctx, input), spec, report))
    return await run_and_render(ctx, spec, wait=wait and not run_at, stream=stream)


def _start_time(caller: Caller, text: str) -> str:
    """The time of a scheduled start, as the API takes it.

    Raises:
        InvalidInput: it is no time, or in the past.
    """
    now = caller.api.now()
    when = parse_time(text, now, name="run_at", ahead=True)
    if when <= now:
        raise InvalidInput(
            message=f"'run_at' is in the past: {moment(when, now)}.",
            next_step="Name a later time, or leave it out to run now.",
            outcome="not_started",
            retry_safe=True,
        )
    return when.isoformat().replace("+00:00", "Z")


async def run_and_render(ctx: Ctx, spec: RunSpec, *, wait: bool = True, stream: bool = True) -> CallToolResult:
    """Run an app and build the result, for `app_run` and for pinned tools."""
    async with progress(ctx) as report:
        caller = await caller_with_roots(ctx, spec.input)
        caller = replace(caller, confirm=partial(ask_about_cost, ctx, caller), stream=caller.stream and stream)
        as_task = wait and wants_mcp_task(ctx)
        outcome = await run.run(caller, spec, report, seconds=caller.wait_seconds if wait and not as_task else 0)
    result = run_result(outcome)
    if outcome.task.ended:
        return await with_preview(ctx, caller, result)
    # The result with the id of a running task is not delayed by a preview.
    return deferred(result, "run", task=outcome.task.id, app=outcome.app) if as_task else result


@tool("apps", "Run an app on many inputs", starts=True)
async def app_run_many(
    app: AppName,
    inputs: Annotated[
        list[dict[str, Any]],
        Field(
            min_length=1, max_length=200, description="one object for each run, 1 to 200; fields as app_get lists them"
        ),
    ],
    ctx: Ctx,
    max_concurrency: Annotated[int, Field(ge=1, le=32, description="runs at the same time, 1 to 32")] = 4,
    setup: Setup = {},
    function: Function = "",
    infra: Infra = None,
    variant: Variant = "",
) -> CallToolResult:
    """Run an app once for each input and return every outcome in order. All inputs are checked before the first starts.
    Runs that take too long are returned by task_id; inputs that were not started are listed."""
    ref = _with_function(AppRef.parse(app), function)
    specs = [
        RunSpec(app=ref, input=run_input, setup=setup or None, infra=infra, variant=variant or None)
        for run_input in inputs
    ]
    caller = await caller_with_roots(ctx, inputs)
    caller = replace(caller, confirm=partial(ask_about_cost, ctx, caller))
    # A run that waits for its turn can be started by this call alone.
    as_task = wants_mcp_task(ctx) and len(specs) <= max_concurrency
    async with progress(ctx) as report:
        outcomes = await run_many(
            caller, specs, report, most=max_concurrency, seconds=caller.wait_seconds, follow=not as_task
        )
    result = batch_result(str(ref), outcomes)
    tasks = [outcome.task for outcome in outcomes if isinstance(outcome, run.RunResult)]
    all_started = len(tasks) == len(outcomes)  # the error of a run that was not started is only in this result
    goes_on = as_task and all_started and not all(task.ended for task in tasks)
    return deferred(result, "batch", tasks=[task.id for task in tasks], app=str(ref)) if goes_on else result


def _with_function(ref: AppRef, function: str) -> AppRef:
    if function and ref.function and function != ref.function:
        raise InvalidInput(
            message=f"`app` names the function '{ref.function}' and `function` another, '{function}'.",
            next_step="Give one of the two.",
            outcome="not_started",
            retry_safe=True,
        )
    return replace(ref, function=function or ref.function)


def _dry_run_result(
    request: RunRequest, estimate: Estimate | None, missing: tuple[Requirement, ...] | None
) -> CallToolResult:
    cost = price(estimate)
    request_body = request.model_dump(exclude_none=True)
    lines = ["Dry run: nothing was started. The input is valid."]
    if missing:
        lines += ["A run would be refused, because this account lacks:", *requirement_lines(missing)]
    lines += [f"Estimate for this input: {cost}", f"Would send: {as_json(fit(request_body))}"]
    estimate_fields = estimate.model_dump(exclude_none=True) if estimate else None
    output = {"request": fit(request_body), "estimate": estimate_fields, "price": cost}
    if missing:
        output["missing"] = [requirement_data(need) for need in missing]
    return build_result("\n".join(lines), {"status": "dry_run", "task_id": "", "output": output})


TOOLS = (app_list, app_get, app_run, app_run_many)
