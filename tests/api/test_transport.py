"""Calls over a real loopback connection, with everything going wrong."""

import logging
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from inferencesh_mcp import errors
from inferencesh_mcp.api import responses
from inferencesh_mcp.api import transport as api_transport
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.models import RunRequest
from inferencesh_mcp.api.retry import Operation
from inferencesh_mcp.api.transport import Key, Transport
from tests.api.conftest import KEY, fin, problem, refused, rst, status
from tests.conftest import listening, until

pytestmark = pytest.mark.anyio

RUN = RunRequest(app="infsh/echo", input={"a": 1})
POST = ("POST", "/apps/run")
GET = ("GET", "/tasks/t1")
TASK = {"id": "t1", "status": 1}
GZIP = [("content-encoding", "gzip")]


async def test_a_run_is_one_post_with_the_allowed_fields_alone(api, script):
    """With our headers, and the key in the one that is for it."""
    script.on(*POST, status(200, TASK))

    task = await api.run(
        RunRequest(
            app="a/b",
            input={},
            function="f",
            setup={"s": 1},
            infra="cloud",
            variant="v",
            session="new",
            session_timeout=60,
        )
    )

    assert ("t1", "received") == (task.id, task.status)
    assert 1 == len(script.requests)
    request = script.requests[0]
    assert {"app": "a/b", "input": {}, "function": "f", "setup": {"s": 1}, "infra": "cloud", "variant": "v", "session": "new",
            "session_timeout": 60} == request.json  # fmt: skip
    assert {
        "accept": "application/json", "accept-encoding": "identity", "user-agent": "inferencesh-mcp/9", "x-api-version": "2",
        "x-client-source": "inferencesh-mcp/9", "authorization": f"Bearer {KEY}", "content-type": "application/json",
    }.items() <= request.headers.items()  # fmt: skip
    with pytest.raises(ValueError, match="webhook"):
        RunRequest(app="a/b", input={}, webhook="https://x")


AMBIGUOUS = {
    "reset": rst(),
    "closed": fin(),
    "reset amid the head": rst(b"HTTP/1.1 200 OK\r\nconte"),
    "cut amid the body": fin(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
    "500": problem(500),
    "502 page": status(502, b"<html>"),
    "503 without Retry-After": problem(503),
    "503 page with Retry-After": status(503, b"<html>", [("retry-after", "1")]),
    "no JSON": status(200, b"<html>"),
    "empty": status(200),
    "no id": status(200, {"status": 1}),
    "a list": status(200, [1]),
    "compressed": status(200, TASK, GZIP),
    "success that failed": status(200, {"success": False}),
    "NaN": status(200, b'{"id":"t","status":NaN}'),
    "no HTTP": fin(b"hello\r\n\r\n"),
    "switching": status(101),
}


@pytest.mark.parametrize("play", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_a_run_whose_answer_is_lost_is_never_sent_again(api, script, play):
    """X-3, X-4, X-15, X-16: the outcome is unknown, and says when it was sent."""
    script.on(*POST, play)

    error = await refused(api.run(RUN), errors.OutcomeUnknown)

    assert 1 == script.count(*POST)
    assert ("unknown", False) == (error.outcome, error.retry_safe)
    assert timedelta(0) <= datetime.now(UTC) - error.sent_at < timedelta(seconds=20)
    assert "<html" not in error.message


REFUSALS = {
    301: "UpstreamError", 307: "UpstreamError", 308: "UpstreamError", 400: "InvalidInput", 401: "KeyRefused",
    402: "PaymentRequired", 403: "Forbidden", 404: "NotFound", 405: "UpstreamError", 409: "Conflict", 410: "Gone", 422: "InvalidInput",
}  # fmt: skip


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refused_run_did_not_start(api, script, code):
    """X-17: typed, asked once, and safe to ask again. A redirect is refused too."""
    script.on(*POST, problem(code, headers=[("location", "/elsewhere")]))

    error = await refused(api.run(RUN), getattr(errors, REFUSALS[code]))

    assert ("not_started", True, code) == (error.outcome, error.retry_safe, error.status)
    assert 1 == len(script.requests)


@pytest.mark.parametrize(
    "refusal",
    [
        problem(429, headers=[("retry-after", "2")]),
        problem(503, headers=[("retry-after", "2")]),
        status(429, b"x", [("retry-after", "2")]),
    ],
)
async def test_a_run_refused_for_load_is_sent_again_after_retry_after(api, script, time, refusal):
    """X-13: one start, after the two seconds that were asked for."""
    script.on(*POST, refusal, status(200, TASK))

    assert "t1" == (await api.run(RUN)).id
    assert [2.0] == time.slept
    assert 2 == len(script.requests)


async def test_a_date_in_retry_after_is_respected(api, script, time):
    """The other form of the header."""
    when = (datetime.now(UTC) + timedelta(seconds=10)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    script.on(*POST, problem(429, headers=[("retry-after", when)]), status(200, TASK))

    await api.run(RUN)

    assert 7 < time.slept[0] <= 10


async def test_three_refusals_for_load_are_a_rate_limit_error(api, script, time):
    """X-14: three attempts."""
    script.on(*POST, problem(429))

    error = await refused(api.run(RUN), errors.RateLimited)

    assert (3, "not_started", True) == (script.count(*POST), error.outcome, error.retry_safe)
    assert [0.5, 1.0] == time.slept


async def test_a_pause_longer_than_the_call_ends_it_at_once(api, script, time):
    """A pause that outlasts the call ends it at once, and tells how long."""
    script.on(*POST, problem(429, headers=[("retry-after", "3600")]))

    error = await refused(api.run(RUN), errors.RateLimited)

    assert ([], 3600.0) == (time.slept, error.retry_after)


async def test_a_run_that_was_never_sent_did_not_start(time, free_port):
    """X-1: refused connections are tried three times."""
    transport = Transport(f"http://127.0.0.1:{free_port}", sleep=time.sleep, random=lambda: 0.5, clock=time.clock)

    error = await refused(Api(transport, KEY).run(RUN), errors.Unavailable)

    assert ("not_started", True) == (error.outcome, error.retry_safe)
    assert [0.025, 0.05] == time.slept
    await transport.aclose()


@pytest.mark.parametrize(
    "play", [rst(), fin(), problem(500), status(502, b"<html>"), problem(503), problem(504), problem(429)]
)
async def test_a_read_is_repeated(api, script, play):
    script.on(*GET, play, play, status(200, TASK))

    assert "t1" == (await api.task("t1")).id
    assert 3 == script.count(*GET)


@pytest.mark.parametrize(
    ("play", "kind"),
    [
        (rst(), "Unavailable"),
        (problem(500), "Unavailable"),
        (status(429), "RateLimited"),
        (status(503, b"<b>"), "Unavailable"),
    ],
)
async def test_a_read_fails_after_three_attempts(api, script, play, kind):
    """With the error of the last."""
    script.on(*GET, play)

    await refused(api.task("t1"), getattr(errors, kind))

    assert 3 == script.count(*GET)


@pytest.mark.parametrize(
    "play",
    [problem(404), problem(401), status(302, b"", [("location", "/x")]), status(200, b"x"), status(200, TASK, GZIP)],
)
async def test_a_refused_read_is_not_repeated(api, script, play):
    """Nor one whose answer is no use; and redirects are not followed."""
    script.on(*GET, play)

    with pytest.raises(errors.InferenceError):
        await api.task("t1")
    assert 1 == len(script.requests)


async def test_the_budget_of_retries_runs_out(api, script):
    """When the API is down, calls soon fail at their first attempt (retry amplification)."""
    script.on(*GET, problem(500))
    for _ in range(20):
        await refused(api.task("t1"), errors.Unavailable)

    assert 20 + 35 == script.count(*GET)


async def test_each_caller_has_a_budget_of_its_own(transport, script):
    """One tenant's storm costs another nothing."""
    script.on(*GET, problem(500))
    for _ in range(20):
        await refused(Api(transport, "inf_a").task("t1"), errors.Unavailable)
    before = len(script.requests)

    await refused(Api(transport, "inf_b").task("t1"), errors.Unavailable)

    assert 3 == len(script.requests) - before


async def test_an_answer_over_16_mib_is_refused(api, script):
    """At 16 MiB, without asking again."""
    script.on(*GET, status(200, b'"' + b"x" * (16 * 1024 * 1024) + b'"'))

    error = await refused(api.task("t1"), errors.UpstreamError)

    assert ("inference.sh's answer is larger than 16 MiB", 1) == (error.message, len(script.requests))


async def test_a_large_error_is_read_in_part(api, script):
    """Its status is answer enough."""
    script.on(*GET, status(404, b"x" * 300_000))

    await refused(api.task("t1"), errors.NotFound)


async def test_the_clock_of_the_api_is_known(api, transport, script):
    """From the Date header, for the search for a lost run (X-42)."""
    when = (datetime.now(UTC) + timedelta(minutes=10)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    script.on(*GET, status(200, TASK, [("date", when)]))
    assert timedelta() == transport.skew

    await api.task("t1")

    assert timedelta(minutes=9, seconds=50) < transport.skew < timedelta(minutes=10, seconds=1)


async def test_the_proxy_gets_the_target_and_no_key(upstream, script, time):
    """The official SDKs' proxy mode: the proxy has the key."""
    transport = Transport(
        "https://api.inference.sh", proxy_url=f"{upstream}/api/proxy", sleep=time.sleep, clock=time.clock
    )
    script.on("GET", "/api/proxy", status(200, TASK))
    target = "https%3A%2F%2Fapi.inference.sh%2Ftasks%2Ft1%2Fstream"
    script.on("GET", f"/api/proxy?__inf_target={target}", status(200, b""))

    await Api(transport, None).task("t1")
    async with transport.stream("/tasks/t1/stream", Key(KEY)) as chunks:
        assert [] == [chunk async for chunk in chunks]

    assert "https://api.inference.sh/tasks/t1" == script.requests[0].headers["x-inf-target-url"]
    assert "authorization" not in script.requests[0].headers
    assert "https://api.inference.sh/tasks/t1/stream" == script.requests[1].headers["x-inf-target-url"]
    assert f"Bearer {KEY}" == script.requests[1].headers["authorization"]
    await transport.aclose()


async def test_a_path_cannot_leave_the_base(upstream, script):
    """The last fence, behind the patterns (I-19)."""
    transport = Transport(f"{upstream}/v9")
    script.on("GET", "/v9/a", status(200, {"a": 1}))
    for path in ("@evil.example/x", "/../x", "/a/../../x", ".evil.example/", "x"):
        with pytest.raises(errors.InvalidInput):
            await transport.call(Operation.READ, "GET", path, None)

    assert {"a": 1} == await transport.call(Operation.READ, "GET", "/a", None)
    assert ["/v9/a"] == [request.path for request in script.requests]
    await transport.aclose()


async def test_the_key_shows_nowhere(api, transport, script, caplog):
    """Not in an error, a repr or a log line, with everything at DEBUG (I-11)."""
    caplog.set_level(logging.DEBUG)
    script.on(*POST, problem(400, f"bad key {KEY} in https://s3.example/x?sig={KEY}"))
    script.on(*GET, rst(), problem(500, f"Bearer {KEY}"))
    texts = [repr(api), repr(transport), repr(Key(KEY)), str(Key(KEY)), repr(vars(api))]
    for call in (api.run(RUN), api.task("t1")):
        with pytest.raises(errors.InferenceError) as caught:
            await call
        error = caught.value
        texts += [repr(error), str(error), repr(vars(error)), repr(error.__cause__), repr(error.__context__)]

    assert "CANARY" not in "".join(texts) + caplog.text
    assert "attempt 1 failed" in caplog.text


@pytest.mark.parametrize("key", ["inf_a b", "inf_a\n", "inf_ü", "inf_\x00", " inf_a", "x" * 600])
async def test_text_that_cannot_be_a_key_is_refused_before_it_is_sent(key, transport):
    """And not quoted."""
    with pytest.raises(errors.KeyRefused) as caught:
        Api(transport, key)

    assert key not in caught.value.message


async def test_without_a_key_the_error_says_where_to_get_one(transport, script):
    """And nothing is sent."""
    api = Api(transport, None)

    error = await refused(api.run(RUN), errors.KeyMissing)

    assert "https://inference.sh" in error.next_step
    assert "INFERENCE_API_KEY" in error.next_step
    assert "not_started" == error.outcome
    assert [] == script.requests


async def test_cancelling_a_call_closes_its_connection(api, script):
    """There and then (I-22)."""
    received, closed = anyio.Event(), anyio.Event()

    async def hang(stream):
        received.set()
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
        closed.set()

    script.on(*GET, hang)
    async with anyio.create_task_group() as calls:
        calls.start_soon(api.task, "t1")
        await received.wait()
        calls.cancel_scope.cancel()

    with anyio.fail_after(2):
        await closed.wait()


async def test_a_call_ends_at_its_deadline(upstream, script, time):
    """X-18: also when bytes keep dripping. The clock says that no time is left."""

    async def drip(stream):
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:
            await stream.send(b" ")
            await anyio.sleep(0.01)

    script.on(*GET, drip)
    ticks = iter([0.0, 59.9])
    transport = Transport(upstream, sleep=time.sleep, clock=lambda: next(ticks, 60.0))

    await refused(Api(transport, KEY).task("t1"), errors.TimedOut)
    await transport.aclose()


async def test_nothing_is_opened_before_the_first_call(upstream, script):
    """Making one is free."""
    Transport(upstream)
    await anyio.wait_all_tasks_blocked()

    assert 0 == script.connections


@pytest.mark.finding("S4")
async def test_a_limited_number_of_large_answers_is_read_at_a_time(monkeypatch):
    """The others wait for a place. A small one is never behind them."""
    monkeypatch.setattr(responses, "LARGE_BODY", 10_000)
    monkeypatch.setattr(api_transport, "MAX_LARGE_ANSWERS", 2)
    waiting, release = 0, anyio.Event()

    async def large(_):
        async def body():
            nonlocal waiting
            yield b'{"a": "' + b"x" * 20_000
            waiting += 1
            await release.wait()
            yield b'"}'

        return StreamingResponse(body(), media_type="application/json")

    async def small(_):
        return Response(b'{"a": 1}', media_type="application/json")

    done = []
    async with listening(Starlette(routes=[Route("/large", large), Route("/small", small)])) as url:
        transport = Transport(url)

        async def ask(path):
            done.append(await transport.call(Operation.READ, "GET", path, None))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask, "/large")
            await until(lambda: waiting == 5)
            await until(lambda: transport._large_answers.value == 0)
            waiting_answers = transport._large_answers.statistics().tasks_waiting
            await ask("/small")
            before = list(done)
            release.set()
        await transport.aclose()

    assert ([{"a": 1}], 6) == (before, len(done))
    assert waiting_answers <= 3
