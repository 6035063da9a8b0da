"""The official Python SDK, unmodified, through the sandbox: every flow with its sync and its async client."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import inferencesh

from tests.support.faults import FinAfter, LoseWorker, RstAfter, Status

if TYPE_CHECKING:
    from checks import Checks

    from tests.support.sandbox import Sandbox

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGP4z8DAwMAAAAkCAQEhBfBZAAAAAElFTkSuQmCC"
)
COMPLETED, CANCELLED = 10, 12
RUN_PATH = "/apps/run"


@dataclass
class Sdk:
    """One of the two clients, called in one way."""

    kind: str
    client: Any
    sandbox: Sandbox

    async def do(self, path: str, *args: Any, **kwargs: Any) -> Any:
        method = self.client
        for name in path.split("."):
            method = getattr(method, name)
        if self.kind == "async":
            return await method(*args, **kwargs)
        return await anyio.to_thread.run_sync(partial(method, *args, **kwargs))

    async def run(self, app: str, input_: Any, **more: Any) -> dict[str, Any]:
        return await self.do("tasks.run", {"app": app, "input": input_, **more})

    async def updates(self, app: str, input_: Any) -> list[dict[str, Any]]:
        asked = {"app": app, "input": input_}
        if self.kind == "async":
            return [update async for update in await self.client.run(asked, stream=True)]
        return await anyio.to_thread.run_sync(lambda: list(self.client.run(asked, stream=True)))

    async def begin(self, app: str, input_: Any) -> str:
        task = await self.do("run", {"app": app, "input": input_}, wait=False)
        return task["id"]

    async def failure(self, awaited: Awaitable[Any]) -> Exception:
        try:
            error = await awaited
        except Exception as exc:  # noqa: BLE001 - which one it is, is what the flow asks
            return exc
        raise AssertionError(f"no error, but {error!r}")


async def run_completes(sdk: Sdk) -> None:
    task = await sdk.run("sandbox/echo", {"text": "hi"})
    assert task["output"] == {"text": "hi"}
    assert task["status"] == COMPLETED


async def run_draws(sdk: Sdk) -> None:
    task = await sdk.run("sandbox/draw", {"prompt": "a lake"})
    assert task["output"]["image"].endswith(".png")
    assert len(task["logs"]) == 8


async def run_streams(sdk: Sdk) -> None:
    statuses = [update["status"] for update in await sdk.updates("sandbox/draw", {"prompt": "x"})]
    assert statuses[-1] == COMPLETED
    assert {3, 4, 5, 6, 7, 9} <= {status for status in statuses if status}


async def fire_and_forget(sdk: Sdk) -> None:
    task_id = await sdk.begin("sandbox/slow", {"seconds": 0.2, "steps": 1})
    assert (await sdk.do("tasks.get", task_id)).data["status"] < COMPLETED
    task = await sdk.do("tasks.wait_for_completion", task_id)
    assert task["output"] == {"steps": 1, "seconds": 0.2}


async def cancels(sdk: Sdk) -> None:
    task_id = await sdk.begin("sandbox/slow", {"seconds": 60})
    await sdk.do("tasks.cancel", task_id)
    error = await sdk.failure(sdk.do("tasks.wait_for_completion", task_id))
    assert "ancelled" in str(error)
    assert (await sdk.do("tasks.get", task_id)).data["status"] == CANCELLED


async def fails(sdk: Sdk) -> None:
    error = await sdk.failure(sdk.run("sandbox/fail", {"message": "no luck"}))
    assert isinstance(error, RuntimeError)
    assert "no luck" in str(error)


async def deltas(sdk: Sdk) -> None:
    updates = await sdk.updates("sandbox/stream-text", {"text": "one two three", "chunk_ms": 20})
    grown = [update["output"]["response"] for update in updates if update.get("_delta")]
    assert grown == ["one", "one two", "one two three"]
    assert updates[-1]["output"]["response"] == "one two three"


async def deltas_after_reconnect(sdk: Sdk) -> None:
    sdk.sandbox.faults.add(FinAfter(lines=5), path="/tasks/*/stream")
    task = await sdk.run("sandbox/stream-text", {"text": "one two three four five six", "chunk_ms": 400})
    assert task["output"]["response"] == "one two three four five six"


async def eof_reconnects(sdk: Sdk) -> None:
    sdk.sandbox.faults.add(FinAfter(lines=2), path="/tasks/*/stream")
    task = await sdk.run("sandbox/slow", {"seconds": 0.5, "steps": 2})
    assert task["output"] == {"steps": 2, "seconds": 0.5}


async def reset_mid_stream(sdk: Sdk) -> None:
    """The sync client reconnects; the async one gives up at once, as its source says."""
    sdk.sandbox.faults.add(RstAfter(lines=2), path="/tasks/*/stream")
    run = sdk.run("sandbox/slow", {"seconds": 0.5, "steps": 2})
    if sdk.kind == "sync":
        assert (await run)["output"] == {"steps": 2, "seconds": 0.5}
    else:
        assert type(await sdk.failure(run)).__name__ in {"ClientPayloadError", "ClientOSError", "ConnectionResetError"}


async def uploads(sdk: Sdk) -> None:
    encoded = base64.b64encode(PNG).decode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dot.png"
        path.write_bytes(PNG)
        for source in (PNG, f"data:image/png;base64,{encoded}", encoded, str(path)):
            file = await sdk.do("files.upload", source)
            task = await sdk.run("sandbox/picture-info", {"image": file["uri"]})
            assert (task["output"]["width"], task["output"]["bytes"]) == (2, len(PNG))


async def file_in_input(sdk: Sdk) -> None:
    data = "data:image/png;base64," + base64.b64encode(PNG).decode()
    task = await sdk.run("sandbox/picture-info", {"image": data})
    assert task["input"]["image"].startswith("http")
    files = (await sdk.do("tasks.files", task["id"])).data
    assert [file["role"] for file in files] == ["input", "output"]


async def deletes_files_and_task(sdk: Sdk) -> None:
    task = await sdk.run("sandbox/draw", {"prompt": "x", "width": 16, "height": 16})
    dropped = (await sdk.do("tasks.delete_files", task["id"], role="output")).data
    assert len(dropped["deleted"]) == 1
    await sdk.do("tasks.delete", task["id"])
    error = await sdk.failure(sdk.do("tasks.get", task["id"]))
    assert (error.status_code, error.code) == (404, "not_found")


async def wrong_key(sdk: Sdk) -> None:
    stranger = Sdk(sdk.kind, type(sdk.client)(api_key="nobody", base_url=sdk.client._base_url), sdk.sandbox)
    error = await sdk.failure(stranger.run("sandbox/echo", {}))
    assert (error.status_code, error.code) == (401, "unauthorized")


async def needs(sdk: Sdk) -> None:
    error = await sdk.failure(sdk.run("sandbox/needs-secret", {}))
    assert isinstance(error, inferencesh.RequirementsNotMetError)
    assert [item.type for item in error.errors] == ["secret", "credential", "scope"]
    assert [item.action.type for item in error.errors] == ["add_secret", "connect", "add_scopes"]


async def wrong_input(sdk: Sdk) -> None:
    error = await sdk.failure(sdk.run("sandbox/draw", {"prompt": "x", "width": 9999}))
    assert (error.status_code, error.code) == (400, "validation_error")
    assert "input.width" in str(error)


async def unknown_app(sdk: Sdk) -> None:
    error = await sdk.failure(sdk.run("sandbox/drow", {}))
    assert (error.status_code, error.code) == (404, "not_found")
    assert "sandbox/draw" in error.response_body


async def refused(sdk: Sdk, code: int, named: str) -> None:
    sdk.sandbox.faults.add(Status(code=code, error=named), path=RUN_PATH)
    error = await sdk.failure(sdk.run("sandbox/echo", {}))
    assert (error.status_code, error.code) == (code, named)


async def not_json(sdk: Sdk) -> None:
    sdk.sandbox.faults.add(Status(code=502, body="<html>Bad Gateway</html>"), path=RUN_PATH)
    error = await sdk.failure(sdk.run("sandbox/echo", {}))
    assert error.status_code == 502
    assert "<html>" in str(error)


async def session_remembers(sdk: Sdk) -> None:
    handle = await sdk.do("session", "sandbox/memory", function="get_all")
    inside = Sdk(sdk.kind, handle, sdk.sandbox)
    await inside.do("call", "set_value", {"key": "a", "value": [1]})
    await inside.do("call", "increment", {"key": "n", "amount": 2})
    output = await inside.do("call", "get_all")
    assert output["output"] == {"state": {"a": [1], "n": 2}, "call_count": 4}
    await inside.do("end")
    error = await sdk.failure(sdk.do("sessions.keepalive", handle.session_id))
    assert (error.status_code, error.code) == (410, "SESSION_ENDED")


async def session_management(sdk: Sdk) -> None:
    task = await sdk.run("sandbox/count", {}, session="new", session_timeout=30)
    name = task["session_id"]
    known = await sdk.do("sessions.get", name)
    assert (known["status"], known["call_count"], known["idle_timeout"]) == ("active", 1, 30)
    assert name in [item["id"] for item in await sdk.do("sessions.list")]
    assert (await sdk.do("sessions.keepalive", name))["expires_at"] >= known["expires_at"]
    await sdk.do("sessions.end", name)
    assert (await sdk.do("sessions.get", name))["status"] == "ended"


async def session_timeout(sdk: Sdk) -> None:
    task = await sdk.run("sandbox/count", {}, session="new", session_timeout=1)
    await anyio.sleep(1.1)
    error = await sdk.failure(sdk.run("sandbox/count", {}, session=task["session_id"]))
    assert (error.status_code, error.code) == (410, "SESSION_EXPIRED")


async def session_errors(sdk: Sdk) -> None:
    error = await sdk.failure(sdk.run("sandbox/count", {}, session="nowhere"))
    assert (error.status_code, error.code) == (404, "SESSION_NOT_FOUND")
    name = (await sdk.run("sandbox/count", {}, session="new"))["session_id"]
    error = await sdk.failure(sdk.run("sandbox/memory", {}, session=name))
    assert (error.status_code, error.code) == (409, "APP_MISMATCH")
    error = await sdk.failure(sdk.run("sandbox/count", {}, session=name, session_timeout=5))
    assert error.status_code == 400


async def worker_lost(sdk: Sdk) -> None:
    name = (await sdk.run("sandbox/count", {}, session="new"))["session_id"]
    sdk.sandbox.faults.add(LoseWorker(), path=RUN_PATH)
    error = await sdk.failure(sdk.run("sandbox/count", {}, session=name))
    assert "worker lost" in str(error)
    error = await sdk.failure(sdk.run("sandbox/count", {}, session=name))
    assert (error.status_code, error.code) == (500, "WORKER_LOST")


Flow = Callable[[Sdk], Awaitable[None]]
FLOWS: tuple[Flow, ...] = (
    run_completes, run_draws, run_streams, fire_and_forget, cancels, fails, deltas, deltas_after_reconnect,
    eof_reconnects, reset_mid_stream, uploads, file_in_input, deletes_files_and_task, wrong_key, needs, wrong_input,
    unknown_app, not_json, session_remembers, session_management, session_timeout, session_errors, worker_lost,
)  # fmt: skip
REFUSALS = (
    (402, "payment_required"), (403, "forbidden"), (409, "conflict"), (422, "validation_error"),
    (429, "rate_limited"), (500, "internal_error"), (503, "app_maintenance"),
)  # fmt: skip


async def judge(checks: Checks, sandbox: Sandbox, url: str, flows: tuple[Flow, ...]) -> None:
    """Run every flow with each client; the two take turns, so that neither takes the other's faults."""
    clients = (("sync", inferencesh.Inference), ("async", inferencesh.AsyncInference))
    for kind, made in clients:
        sdk = Sdk(kind, made(api_key=f"inf_python_{kind}", base_url=url), sandbox)
        title = f"py {version('inferencesh')} {kind}"
        for flow in flows:
            await checks.check(f"{title}: {flow.__name__.replace('_', ' ')}", partial(flow, sdk))
        for code, named in REFUSALS:
            await checks.check(f"{title}: {code} {named}", partial(refused, sdk, code, named))
