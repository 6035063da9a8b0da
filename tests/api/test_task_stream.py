"""A run is followed to its end, whatever happens to the stream."""

import logging

import anyio
import anyio.lowlevel
import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api import transport
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.models import Task
from inferencesh_mcp.api.stream import MAX_TEXT_LENGTH
from inferencesh_mcp.api.task_stream import merge
from inferencesh_mcp.api.transport import Transport
from tests.api.conftest import KEY, lines, problem, rst, status

pytestmark = pytest.mark.anyio

STREAM = ("GET", "/tasks/t1/stream")
STATUS = ("GET", "/tasks/t1/status")
GET = ("GET", "/tasks/t1")
STARTED = Task(id="t1", status=1)
RUNNING = {"id": "t1", "status": 7, "input": {"a": 1}, "output": None, "logs": []}
DONE = {"id": "t1", "status": 10, "input": {"a": 1}, "output": {"b": 2}, "logs": []}
BEAT = {"type": "heartbeat"}


def step(number):
    return {"data": {"logs": [{"log_type": 1, "content": "x" * number}]}, "fields": ["logs"]}


async def states_of(following):
    async with following as states:
        return [state async for state in states]


async def test_a_whole_run_costs_one_stream_and_one_read(api, script):
    """And every change is told that did not come with the next, the end last and as the API has it on record."""
    news = RUNNING, BEAT, step(1), {"data": {"status": 9}, "fields": ["status"]}, DONE | {"output": "stale"}
    script.on(*STREAM, lines(*news, end="eof", slice_of=3))
    script.on(*GET, status(200, DONE))

    states = await states_of(api.follow(STARTED))

    assert ["running", "running", "uploading", "completed"] == [state.status for state in states]
    assert "x" == states[1].logs[0].content
    assert {"b": 2} == states[-1].output
    assert [STREAM, GET] == [(request.method, request.path) for request in script.requests]
    assert "application/x-ndjson" == script.requests[0].headers["accept"]


async def test_lines_that_arrive_together_make_one_state(api, script):
    script.on(*STREAM, lines(RUNNING, step(1), step(2), end="eof"))
    script.on(*GET, status(200, DONE))

    running, completed = await states_of(api.follow(STARTED))

    assert ("running", "xx", "completed") == (running.status, running.logs[0].content, completed.status)


async def test_a_list_is_always_the_newest_one(api, script):
    """Whatever of it was told before: logs are longer, replaced, odd, fewer, and gone."""
    logs_over_time = [["a"], ["a", "b"], ["a", "c", "b"], [3, "a", "c"], ["a", "d"], ["c"], []]
    news = [
        {"data": {"logs": [log if log == 3 else {"log_type": 1, "content": log} for log in logs]}, "fields": ["logs"]}
        for logs in logs_over_time
    ]
    script.on(*STREAM, lines(*news, DONE, slice_of=3))
    script.on(*GET, status(200, DONE))

    *states, _ = await states_of(api.follow(STARTED))

    assert [[log for log in logs if log != 3] for logs in logs_over_time] == [
        [log.content for log in state.logs] for state in states
    ]


@pytest.mark.parametrize(
    "form",
    [
        lambda task: task,
        lambda task: {"success": True, "status": 200, "data": task},
        lambda task: {"data": task, "messages": []},
    ],
)
async def test_all_three_forms_of_an_answer_are_read(api, script, form):
    """Of the API's answers."""
    script.on(*STREAM, lines(form(DONE)))
    script.on(*GET, status(200, form(DONE)))

    assert ["completed"] == [state.status for state in await states_of(api.follow(STARTED))]


async def test_a_run_that_has_ended_needs_no_stream(api, script):
    """X-12: one read confirms it."""
    script.on(*GET, status(200, DONE))

    assert [{"b": 2}] == [state.output for state in await states_of(api.follow(Task(id="t1", status=10)))]
    assert 1 == len(script.requests)


CUTS = {
    "before any line": lambda end: lines(end=end),
    "after one": lambda end: lines(RUNNING, end=end),
    "right before the end": lambda end: lines(RUNNING, step(1), step(2), end=end),
    "amid a line": lambda end: lines(RUNNING, b'{"id":"t1","sta', end=end),
}


@pytest.mark.parametrize("end", ["eof", "fin", "rst"])
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_a_broken_stream_is_reopened_after_a_read(api, script, cut, end):
    """X-6, X-7: neither an error nor a result."""
    script.on(*STREAM, cut(end), lines(DONE, end="eof"))
    script.on(*GET, status(200, RUNNING), status(200, DONE))

    states = await states_of(api.follow(STARTED))

    assert "completed" == states[-1].status
    assert 1 == sum(state.ended for state in states)
    assert [STREAM, GET, STREAM, GET] == [(request.method, request.path) for request in script.requests]


async def test_the_end_of_a_stream_is_confirmed(api, script):
    """The run ended while nobody listened."""
    script.on(*STREAM, lines(RUNNING, end="eof"))
    script.on(*GET, status(200, DONE))

    assert ["running", "completed"] == [state.status for state in await states_of(api.follow(STARTED))]


async def test_a_stream_cannot_end_a_run_that_goes_on(api, script):
    """I-4: only the record can."""
    script.on(*STREAM, lines(DONE), lines(DONE))
    script.on(*GET, status(200, RUNNING), status(200, DONE | {"status": 11, "error": "boom"}))

    states = await states_of(api.follow(STARTED))

    assert ["running", "failed"] == [state.status for state in states]
    assert "boom" == states[-1].error


async def test_the_record_replaces_what_the_stream_said(api, script):
    """What the stream said and the record does not is not in the result."""
    script.on(*STREAM, lines(RUNNING | {"error": "a slip"}, DONE, slice_of=3))
    script.on(*GET, status(200, DONE))

    assert ["a slip", ""] == [state.error for state in await states_of(api.follow(STARTED))]


async def test_polling_alone_asks_for_the_status(api, script, time):
    """`stream=False`: the whole task is read when the status has changed, and no stream is opened."""
    script.on(*STATUS, *[status(200, {"status": code}) for code in (1, 7, 7, 10)])
    script.on(*GET, status(200, RUNNING), status(200, DONE))

    states = await states_of(api.follow(STARTED, stream=False, poll_interval=5.0))

    assert ["running", "completed"] == [state.status for state in states]
    assert (0, 4, 2) == (script.count(*STREAM), script.count(*STATUS), script.count(*GET))
    assert 4 == time.slept.count(5.0)


@pytest.mark.parametrize(("code", "kind"), [(401, "KeyRefused"), (403, "Forbidden"), (404, "NotFound")])
async def test_an_error_that_waiting_cannot_cure_has_the_tasks_id(api, script, code, kind):
    """With the task's id."""
    script.on(*STREAM, problem(code))
    script.on(*GET, problem(code))

    with pytest.raises(getattr(errors, kind)) as caught:
        await states_of(api.follow(STARTED))

    assert "t1" == caught.value.task_id


async def test_a_giant_line_ends_the_stream(api, script):
    """X-9: at 4 MiB; the record decides."""
    script.on(*STREAM, lines(RUNNING, b"x" * (6 * 1024 * 1024), end="hang"))
    script.on(*GET, status(200, DONE))

    assert ["running", "completed"] == [state.status for state in await states_of(api.follow(STARTED))]


async def test_odd_lines_are_counted_and_skipped(api, script, caplog):
    """X-8, X-10, X-11: and counted in the log."""
    caplog.set_level(logging.DEBUG, "inferencesh_mcp")
    script.on(
        *STREAM,
        lines(
            RUNNING,
            b'\n\r\n: x\nnull\n[1]\n{"a":NaN}\n',
            {"id": "t1", "status": "warp\x1b\u202e drive", "new": 1},
            {"id": "t1", "status": 42},
            {"event": "x"},
            DONE,
            RUNNING,
            slice_of=3,
        ),
    )
    script.on(*GET, status(200, DONE))

    assert ["running", "warp__drive", "status 42", "completed"] == [
        state.status for state in await states_of(api.follow(STARTED))
    ]
    assert "2 bad" in caplog.text


@pytest.mark.parametrize("end", [10, 11, 12])
async def test_text_that_comes_with_the_end_is_kept(api, script, end):
    """The record of a run whose answer is only streamed has no output."""
    deltas = [{"event": "delta", "data": {"delta": text}} for text in ("b", "c")]
    script.on(*STREAM, lines(RUNNING, *deltas, {"data": {"status": end}, "fields": ["status"]}, end="eof"))
    script.on(*GET, status(200, RUNNING | {"status": end}))

    assert "bc" == (await states_of(api.follow(STARTED)))[-1].streamed


async def test_a_null_in_the_record_of_a_live_run_clears_the_field(api, script):
    script.on(*STREAM, lines(RUNNING, {"data": {"error": "x"}, "fields": ["error"]}, end="eof"))
    script.on(*GET, status(200, RUNNING | {"error": None}), status(200, DONE))
    script.on(*STREAM, lines(DONE, end="eof"))

    states = await states_of(api.follow(STARTED))

    assert "" == states[-2].error


async def test_entries_that_each_line_repeats_are_parsed_once(api, script):
    """A line repeats all that a run wrote."""
    entries = [{"log_type": number, "content": str(number)} for number in range(20)]
    growing = [{"data": {"logs": entries[:count]}, "fields": ["logs"]} for count in (1, 10, 20)]
    changed = {"data": {"logs": [{"log_type": 0, "content": "new"}, *entries[1:]]}, "fields": ["logs"]}
    script.on(*STREAM, lines(RUNNING, *growing, changed, end="eof", slice_of=3))
    script.on(*GET, status(200, DONE))

    *_, fewer, whole, last, _ = await states_of(api.follow(STARTED))

    assert [str(number) for number in range(20)] == [entry.content for entry in whole.logs]
    assert all(before is after for before, after in zip(fewer.logs, whole.logs, strict=False))
    assert ("new", whole.logs[1]) == (last.logs[0].content, last.logs[1])


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"logs": [{"log_type": 1, "content": "new"}], "status": 7}, "fields": ["status"]},
        {"data": {"id": "t2", "logs": [{"log_type": 1, "content": "new"}]}},
    ],
)
async def test_a_list_that_a_line_does_not_bring_is_not_taken_for_the_known_one(api, script, other):
    """The line does not name it, or is about another task. The next line brings the same list."""
    news = {"data": {"logs": [{"log_type": 1, "content": "new"}]}, "fields": ["logs"]}
    script.on(*STREAM, lines(RUNNING, step(1), other, news, end="eof", slice_of=3))
    script.on(*GET, status(200, DONE))

    states = await states_of(api.follow(STARTED))

    assert "new" == states[-2].logs[0].content


async def test_deltas_are_the_streamed_text(api, script):
    """Until the record says what the output is; and the text stays known."""
    script.on(
        *STREAM,
        lines(
            RUNNING,
            *({"event": "delta", "data": {"delta": {"response": text}, "seq": 1}} for text in ("Hel", "lo")),
            DONE,
            slice_of=3,
        ),
    )
    script.on(*GET, status(200, DONE))

    assert ["", "Hel", "Hello", "Hello"] == [state.streamed for state in await states_of(api.follow(STARTED))]


async def test_polling_replaces_a_stream_without_a_free_slot(upstream, script, time, monkeypatch):
    """Past the most that may be open at once, nobody waits in silence."""
    monkeypatch.setattr(transport, "MAX_STREAMS", 0)
    monkeypatch.setattr(transport, "OPEN_SECONDS", 0.01)
    network = Transport(upstream, sleep=time.sleep, random=lambda: 0.5, clock=time.clock)
    api = Api(network, KEY)
    script.on(*GET, *[status(200, RUNNING)] * 3, status(200, DONE))
    script.on(*STATUS, status(200, {"status": 10}))

    with anyio.fail_after(10):
        assert "completed" == (await states_of(api.follow(STARTED)))[-1].status
    assert STREAM not in [(request.method, request.path) for request in script.requests]
    await network.aclose()


async def test_a_stream_that_only_repeats_itself_is_slowed_down(api, script, time):
    """A snapshot and an end, again and again, is no event: the pauses grow, then polling takes over."""
    script.on(*STREAM, lines(RUNNING, end="eof"))
    script.on(*GET, *[status(200, RUNNING)] * 9, status(200, DONE))
    script.on(*STATUS, *[status(200, {"status": 7})] * 40, status(200, {"status": 10}))

    states = await states_of(api.follow(STARTED))

    assert ["running", "completed"] == [state.status for state in states]
    assert sorted(time.slept[:5]) == time.slept[:5]
    assert 40 < sum(time.slept)


async def test_a_stream_with_old_news_only_is_slowed_down(api, script, time):
    """A first line that differs from the record in its time alone, again and again, is no event either."""
    script.on(*STREAM, lines(RUNNING | {"updated_at": "2026-01-02T03:04:05Z"}, end="eof"))
    script.on(*GET, *[status(200, RUNNING | {"updated_at": "2026-01-02T03:04:06Z"})] * 9, status(200, DONE))
    script.on(*STATUS, *[status(200, {"status": 7})] * 40, status(200, {"status": 10}))

    assert "completed" == (await states_of(api.follow(STARTED)))[-1].status
    assert 40 < sum(time.slept)


async def test_the_key_is_not_in_the_log(api, script, caplog):
    """With everything at DEBUG."""
    caplog.set_level(logging.DEBUG)
    script.on(*STREAM, rst(), lines(RUNNING, DONE))
    script.on(*GET, problem(500), status(200, RUNNING), status(200, DONE))

    await states_of(api.follow(STARTED))

    assert "t1" in caplog.text
    assert "CANARY" not in caplog.text


@pytest.mark.finding("D12")
@pytest.mark.parametrize(("runs", "seconds"), [(1, 2.0), (20, 2.0), (32, 3.2)])
async def test_polled_runs_of_one_key_share_its_rate_limit(upstream, script, runs, seconds):
    """The platform takes a thousand reads a minute: with these pauses there are at most six hundred."""
    slept = []

    async def sleep(pause):
        slept.append(pause)
        await anyio.lowlevel.checkpoint()

    network = Transport(upstream, sleep=sleep, random=lambda: 0.5)
    for number in range(runs):
        script.on("GET", f"/tasks/t{number}/status", status(200, {"id": f"t{number}", "status": 7}))

    async def attend(key, number, poll_interval):
        task = Task(id=f"t{number}", status="running")
        async with Api(network, key).follow(task, stream=False, poll_interval=poll_interval) as states:
            async for _ in states:
                pytest.fail("nothing has changed")

    async with anyio.create_task_group() as group:
        for number in range(runs):
            group.start_soon(attend, KEY, number, 2.0)
        group.start_soon(attend, f"{KEY}_other", 0, 1.5)
        with anyio.fail_after(60):
            while len(slept) < 5 * runs or slept.count(1.5) < 3:
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    await network.aclose()

    # The first pauses are of those who were there by then; another key's polls are counted for themselves.
    assert {seconds, 1.5} == {round(pause, 6) for pause in slept[runs + 1 :]}


RECORD = {"id": "t", "short_id": "s", "status": 7, "input": {"a": 1}, "output": None}
TASK = Task.model_validate(RECORD)
CHANGES = {
    "heartbeat": ({"type": "heartbeat"}, {}),
    "bare whole": ({"id": "t", "status": 9, "output": 1}, {"status": 9, "output": 1}),
    "by its short id": ({"id": "s", "status": 9}, {"status": 9}),
    "slim": ({"status": "uploading"}, {"status": "uploading"}),
    "named fields": ({"data": {"status": 9, "output": "zero", "id": "t"}, "fields": ["status"]}, {"status": 9}),
    "fields that are not there": ({"data": {"status": 9}, "fields": ["Status"]}, {"status": 9}),
    "no fields named": ({"data": {"status": 9}, "fields": []}, {"status": 9}),
    "odd fields": ({"data": {"status": 9}, "fields": [1, None]}, {"status": 9}),
    "data alone": ({"data": {"status": 9}}, {"status": 9}),
    "event with data": ({"event": "update", "data": {"status": 9}}, {"status": 9}),
    "event of another thing": ({"event": "chat_messages", "data": {"id": "m", "status": "ready"}}, {}),
    "another task": ({"id": "u", "status": 10}, {}),
    "unknown": ({"event": "surprise"}, {}),
    "an error of the stream": ({"error": "x"}, {}),
    "data that is no object": ({"event": "update", "data": [1]}, {}),
    "a null status": ({"id": "t", "status": None, "output": 2}, {"output": 2}),
    "an output taken back": ({"id": "t", "output": None}, {}),
    "envelope": ({"success": True, "status": 200, "data": {"status": 9}}, {"status": 9}),
    "a key of ours": ({"id": "t", "streamed": "x"}, {}),
    "no delta": ({"event": "delta", "data": {"seq": 1}}, {}),
    "a delta that is no object": ({"event": "delta", "data": {"delta": 3}}, {}),
    "a null delta": ({"event": "delta", "data": {"delta": None, "seq": None}}, {}),
    "delta without data": ({"event": "delta"}, {}),
    "delta": ({"event": "delta", "data": {"delta": {"response": "Hel"}, "seq": 1}}, {"streamed": "Hel"}),
    "delta of text": ({"event": "delta", "data": {"delta": "Hel"}}, {"streamed": "Hel"}),
}


@pytest.mark.parametrize(("line", "change"), CHANGES.values(), ids=CHANGES)
def test_a_line_changes_only_the_fields_it_names(line, change):
    """And nothing else; a line without news gives the same task."""
    merged = merge(TASK, line)

    assert Task.model_validate({**RECORD, **change}) == merged
    assert bool(change) == (merged is not TASK)


@pytest.mark.parametrize("status", [10, 11, 12, 13, "completed", "Failed", "CANCELLED", "rejected"])
def test_the_end_is_final(status):
    """A late line changes nothing."""
    ended = Task.model_validate({**RECORD, "status": status, "output": "final"})

    assert ended is merge(ended, {"id": "t", "status": 7, "output": None})
    assert ended is merge(ended, {"data": {"status": 11}, "fields": ["status"]})
    assert ended is merge(ended, {"event": "delta", "data": {"delta": {"response": "x"}}})


DELTAS = {
    "text": ([{"response": "Hel"}, {"response": "lo", "reasoning": "r"}, "!"], "Hello!"),
    "null is no change": ([{"response": "a"}, {"response": None, "extra": None}], "a"),
    "other fields are not kept": ([{"x": "a"}, {"usage": {"total_tokens": 3}, "tool_calls": [{"id": "a"}]}], ""),
    "odd kinds": ([{"response": 3}, 3, None, []], ""),
}


@pytest.mark.parametrize(("deltas", "text"), DELTAS.values(), ids=DELTAS)
def test_deltas_add_up_to_a_text(deltas, text):
    task = TASK
    for delta in deltas:
        task = merge(task, {"event": "delta", "data": {"delta": delta}})

    assert text == task.streamed


def test_of_endless_deltas_only_the_end_is_kept():
    """The newest text is what a person sees, and the record has all of it at the end."""
    task = TASK
    for number in range(3):
        task = merge(task, {"event": "delta", "data": {"delta": str(number) * (MAX_TEXT_LENGTH - 1)}})

    assert MAX_TEXT_LENGTH == len(task.streamed)
    assert task.streamed.endswith("2")


@pytest.mark.finding("S11")
def test_a_task_keeps_no_unknown_field():
    task = TASK
    for number in range(1_000):
        task = merge(task, {"data": {"id": "t", f"new_{number}": "x"}, "fields": [f"new_{number}"]})
        task = merge(task, {"event": "delta", "data": {"delta": {f"new_{number}": "x", "response": "a"}}})

    assert vars(task).keys() == Task.model_fields.keys()
    assert "a" * 1_000 == task.streamed
