"""Every way a call can be refused, and the whole text that a model and its person read then: row X-17.

Each answer says what failed, whether anything was started or charged, and what to do next.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KEY, Upstream, Way
from tests.results import error, text_of
from tests.support.faults import Status
from tests.system.faults.hosts import HTTP, MEMORY, PIPE, STDIO, Hosted, over

pytestmark = pytest.mark.anyio

NEVER = "Nothing was started or charged."
MAKE_A_KEY = "Next: Make a key in the dashboard at https://inference.sh and set it as INFERENCE_API_KEY."
CORRECT = 'Next: Correct this and call again; `app_get(app="sandbox/draw")` shows every field.'
MOVE = (
    "Next: Move the file there, or have the person who runs this server add its folder to INFERENCE_ALLOWED_DIRS. "
    "Do not look for a way around it."
)
ELSEWHERE = "Next: Give an https address that anyone can read, or download the file and upload it from disk."
MISSING_SECRET = {
    "type": "secret",
    "key": "HF_TOKEN",
    "message": "secret HF_TOKEN is missing",
    "action": {"type": "add_secret", "secrets": ["HF_TOKEN"]},
}


@dataclass(frozen=True)
class Case:
    """A call, and the answer to it. `{folder}` is the folder that may be read, `{outside}` its neighbour."""

    name: str
    tool: str
    arguments: dict[str, Any]
    answer: tuple[str, ...]
    key: str | None = KEY
    start: Status | None = None
    """What `POST /apps/run` is answered with."""
    outcome: tuple[str, bool] = ("not_started", True)
    """Of a run: what became of it, and whether the same call may be made again."""
    posts: int = 0
    """Requests to start something that leave this machine."""
    about: dict[str, Any] = field(default_factory=dict)
    """What the structured answer says besides."""


def problem(code: int, slug: str, detail: str, **more: Any) -> Status:
    body = {"type": f"https://api.inference.sh/errors/{slug}", "title": "T", "status": code, "detail": detail, **more}
    return Status(code=code, headers={"content-type": "application/problem+json"}, body=json.dumps(body))


def refused(
    start: Status, *answer: str, name: str = "", posts: int = 1, outcome: Any = Case.outcome, **about: Any
) -> Case:
    """A run that the platform refuses with this."""
    arguments = {"app": "sandbox/echo", "input": {}}
    return Case(
        name or str(start.code), "app_run", arguments, answer, start=start, posts=posts, outcome=outcome, about=about
    )


def run(name: str, app: str, input_: dict[str, Any], *answer: str, **more: Any) -> Case:
    return Case(name, "app_run", {"app": app, "input": input_, **more.pop("arguments", {})}, answer, **more)


def picture(name: str, path: str, *answer: str) -> Case:
    """A run with a file that it does not get."""
    return run(name, "sandbox/picture-info", {"image": path}, *answer)


def upload(name: str, source: str, *answer: str) -> Case:
    return Case(name, "file_upload", {"source": source}, answer)


THE_PLATFORM_REFUSES = [
    refused(
        problem(400, "bad_request", "input is not an object"),
        "invalid_input: inference.sh answered 400: input is not an object.",
        NEVER,
        "Next: Correct this and call again; app_get shows what an app takes.",
    ),
    refused(
        problem(401, "unauthorized", "invalid api key"),
        "key_refused: inference.sh answered 401: invalid api key.",
        NEVER,
        MAKE_A_KEY,
    ),
    refused(
        problem(402, "insufficient_balance", "insufficient balance"),
        "payment_required: inference.sh answered 402: insufficient balance.",
        "Nothing was started.",  # whether something was charged is for the platform alone to say
        "Next: Add credit or a way to pay at https://inference.sh, then call again.",
        upstream_code="insufficient_balance",
    ),
    refused(
        problem(403, "forbidden", "no access to this app"),
        "forbidden: inference.sh answered 403: no access to this app.",
        NEVER,
        "Next: Use a key with this permission; keys are made in the dashboard at https://inference.sh.",
    ),
    refused(
        problem(403, "insufficient_scope", "key lacks scope apps:run"),
        "forbidden: inference.sh answered 403: key lacks scope apps:run.",
        NEVER,
        "Next: Use a key with that scope; keys are made in the dashboard at https://inference.sh.",
        name="403 for a scope",
    ),
    refused(
        problem(404, "not_found", "app not found", suggestions=["sandbox/echo"]),
        "not_found: inference.sh answered 404: app not found.",
        "Did you mean sandbox/echo?",
        NEVER,
        "Next: Check the name or id: app_list, task_list, file_list, session_list and agent_list show what there is.",
        suggestions=["sandbox/echo"],
    ),
    refused(
        problem(409, "conflict", "the app is being updated"),
        "conflict: inference.sh answered 409: the app is being updated.",
        NEVER,
        "Next: Read its current state before you call again.",
    ),
    refused(
        problem(410, "gone", "the app was removed"),
        "gone: inference.sh answered 410: the app was removed.",
        NEVER,
        "Next: It no longer exists: choose another.",
    ),
    refused(
        problem(412, "requirements_not_met", "requirements not met", errors=[MISSING_SECRET]),
        "requirements_not_met: inference.sh answered 412: secret HF_TOKEN is missing.",
        '- "secret HF_TOKEN is missing" → Add the secret HF_TOKEN at https://inference.sh.',
        NEVER,
        "Next: A person has to do this; then call again.",
        requirements=[
            {
                "type": "secret",
                "key": "HF_TOKEN",
                "message": "secret HF_TOKEN is missing",
                "action": "Add the secret HF_TOKEN at https://inference.sh.",
            }
        ],
    ),
    refused(
        problem(422, "validation_error", "validation failed", errors=[{"field": "prompt", "message": "too long"}]),
        "invalid_input: inference.sh answered 422: validation failed; prompt: too long.",
        NEVER,
        "Next: Correct this and call again; app_get shows what an app takes.",
    ),
    refused(
        Status(code=422, headers={"content-type": "text/html"}, body="<html><h1>Unprocessable</h1></html>"),
        "invalid_input: inference.sh answered 422.",
        NEVER,
        "Next: Correct this and call again; app_get shows what an app takes.",
        name="a page",
    ),
    refused(
        Status(code=429, headers={"retry-after": "3"}, error="rate_limited"),
        "rate_limited: inference.sh answered 429: a fault of the sandbox: 429.",
        NEVER,
        "Next: Wait, then call again.",
        posts=3,
        retry_after_seconds=3.0,
    ),
    refused(
        Status(code=502, headers={"content-type": "text/html"}, body="<html><h1>Bad Gateway</h1></html>"),
        "outcome_unknown: sandbox/echo: the request was sent, but its result is unknown: inference.sh answered "
        "502; it is not among the recent tasks, but may still appear.",
        "Whether a run was started is unknown.",
        "Next: Call `task_list` in a minute to see whether it runs; running it again may pay twice.",
        outcome=("unknown", False),
    ),
    refused(
        Status(code=307, headers={"location": "https://elsewhere.example/run"}),
        "upstream_error: inference.sh answered 307: it points elsewhere, which is never followed; check the base URL.",
        NEVER,
        "Next: Call again later; if it fails again, report it to inference.sh.",
    ),
]

KEYS = [
    run("no key", "sandbox/echo", {}, "key_missing: No inference.sh key was given.", NEVER,
        "Next: Make one in the dashboard at https://inference.sh and set it as INFERENCE_API_KEY.", key=None),
    run("a wrong key", "sandbox/echo", {},
        "key_refused: inference.sh answered 401: the key must begin with inf_ or 1nfsh-.", NEVER, MAKE_A_KEY, key="sk_of_another"),
]  # fmt: skip

INPUTS = [
    run("an app that is not there", "sandbox/drow", {},
        "not_found: inference.sh answered 404: app 'sandbox/drow' not found.",
        "Did you mean sandbox/draw, sandbox/slow, sandbox/echo?", NEVER,
        "Next: Check the name or id: app_list, task_list, file_list, session_list and agent_list show what there is."),
    run("no name of an app", "draw", {},
        "invalid_input: 'draw' is not an app: write namespace/name, namespace/name@version or namespace/name:function, "
        "for example infsh/flux-schnell.", NEVER, "Next: Find the app's name with app_list."),
    run("a function that is not there", "sandbox/draw:paint", {"prompt": "x"},
        "invalid_input: sandbox/draw has no function 'paint'.", NEVER, "Next: Its functions: run."),
    run("a field that is not there", "sandbox/draw", {"prompt": "x", "colour": "red"},
        "invalid_input: The input does not fit sandbox/draw: 'colour' is not a field of this app: the fields are "
        '["prompt", "width", "height", "seed"].', NEVER, CORRECT),
    run("a misspelt field", "sandbox/draw", {"promt": "x"},
        "invalid_input: The input does not fit sandbox/draw: 'prompt' is missing: text of 0 to 4000 characters; "
        "'promt' is not a field of this app: did you mean 'prompt'?", NEVER, CORRECT),
    run("a wrong type", "sandbox/draw", {"prompt": "x", "width": "wide"},
        "invalid_input: The input does not fit sandbox/draw: 'width' must be an integer from 16 to 1024; "
        'got "wide".', NEVER, CORRECT),
    run("a number out of range", "sandbox/draw", {"prompt": "x", "width": 9000},
        "invalid_input: The input does not fit sandbox/draw: 'width' must be an integer from 16 to 1024; "
        "got 9000; nearest allowed: 1024.", NEVER, CORRECT),
    run("a misspelt argument", "sandbox/draw", {"prompt": "x"}, "invalid_input: This tool has no argument 'inputs'.",
        NEVER, "Next: Did you mean 'input'?", arguments={"inputs": {}}),
    run("an argument that breaks its rule", "sandbox/draw", {"prompt": "x"},
        "invalid_input: 'session_timeout': Input should be a valid integer, unable to parse string as an integer.",
        NEVER, "Next: Correct this and call again.", arguments={"session_timeout": "long"}),
    run("a session that is not there", "sandbox/count", {},
        "session_not_found: inference.sh answered 404: session 'nobody' not found.", NEVER,
        'Next: Check the id with `session_list`, or start a new session with session="new".',
        arguments={"session": "nobody"}, posts=1),
    run("an app in need of secrets", "sandbox/needs-secret", {},
        "requirements_not_met: inference.sh answered 412: secret SANDBOX_API_KEY is missing; connect google; "
        "google needs more scopes: sheets.readonly.",
        '- "secret SANDBOX_API_KEY is missing" → Add the secret SANDBOX_API_KEY at https://inference.sh.',
        '  The provider\'s instructions: "Open **Settings**, then 1. make a key, 2. copy it."',
        "  The provider's website: https://keys.example",
        '- "connect google" → Connect Google at https://inference.sh.',
        '- "google needs more scopes: sheets.readonly" → Connect Google again at https://inference.sh and grant '
        "sheets.readonly.", '  Scope sheets.readonly: "Read your spreadsheets"', NEVER, "Next: A person has to do this; then call again.", posts=1),
]  # fmt: skip

FILES = [
    picture("a file that is not there", "{folder}/cat.png",
            "file_refused: {folder}/cat.png does not exist.", NEVER, "Next: Check the path."),
    picture("a path outside", "{outside}/plan.png",
            "file_refused: {outside}/plan.png is outside the folders this server may read ({folder}).", NEVER, MOVE),
    picture("a path that climbs out", "{folder}/../plan.png",
            "file_refused: {folder}/../plan.png is outside the folders this server may read ({folder}).", NEVER, MOVE),
    picture("no path at all", " ", "file_refused: The path is empty.", NEVER,
            "Next: Readable folders are {folder}."),
    picture("a path that begins nowhere", "cat.png", "file_refused: No readable folder has a file named cat.png.", NEVER,
            "Next: Give its whole path; readable folders are {folder}."),
    picture("a folder", "{folder}/pictures", "file_refused: {folder}/pictures is a folder.", NEVER,
            "Next: Name one file."),
    picture("no regular file", "{folder}/socket.png", "file_refused: {folder}/socket.png is not a regular file.", NEVER,
            "Next: Name one file."),
    picture("a hidden file", "{folder}/.env",
            "file_refused: {folder}/.env is hidden or looks like a secret, so it is never uploaded.", NEVER,
            "Next: If it really is to be sent, copy it under another name first."),
    picture("a key", "{folder}/id_rsa",
            "file_refused: {folder}/id_rsa is hidden or looks like a secret, so it is never uploaded.", NEVER,
            "Next: If it really is to be sent, copy it under another name first."),
    picture("a link", "{folder}/link.png",
            "file_refused: {folder}/link.png is a link, or a part of it is not a folder.", NEVER,
            "Next: Links are not followed: give the real path."),
    picture("broken base64", "data:image/png;base64,@@", "invalid_input: The base64 is broken.", NEVER,
            "Next: Encode the whole file (RFC 4648)."),
    upload("an address that is not https", "http://127.0.0.1:1/x",
           "file_refused: The file's address must begin with https://.", ELSEWHERE),
    upload("a private address", "https://10.0.0.1/x.png",
           "file_refused: The file's host '10.0.0.1' is not a public address.", ELSEWHERE),
    upload("an address inside a cloud", "https://169.254.169.254/latest/meta-data",
           "file_refused: The file's host '169.254.169.254' is not a public address.", ELSEWHERE),
    upload("an address where there is nothing", "{upstream}/nothing.png",
           "file_refused: The file at 127.0.0.1 could not be fetched: it answered 404.", ELSEWHERE),
    upload("a file that is there already", "inf://a/b.png",
           "invalid_input: inf://a/b.png is uploaded already.", "Next: Use it as it is."),
]  # fmt: skip

TASKS = [
    Case("a task that is not there", "task_get", {"task_id": "nobody"},
         ("not_found: inference.sh answered 404: task 'nobody' not found.",
          "Next: Check the name or id: app_list, task_list, file_list, session_list and agent_list show what there is.")),
    Case("no id of a task", "task_get", {"task_id": "../apps"},
         ("invalid_input: Task id '../apps' is not valid: letters, digits, '_' and '-' only, at most 128 characters.",
          "Next: Use the id exactly as an earlier answer gave it.")),
]  # fmt: skip

CASES = [*THE_PLATFORM_REFUSES, *KEYS, *INPUTS, *FILES, *TASKS]


@pytest.fixture
def places(folder: Path, tmp_path: Path, upstream: Upstream) -> Iterator[dict[str, str]]:
    """Files that may not be sent, and the words that stand for where they are."""
    (tmp_path / "plan.png").write_bytes(b"x")
    (folder / "pictures").mkdir()
    for name in (".env", "id_rsa"):
        (folder / name).write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "plan.png")
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket has a hundred characters at most
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        os.chdir(here)
        yield {"folder": str(folder), "outside": str(tmp_path), "upstream": upstream.url}


def placed(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: placed(part, places) for name, part in value.items()}
    if not isinstance(value, str):
        return value
    return re.sub(r"\{(folder|outside|upstream)\}", lambda found: places[found[1]], value)


async def check(case: Case, host: Hosted, upstream: Upstream, places: dict[str, str]) -> None:
    faults, ledger = upstream.sandbox.faults, upstream.sandbox.ledger
    before = len(ledger.requests("POST", "/apps/run"))
    if case.start:
        faults.add(case.start, path="/apps/run", times=-1)
    async with host(INFERENCE_API_KEY=case.key) as my:
        result = await my.call(case.tool, **placed(case.arguments, places))
    faults.clear()

    assert [placed(line, places) for line in case.answer] == text_of(result).split("\n")
    failure = error(result)
    assert case.about == {name: failure.get(name) for name in case.about}
    assert case.posts == len(ledger.requests("POST", "/apps/run")) - before
    assert () == ledger.starts
    if case.tool == "app_run":
        assert case.outcome == (failure["outcome"], failure["retry_safe"])


@pytest.mark.fault("X-17")
@pytest.mark.parametrize(
    ("way", "case"),
    [
        (MEMORY[1] if case in KEYS + FILES else HTTP, case) for case in CASES
    ],  # over HTTP a caller has a key, and no disk
    ids=lambda value: value.name if isinstance(value, Case) else str(value),
)
async def test_a_refusal_says_what_failed_and_what_to_do(
    host: Hosted, upstream: Upstream, places: dict[str, str], case: Case
) -> None:
    """The whole text, as the tables above have it."""
    await check(case, host, upstream, places)


@pytest.mark.fault("X-17")
@over(PIPE, STDIO[0])
async def test_every_transport_gives_the_same_answer(
    host: Hosted, upstream: Upstream, places: dict[str, str], way: Way
) -> None:
    """In the other era, and over a pipe."""
    chosen = {"401", "412", "422", "no key", "a misspelt field", "a link", "a private address"}
    for case in CASES:
        if case.name in chosen:
            await check(case, host, upstream, places)


@pytest.mark.fault("X-17")
def test_every_error_says_what_to_do_next() -> None:
    """The last line says what to do, as a sentence; the first says what failed, as one."""
    for case in CASES:
        first, last = case.answer[0], case.answer[-1]
        assert re.fullmatch(r"[a-z_]+: .*[.?/]\.?", first), first
        assert re.fullmatch(r"Next: [A-Z].*[.?]", last), last


@pytest.mark.fault("X-17")
@over(MEMORY[1])
async def test_a_file_without_read_permission_is_refused(
    host: Hosted, upstream: Upstream, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the system's refusal is put in the place where it would come from."""
    secret = folder / "locked.png"
    secret.write_bytes(b"x")
    secret.chmod(0)
    really = os.open

    def opening(path: Any, flags: int, *args: Any, **more: Any) -> int:
        if path == "locked.png":
            raise PermissionError(13, "Permission denied")
        return really(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", opening)
    async with host() as my:
        result = await my.run("picture-info", {"image": str(secret)})

    assert text_of(result).split("\n") == [
        f"file_refused: {secret} cannot be read: permission denied.",
        NEVER,
        "Next: Have its owner make it readable, or copy it.",
    ]
    assert () == upstream.sandbox.ledger.starts
