"""The whole client against the embedded inference.sh."""

import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.models import RunRequest
from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.api.transport import Transport
from inferencesh_sandbox import serving
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sandbox():
    return Sandbox()


@pytest.fixture
async def api(sandbox):
    async with serving(sandbox) as url:
        transport = Transport(url)
        yield Api(transport, "inf_tests")
        await transport.aclose()


async def run(api, app, **request):
    task = await api.run(RunRequest(app=app, **request))
    async with api.follow(task) as states:
        return [state async for state in states]


async def test_an_app_is_found_run_and_listed(api):
    """From the catalogue to the list of tasks."""
    page = await api.list_apps(query="echo")
    app = await api.app(AppRef.parse("sandbox/echo"))
    states = await run(api, app.ref, input={"text": "hi"})
    listed = await api.list_tasks(app=app.id)
    logs = await api.task_logs(states[-1].id)

    assert "sandbox/echo" in [item.ref for item in page.items]
    assert app.version.input_schema
    assert ("completed", app.id) == (states[-1].status, states[-1].app_id)
    assert [states[-1].id] == [task.id for task in listed.items]
    assert "completed" == logs.status
    assert app.version.id == (await api.app(AppRef.parse(f"sandbox/echo@{app.version.short_id}"))).version.id


async def test_text_arrives_as_deltas(api):
    """As deltas."""
    states = await run(api, "sandbox/stream-text", input={"text": "a few words to say"})

    assert "completed" == states[-1].status
    assert states[-1].streamed
    assert states[-1].streamed == states[-1].output["response"]


async def test_a_failure_is_a_state_and_a_missing_secret_an_error(api):
    """With what is missing."""
    assert "failed" == (await run(api, "sandbox/fail", input={}))[-1].status
    with pytest.raises(errors.RequirementsNotMet) as caught:
        await api.run(RunRequest(app="sandbox/needs-secret", input={}))
    assert caught.value.requirements[0].action
    assert "not_started" == caught.value.outcome


async def test_a_file_makes_the_round_trip(api):
    """Up, down, away."""

    async def content():
        yield b"hel"
        yield b"lo"

    file = await api.create_file(filename="a.txt", content_type="text/plain", size=5)
    await api.put_file(file, content, 5)
    async with api.download(file.uri if file.uri.startswith("http") else file.upload_url) as download:
        assert b"hello" == b"".join([chunk async for chunk in download.chunks])
    assert file.id in [item.id for item in (await api.list_files()).items]
    await api.delete_file(file.id)
    with pytest.raises(errors.NotFound):
        await api.file(file.id)


async def test_a_session_is_kept_and_ended(api):
    """Between two runs."""
    first = (await run(api, "sandbox/count", input={}, session="new", session_timeout=60))[-1]
    second = (await run(api, "sandbox/count", input={}, session=first.session_id))[-1]

    assert first.output != second.output
    assert [first.session_id] == [session.id for session in await api.sessions()]
    assert "active" == (await api.keepalive(first.session_id)).status
    await api.end_session(first.session_id)
    with pytest.raises(errors.Gone):
        await api.run(RunRequest(app="sandbox/count", input={}, session=first.session_id))


async def test_a_run_is_cancelled(api):
    """And the open stream says so."""
    task = await api.run(RunRequest(app="sandbox/slow", input={"seconds": 30}))
    async with api.follow(task) as states:
        await api.cancel(task.id)
        assert "cancelled" == [state async for state in states][-1].status


async def test_an_estimate_is_read(api):
    """In microcents."""
    app = await api.app(AppRef.parse("sandbox/echo"))

    assert (await api.estimate(app.id, {"text": "x"})).confidence in {"exact", "range", "unknown"}
