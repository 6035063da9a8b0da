"""One short method for each endpoint."""

from contextlib import suppress
from datetime import UTC, datetime

import anyio
import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.models import ConnectionRequirement, File, SecretRequirement, Session
from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.errors import Requirement, UpstreamError
from tests.api.conftest import fin, problem, rst, status

pytestmark = pytest.mark.anyio

PAGE = {"items": [], "next_cursor": None, "prev_cursor": "", "has_next": False, "items_per_page": 20}


async def test_the_catalogue_is_searched_by_the_platform(api, script):
    """Empty wishes are not sent."""
    script.on(
        "POST",
        "/apps/list",
        status(200, PAGE | {"items": [{"namespace": "a", "name": "b"}, None], "next_cursor": "c", "has_next": True}),
    )

    page = await api.list_apps(query="cat", category="image", limit=500, cursor="x")
    await api.list_apps()

    assert ["a/b"] == [app.ref for app in page.items]
    assert ("c", True) == (page.next_cursor, page.has_next)
    assert {"limit": 100, "cursor": "x", "search": {"term": "cat", "exact": False},
            "filters": [{"field": "category", "operator": "eq", "value": "image"}]} == script.requests[0].json  # fmt: skip
    assert {"limit": 20} == script.requests[1].json


async def test_no_more_apps_are_suggested_than_asked_for(api, script):
    """A platform may answer with more."""
    results = [{"type": "app", "name": f"a/b{number}"} for number in range(1_000)]
    script.on("POST", "/suggest", status(200, {"results": results}))

    assert ["a/b0", "a/b1", "a/b2"] == [result.name for result in await api.suggest_apps("cat", 3)]
    assert 100 == len(await api.suggest_apps("cat", 500))


async def test_an_app_comes_with_the_requested_version(api, script):
    """By id, by short id, or the current one."""
    script.on(
        "GET",
        "/apps/a/b",
        status(200, {"id": "i", "namespace": "a", "name": "b", "version": {"id": "v1", "short_id": "s1"}}),
    )
    script.on("GET", "/apps/i/versions/v2", status(200, {"id": "v2"}))
    script.on("POST", "/apps/i/versions/list", status(200, PAGE | {"items": [{"id": "v3", "short_id": "s3"}]}))

    assert "v1" == (await api.app(AppRef.parse("a/b"))).version.id
    assert "v1" == (await api.app(AppRef.parse("a/b@s1"))).version.id
    assert 2 == len(script.requests)
    assert "v2" == (await api.app(AppRef.parse("a/b@v2"))).version.id
    assert "v3" == (await api.app(AppRef.parse("a/b@s3"))).version.id
    with pytest.raises(errors.NotFound, match="a/b has no version s4"):
        await api.app(AppRef.parse("a/b@s4"))


async def test_an_app_without_its_version_is_completed(api, script):
    """Some servers send the id alone."""
    script.on("GET", "/apps/a/b", status(200, {"id": "i", "version_id": "v1", "version": None}))
    script.on("GET", "/apps/i/versions/v1", status(200, {"id": "v1", "functions": {"run": {"name": "run"}, "odd": None},
        "required_credentials": [{"slug": "google", "scopes": ["x"]}], "input_schema": {"type": "object"}, "variants": None}))  # fmt: skip

    version = (await api.app(AppRef.parse("a/b"))).version

    assert ({"type": "object"}, ["run"], "google") == (
        version.input_schema,
        list(version.functions),
        version.required_credentials[0].key,
    )


@pytest.mark.finding("D4")
async def test_requirements_are_checked(api, script):
    """As an answer or as a 412; with objects, and each connection by the name that its version had for it."""
    secret, google = SecretRequirement(key="K", description="for k"), ConnectionRequirement(key="google", scopes=["x"])
    missing = [{"type": "secret", "key": "K", "message": "m"}]
    script.on("POST", "/credentials/check", status(200, {"satisfied": True}), status(200, {"satisfied": False, "errors": missing}),
              status(412, {"satisfied": False, "errors": missing}))  # fmt: skip

    assert (await api.check_requirements([secret], [google], [google])).satisfied
    for _ in range(2):
        check = await api.check_requirements([secret])
        assert (False, (Requirement(kind="secret", key="K", message="m"),)) == (check.satisfied, check.missing)
    assert {
        "secrets": [{"key": "K", "description": "for k"}],
        "credentials": [{"slug": "google", "scopes": ["x"]}],
        "integrations": [{"key": "google", "scopes": ["x"]}],
    } == script.requests[0].json
    assert {"secrets": [{"key": "K", "description": "for k"}]} == script.requests[1].json


async def test_the_price_is_estimated(api, script):
    """In microcents."""
    script.on("POST", "/store/apps/i/estimate", status(200, {"confidence": "range", "min": 1, "max": 2.0}))

    estimate = await api.estimate("i", {"a": 1}, function="f")

    assert ("range", 1, 2) == (estimate.confidence, estimate.min, estimate.max)
    assert {"input": {"a": 1}, "function": "f"} == script.requests[0].json


async def test_tasks_are_listed_newest_first(api, script):
    """With the filters that were asked for."""
    script.on("POST", "/tasks/list", status(200, PAGE | {"items": [{"id": "t", "status": 10}]}))

    page = await api.list_tasks(limit=5, statuses=["completed"], app="i", since=datetime(2026, 1, 2, tzinfo=UTC))

    assert [("t", "completed", True)] == [(task.id, task.status, task.ended) for task in page.items]
    assert {
        "limit": 5,
        "filters": [
            {"field": "app_id", "operator": "eq", "value": "i"},
            {"field": "status", "operator": "in", "value": [10]},
            {"field": "created_at", "operator": "gte", "value": "2026-01-02T00:00:00Z"},
        ],
        "sort": [{"field": "created_at", "dir": "desc"}],
    } == script.requests[0].json


async def test_logs_are_read_from_either_endpoint(api, script):
    """In the task itself on older servers."""
    logs = [{"log_type": 0, "content": "a"}, {"log_type": "Task", "content": "b"}]
    script.on(
        "GET",
        "/tasks/t/logs",
        status(200, {"task_id": "t", "status": 10, "logs": logs}),
        problem(404),
        problem(405),
        problem(403),
    )
    script.on("GET", "/tasks/t", status(200, {"id": "t", "status": 10, "logs": logs}))

    for _ in range(3):
        record = await api.task_logs("t")
        assert ("completed", ["build", "task"]) == (record.status, [log.log_type for log in record.logs])
    with pytest.raises(errors.Forbidden):
        await api.task_logs("t")


async def test_a_conflict_after_a_lost_cancel_is_a_success(api, script):
    """A conflict after a lost answer is what success looks like; at once, it is news."""
    script.on("POST", "/tasks/t/cancel", rst(), problem(409))
    await api.cancel("t")
    assert {} == script.requests[0].json

    script.on("POST", "/tasks/t/cancel", problem(409))
    with pytest.raises(errors.Conflict):
        await api.cancel("t")


FILE = {"id": "f", "uri": "inf://files/f", "content_type": "text/plain"}


def content(*chunks):
    async def read():
        for chunk in chunks:
            yield chunk

    return read


async def test_a_file_is_recorded_and_sent(api, upstream, script):
    """The bytes go without the key, with their length."""
    script.on("POST", "/files", status(200, [FILE | {"upload_url": f"{upstream}/up?sig=1"}]))
    script.on("PUT", "/up?sig=1", status(200))

    file = await api.create_file(filename="a.txt", content_type="text/plain", size=4, public=True)
    await api.put_file(file, content(b"ab", b"cd"), 4)

    assert {
        "files": [{"uri": "", "filename": "a.txt", "content_type": "text/plain", "size": 4, "public": True}]
    } == script.requests[0].json
    assert (b"abcd", "4", "text/plain") == (
        script.requests[1].body,
        script.requests[1].headers["content-length"],
        script.requests[1].headers["content-type"],
    )
    assert not {"authorization", "x-api-version", "x-client-source"} & script.requests[1].headers.keys()
    assert "sig" not in repr(file)


async def test_bytes_are_read_again_for_another_attempt(api, upstream, script):
    """An address that has expired is for the caller to renew."""
    script.on("PUT", "/up", rst(), problem(500), status(200))
    file = File(upload_url=f"{upstream}/up")
    await api.put_file(file, content(b"abcd"), 4)
    assert [b"abcd"] * 3 == [request.body for request in script.requests]

    script.on("PUT", "/up", status(403, b"<Error>expired</Error>"))
    with pytest.raises(errors.Forbidden):
        await api.put_file(file, content(b"abcd"), 4)
    assert 4 == len(script.requests)


async def test_an_answer_before_the_whole_body_was_sent_is_no_success(api, upstream, script):
    """X-25: what was not sent is not stored, whatever is said before the connection is closed."""
    script.hasty = True
    script.on("PUT", "/up", status(200, length=False))

    async def read():
        attempts = len(script.requests)
        yield b"ab"
        while len(script.requests) == attempts:
            await anyio.sleep(0.005)
        while True:
            yield bytes(64 * 1024)

    with pytest.raises(errors.Unavailable):
        await api.put_file(File(upload_url=f"{upstream}/up"), read, 2**40)
    assert 3 == script.count("PUT", "/up")


@pytest.mark.parametrize("chunks", [(b"abc",), (b"abc", b"de"), ()])
async def test_a_file_that_changes_is_not_stored(api, upstream, script, chunks):
    """X-26: the length was promised."""
    script.on("PUT", "/up", status(200))

    with pytest.raises(errors.FileRefused, match="changed"):
        await api.put_file(File(upload_url=f"{upstream}/up"), content(*chunks), 4)
    assert [] == script.requests


async def test_a_file_is_downloaded(api, upstream, script):
    """Without the key; retried until it is there."""
    script.on("GET", "/f", problem(503), status(200, b"hello", [("content-type", "text/plain")]))

    async with api.download(f"{upstream}/f") as download:
        assert (5, "text/plain") == (download.size, download.content_type)
        assert b"hello" == b"".join([chunk async for chunk in download.chunks])
    assert not any("authorization" in request.headers for request in script.requests)


@pytest.mark.parametrize(
    ("play", "kind"),
    [
        (problem(404), "NotFound"),
        (status(302, b"", [("location", "http://127.0.0.1/")]), "FileRefused"),
        (status(200, b"x", [("content-encoding", "gzip")]), "UpstreamError"),
        (fin(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"), "Unavailable"),
    ],
)
async def test_an_error_or_a_compressed_download_is_refused(api, upstream, script, play, kind):
    """Nor is half a file a file."""
    script.on("GET", "/f", play)

    with pytest.raises(getattr(errors, kind)):
        async with api.download(f"{upstream}/f") as download:
            [chunk async for chunk in download.chunks]


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "file:///etc/passwd",
        "https://[::ffff:10.0.0.1]/",
    ],
)
async def test_private_addresses_are_not_fetched(api, url):
    """T-8, T-9."""
    with pytest.raises(errors.FileRefused):
        async with api.download(url):
            pass


async def test_leaving_a_download_closes_it(api, upstream, script):
    """There and then, with most of it unread."""
    gone = anyio.Event()

    async def endless(stream):
        with suppress(anyio.BrokenResourceError):
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\nx")
            with suppress(anyio.EndOfStream):
                await stream.receive()
        gone.set()

    script.on("GET", "/f", endless)
    async with api.download(f"{upstream}/f") as download:
        assert b"x" == await anext(download.chunks)

    with anyio.fail_after(2):
        await gone.wait()


async def test_files_are_listed_read_and_deleted(api, script):
    """By id."""
    script.on("POST", "/files/list", status(200, PAGE | {"items": [FILE]}))
    script.on("GET", "/files/f", status(200, FILE))
    script.on("DELETE", "/files/f", status(204))

    assert ["f"] == [file.id for file in (await api.list_files()).items]
    assert "inf://files/f" == (await api.file("f")).uri
    await api.delete_file("f")
    assert "DELETE" == script.requests[-1].method


async def test_sessions_are_listed_read_extended_and_ended(api, script):
    """A plain array, here."""
    session = {"id": "s", "status": "active", "expires_at": "2026-01-02T03:04:05Z", "call_count": 1}
    script.on("GET", "/sessions", status(200, [session]))
    script.on("GET", "/sessions/s", status(200, session))
    script.on("POST", "/sessions/s/keepalive", status(200, session))
    script.on("DELETE", "/sessions/s", status(204))
    expected = Session(id="s", status="active", expires_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), call_count=1)

    assert [expected] == await api.sessions()
    assert expected == await api.session("s")
    assert expected == await api.keepalive("s")
    await api.end_session("s")


@pytest.mark.parametrize(
    ("code", "name", "kind"),
    [
        (404, "SESSION_NOT_FOUND", "SessionNotFound"),
        (410, "SESSION_EXPIRED", "SessionExpired"),
        (410, "SESSION_ENDED", "SessionEnded"),
        (500, "WORKER_LOST", "WorkerLost"),
    ],
)
async def test_a_lost_session_says_so(api, script, code, name, kind):
    """And what to do."""
    script.on("GET", "/sessions/s", problem(code, type=f"https://api.inference.sh/errors/{name}"))

    with pytest.raises(getattr(errors, kind)) as caught:
        await api.session("s")

    assert (name, True) == (caught.value.upstream_code, 'session="new"' in caught.value.next_step)


async def test_hostile_ids_send_nothing(api, script):
    """T-11, for every method that takes one."""
    takers = [
        api.task,
        api.task_logs,
        api.cancel,
        api.file,
        api.delete_file,
        api.session,
        api.keepalive,
        api.end_session,
    ]
    for take in takers:
        for value in ("../x", "a/b", "", "a?b", "%2e%2e"):
            with pytest.raises(errors.InvalidInput):
                await take(value)
    assert [] == script.requests


async def test_a_warning_of_the_api_is_logged_once(api, transport, script, caplog):
    """Once each."""
    message = {"level": "warning", "code": "c", "message": "this version is old"}
    script.on("GET", "/tasks/t", status(200, {"data": {"id": "t"}, "messages": [message, message]}))

    await api.task("t")
    await Api(transport, "inf_another").task("t")

    assert ["inference.sh warns: this version is old"] == [
        record.getMessage() for record in caplog.records if record.levelname == "WARNING"
    ]


@pytest.mark.parametrize("value", [None, [], 3, "x", {}, {"id": None}])
async def test_an_answer_without_a_task_is_an_error(api, script, value):
    """And not half read."""
    script.on("GET", "/tasks/t", status(200, value))

    with pytest.raises(errors.UpstreamError, match="not a task"):
        await api.task("t")


async def test_an_odd_task_is_read_as_far_as_it_goes(api, script):
    """Nothing but its id is needed."""
    script.on("GET", "/tasks/7", status(200, {"id": 7, "status": {}, "logs": "x", "events": [None, 3, {"status": 7}], "error": {"a": 1},
        "created_at": "yesterday", "updated_at": "0001-01-01T00:00:00Z", "usage_events": [{"quantity": "many"}], "app": 3}))  # fmt: skip

    task = await api.task("7")

    assert ("7", "unknown", '{"a": 1}', None, None) == (
        task.id,
        task.status,
        task.error,
        task.created_at,
        task.updated_at,
    )
    assert ((), None) == (task.logs, task.app)


async def test_a_different_task_is_an_error(api, script):
    """What is told of the wrong task would hide the id of a paid one. A short id is a name of the same task."""
    script.on("GET", "/tasks/t", status(200, {"id": "u", "status": 10}))
    script.on("GET", "/tasks/s", status(200, {"id": "long", "short_id": "s", "status": 10}))

    with pytest.raises(UpstreamError, match="a different task"):
        await api.task("t")
    assert "long" == (await api.task("s")).id
