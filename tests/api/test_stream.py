"""What holds for every stream that is followed: of a task, and of a chat."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api import stream
from inferencesh_mcp.api.chat_models import Chat, ChatMessage, Sent
from inferencesh_mcp.api.chat_turn import Turn, turn_over
from inferencesh_mcp.api.models import Task
from tests.api.conftest import fin, lines, problem, rst, status

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Subject:
    """A task or a chat that is followed until it is done."""

    path: str
    busy: dict
    done: dict
    lines: tuple
    """The first shows it busy, the last shows it done."""
    views: list
    """What `view` shows of the states that these lines make, one by one."""
    view: Callable[[Any], Any]
    follow: Callable[..., Any]
    is_done: Callable[[Any], bool]

    def on(self, script, suffix, *plays):
        script.on("GET", self.path + suffix, *plays)

    def count(self, script, suffix=""):
        return script.count("GET", self.path + suffix)

    async def states(self, api, **options):
        states = []
        async with self.follow(api, **options) as followed:
            async for state in followed:
                states.append(state)
                if self.is_done(state):
                    return states
        return states


STARTED = Task(id="t1", status="received")
RUNNING = {"id": "t1", "status": 7, "logs": []}
COMPLETED = {"id": "t1", "status": 10, "output": 1, "logs": []}
TASK = Subject(
    path="/tasks/t1",
    busy=RUNNING,
    done=COMPLETED,
    lines=(RUNNING, {"data": {"logs": [{"log_type": 1, "content": "x"}]}, "fields": ["logs"]}, COMPLETED),
    views=[("running", 0), ("running", 1), ("completed", 0)],
    view=lambda task: (task.status, len(task.logs)),
    follow=lambda api, **options: api.follow(STARTED, **options),
    is_done=lambda task: task.ended,
)


def chat(status, run_state):
    run = {"id": "r1", "chat_id": "c1", "state": run_state}
    return {"id": "c1", "status": status, "active_run": run}


def message(status, text):
    content = [{"type": "text", "text": text}]
    return {"id": "m2", "chat_id": "c1", "order": 2, "role": "assistant", "status": status, "content": content}


def delta(seq, text):
    return {"event": "delta", "data": {"resource_id": "m2", "seq": seq, "delta": {"response": text}}}


SENT = Sent(
    chat_id="c1",
    user_message=ChatMessage(id="m1", order=1, status="ready", role="user"),
    assistant_message=ChatMessage(id="m2", order=2, status="pending", role="assistant"),
)
QUESTION = {"id": "m1", "chat_id": "c1", "order": 1, "role": "user", "status": "ready"}
BUSY, IDLE, ANSWER = chat("busy", "working"), chat("idle", "completed"), message("ready", "Hello you")


def is_over(state: Chat) -> bool:
    return turn_over(state, Turn.of(SENT).seeing(state))


CHAT = Subject(
    path="/chats/c1",
    busy=BUSY | {"chat_messages": [QUESTION]},
    done=IDLE | {"chat_messages": [QUESTION, ANSWER]},
    lines=(
        {"event": "chats", "data": BUSY},
        delta(1, "Hel"),
        delta(2, "lo"),
        {"event": "chat_messages", "data": ANSWER},
        {"event": "chats", "data": IDLE},
    ),
    views=[("busy", ""), ("busy", "Hel"), ("busy", "Hello"), ("busy", "Hello you"), ("idle", "Hello you")],
    view=lambda state: (state.status, state.message("m2").text if state.message("m2") else ""),
    follow=lambda api, **options: api.chats.follow_chat(SENT.chat, **options),
    is_done=is_over,
)


@pytest.fixture(params=[TASK, CHAT], ids=["task", "chat"])
def subject(request):
    return request.param


async def test_a_stream_may_be_cut_into_any_pieces(api, script, subject):
    """Here into pieces of three bytes."""
    subject.on(script, "/stream", lines(*subject.lines, slice_of=3, end="hang"))
    subject.on(script, "", status(200, subject.done))

    assert subject.views == [subject.view(state) for state in await subject.states(api)]


async def test_a_stream_is_asked_for_as_ndjson(api, script, subject):
    subject.on(script, "/stream", lines(*subject.lines, end="hang"))
    subject.on(script, "", status(200, subject.done))

    await subject.states(api)

    assert "application/x-ndjson" == script.requests[0].headers["accept"]


REFUSALS = {
    "404": problem(404),
    "500": problem(500),
    "429": problem(429),
    "gzip": status(200, b"", [("content-encoding", "gzip")]),
    "redirect": status(302, b"", [("location", "/x")]),
    "reset": rst(),
    "closed": fin(),
}


@pytest.mark.parametrize("play", REFUSALS.values(), ids=REFUSALS)
async def test_polling_replaces_a_stream_that_cannot_be_opened(api, script, time, subject, play):
    """After six attempts; then the stream is tried again every 30 seconds."""
    subject.on(script, "/stream", play)
    subject.on(script, "", *[status(200, subject.busy)] * 9, status(200, subject.done))
    subject.on(script, "/status", status(200, subject.busy))

    states = await subject.states(api)

    assert subject.is_done(states[-1])
    assert 6 <= subject.count(script, "/stream") <= 10
    assert subject is CHAT or 6 < subject.count(script, "/stream")  # a polled chat is read again before 30 seconds
    assert subject.count(script, "/status") == sum(1.8 <= pause <= 2.2 for pause in time.slept) >= 9


async def test_polling_goes_on_without_a_status_endpoint(api, script, subject):
    """Not every server has it."""
    subject.on(script, "", status(200, subject.busy), status(200, subject.done))

    assert [False, True] == [subject.is_done(state) for state in (await subject.states(api, stream=False))[-2:]]
    assert 0 == subject.count(script, "/stream")


async def test_a_new_record_may_be_unknown_for_a_second(api, script, time, subject):
    """A 404 right after the POST is not an error; later it is."""
    subject.on(script, "", *[problem(404)] * 4, status(200, subject.done))

    states = await subject.states(api, stream=False)

    assert subject.is_done(states[-1])
    assert [0.1, 0.2, 0.3, 0.4] == [pause for pause in time.slept if pause < 1]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("code", "error"), [(401, "KeyRefused"), (403, "Forbidden"), (404, "NotFound")])
async def test_an_error_that_waiting_cannot_cure_is_raised(api, script, subject, code, error, stream):
    for suffix in ("/stream", "/status", ""):
        subject.on(script, suffix, problem(code))

    with pytest.raises(getattr(errors, error)):
        await subject.states(api, stream=stream)


async def test_an_api_that_is_unavailable_is_waited_for(api, script, subject):
    """The work goes on there, so it goes on here."""
    subject.on(script, "/stream", lines(subject.lines[0]))
    subject.on(script, "", *[problem(503)] * 10, status(200, subject.done))

    assert subject.is_done((await subject.states(api))[-1])


async def test_a_silent_stream_is_closed_after_the_idle_limit(api, script, subject, monkeypatch):
    """X-37: a read of the record decides."""
    monkeypatch.setattr(stream, "IDLE_SECONDS", 0.05)  # a minute, else
    closed = anyio.Event()
    subject.on(script, "/stream", lines(subject.lines[0], end="hang", gate=closed))
    subject.on(script, "", status(200, subject.done))

    await subject.states(api)

    with anyio.fail_after(2):
        await closed.wait()


@pytest.mark.parametrize("leave", ["break", "cancel", "at once"])
async def test_leaving_the_block_closes_the_stream(api, script, subject, leave):
    """There and then, and nothing else is raised."""
    closed = anyio.Event()
    subject.on(script, "/stream", lines(subject.lines[0], end="hang", gate=closed))

    with anyio.move_on_after(0.3) as scope:
        async with subject.follow(api) as states:
            if leave != "at once" or subject is TASK:  # a task's stream is opened when its states are read
                async for _ in states:
                    if leave != "cancel":
                        break

    assert (leave == "cancel") == scope.cancelled_caught
    with anyio.fail_after(2):
        await closed.wait()
