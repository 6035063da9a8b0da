"""A chat is followed, whatever happens to its stream."""

import anyio
import pytest

from inferencesh_mcp.api.chat_models import Chat, ChatMessage, Sent
from inferencesh_mcp.api.chat_turn import Turn, pending, turn_over
from tests.api.conftest import lines, problem, status

pytestmark = pytest.mark.anyio

STREAM = ("GET", "/chats/c1/stream")
GET = ("GET", "/chats/c1")
STATUS = ("GET", "/chats/c1/status")
SENT = Sent(
    chat_id="c1",
    user_message=ChatMessage(id="m1", chat_id="c1", order=1, role="user", status="ready"),
    assistant_message=ChatMessage(id="m2", chat_id="c1", order=2, role="assistant", status="pending"),
)


def chats(status, state=None, run="r1", **more):
    return {
        "event": "chats",
        "data": {
            "id": "c1",
            "status": status,
            **({"active_run": {"id": run, "state": state}} if state else {}),
            **more,
        },
    }


def message(name, status, text="", order=None, **more):
    data = {
        "id": name,
        "chat_id": "c1",
        "role": "assistant",
        "status": status,
        "content": [{"type": "text", "text": text}],
        **more,
    }
    return {"event": "chat_messages", "data": data | ({"order": order} if order else {})}


def delta(name, seq, text):
    return {"event": "delta", "data": {"resource_id": name, "seq": seq, "delta": {"response": text}}}


def record(status, state, *messages, run="r1", **more):
    return {
        "id": "c1",
        "status": status,
        "active_run": {"id": run, "state": state},
        "chat_messages": [line["data"] for line in messages],
        **more,
    }


ASKED = {
    "data": {
        "id": "m1",
        "chat_id": "c1",
        "role": "user",
        "order": 1,
        "status": "ready",
        "content": [{"type": "text", "text": "Hi"}],
    }
}
BUSY = chats("busy", "working")
IDLE = chats("idle", "completed")
ANSWER = message("m2", "ready", "Hello you", 2)
DONE = record("idle", "completed", ASKED, ANSWER)
BEAT = {"type": "heartbeat"}


async def turn(api, sent=SENT, before=None, **options):
    """Every state until the turn is over, as the text of the answer grows."""
    states, turn_so_far = [], Turn.of(sent, before)
    async with api.chats.follow_chat(before or sent.chat, **options) as followed:
        async for chat in followed:
            states.append(chat)
            turn_so_far = turn_so_far.seeing(chat)
            if turn_over(chat, turn_so_far):
                return states
    raise AssertionError


def texts(states, name="m2"):
    return [chat.message(name).text for chat in states if chat.message(name)]


async def test_a_whole_turn_costs_one_stream(api, script):
    """And the text is heard as it grows. The stream told all that the record holds: it is not read."""
    script.on(
        *STREAM,
        lines(
            BUSY,
            BEAT,
            delta("m2", 1, "Hel"),
            chats("busy", "working", name="n"),
            delta("m2", 2, "lo"),
            ANSWER,
            IDLE,
            end="hang",
        ),
    )
    script.on(*GET, status(200, DONE))

    states = await turn(api)

    assert ["", "Hel", "Hel", "Hello", "Hello you", "Hello you"] == texts(states)
    assert ("idle", "completed", False) == (states[-1].status, states[-1].active_run.state, states[-1].busy)
    assert [STREAM] == [(request.method, request.path) for request in script.requests]
    assert "application/x-ndjson" == script.requests[0].headers["accept"]


def run(state):
    return {"event": "agent_runs", "data": {"id": "r1", "chat_id": "c1", "state": state}}


def named(line, *fields):
    return line | {"fields": list(fields)}


CALL = {"id": "t1", "type": "app", "function": {"name": "f"}}
LATER, EARLIER = ({"updated_at": f"2026-01-02T03:04:{second}Z"} for second in ("06", "05"))
WHOLE = {
    "as one line": [ANSWER, IDLE],
    "after the run's end": [ANSWER, run("completed"), IDLE],
    "again": [named(ANSWER, "status"), ANSWER, IDLE],
    "with a tool that has ended": [message("m2", "ready", "Hello you", 2, tool_invocations=[CALL | {"status": "completed"}]), IDLE],
}  # fmt: skip
NOT_WHOLE = {
    "a chat by fields": [ANSWER, named(IDLE, "status", "active_run")],
    "a run, and no chat": [ANSWER, run("completed")],
    "a chat that is older": [chats("busy", "working", **LATER), ANSWER, run("completed"), chats("idle", **EARLIER)],
    "a message by fields": [named(ANSWER, "status", "content", "order"), IDLE],
    "a message that only its pieces told": [delta("m2", 1, "Hello you"), IDLE],
    "a message that is not final": [message("m2", "pending", "Hello you", 2), IDLE],
    "a message too few": [message("m2", "ready", "Hello you", 3), IDLE],
    "a message without a place": [message("m4", "ready", "Hello you"), ANSWER, IDLE],
    "a tool still at work": [message("m2", "ready", "Hello you", 2, tool_invocations=[CALL | {"status": "in_progress"}]), IDLE],
    "a line that cannot be read": [b'{"event": "chat_messa\n', ANSWER, IDLE],
}  # fmt: skip


@pytest.mark.parametrize("end", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("together", [True, False])
async def test_a_chat_that_came_whole_is_not_read_again(api, script, end, together):
    """Whether the run's last line and the chat's own arrive as one or apart."""
    script.on(*STREAM, lines(BUSY, *end, slice_of=None if together else 40, end="hang"))

    states = await turn(api)

    assert ("Hello you", "idle") == (states[-1].message("m2").text, states[-1].status)
    assert 0 == script.count(*GET)


@pytest.mark.parametrize("end", NOT_WHOLE.values(), ids=NOT_WHOLE)
async def test_a_chat_that_did_not_come_whole_is_read(api, script, end):
    """The answer is the record's: where the stream may have left something out, the record is asked."""
    script.on(*STREAM, lines(BUSY, *end, end="hang"))
    script.on(
        *GET,
        status(
            200, record("idle", "completed", ASKED, message("m2", "ready", "Hello you, says the record", 2), **LATER)
        ),
    )

    states = await turn(api)

    assert "Hello you, says the record" == states[-1].message("m2").text
    assert 1 == script.count(*GET)


async def test_deltas_that_arrive_together_make_one_state(api, script):
    script.on(
        *STREAM, lines(BUSY, delta("m2", 1, "a"), delta("m2", 2, "b"), delta("m2", 3, "c"), ANSWER, IDLE, end="hang")
    )
    script.on(*GET, status(200, DONE))

    assert ["", "abc", "Hello you", "Hello you"] == texts(await turn(api))


@pytest.mark.parametrize("end", ["eof", "fin", "rst"])
@pytest.mark.parametrize("replayed", [True, False])
async def test_a_broken_stream_repeats_and_misses_nothing(api, script, end, replayed):
    """Whether the server tells all again or goes on where it was."""
    again = [delta("m2", 1, "Hel"), delta("m2", 2, "lo")] if replayed else []
    script.on(
        *STREAM,
        lines(BUSY, delta("m2", 1, "Hel"), delta("m2", 2, "lo"), end=end),
        lines(BUSY, *again, delta("m2", 3, " you"), ANSWER, IDLE, end="hang"),
    )
    script.on(*GET, status(200, record("busy", "working", ASKED, message("m2", "pending", "", 2))), status(200, DONE))

    states = await turn(api)

    assert texts(states) == sorted(texts(states), key=len)
    assert {"", "Hello", "Hello you"} == set(texts(states))
    assert [STREAM, GET, STREAM, GET] == [(request.method, request.path) for request in script.requests]


async def test_a_missing_delta_stops_the_text_until_the_message_arrives(api, script):
    """Pieces went past while nobody listened: the text waits for the message itself."""
    script.on(
        *STREAM,
        lines(BUSY, delta("m2", 1, "Hel"), end="fin"),
        lines(
            BUSY,
            delta("m2", 5, "!!"),
            delta("m2", 6, "?"),
            message("m2", "pending", "Hello", 2),
            ANSWER,
            IDLE,
            end="hang",
        ),
    )
    script.on(*GET, status(200, record("busy", "working", ASKED, message("m2", "pending", "", 2))), status(200, DONE))

    states = await turn(api)

    assert ["Hel", "Hello", "Hello you"] == list(dict.fromkeys(filter(None, texts(states))))


async def test_the_stream_is_open_before_the_next_message_is_sent(api, script):
    """And the idleness of the turn before ends nothing."""
    first = record("idle", "completed", ASKED, ANSWER)
    sent = Sent(
        chat_id="c1",
        user_message=ChatMessage(id="m3", order=3, status="ready"),
        assistant_message=ChatMessage(id="m4", order=4, status="pending"),
    )
    script.on(
        *STREAM,
        lines(
            IDLE,
            ANSWER,
            chats("busy", "submitted", "r2"),
            message("m4", "ready", "Again", 4),
            chats("idle", "completed", "r2"),
            end="hang",
        ),
    )
    script.on(
        *GET,
        status(200, first),
        status(200, record("idle", "completed", ASKED, ANSWER, message("m4", "ready", "Again", 4), run="r2")),
    )
    before = await api.chats.chat("c1")

    async with api.chats.follow_chat(before) as states:
        assert [GET, STREAM] == [(request.method, request.path) for request in script.requests]
        followed, busy = Turn.of(sent, before), []
        async for chat in states:
            followed = followed.seeing(chat)
            busy.append(chat.busy)
            if turn_over(chat, followed):
                break

    assert [True, True, False] == busy
    assert "Again" == chat.message("m4").text
    assert [GET, STREAM, GET] == [(request.method, request.path) for request in script.requests]


async def test_a_server_that_opens_a_stream_only_for_news_is_not_waited_for(api, script):
    """The message is what makes the news."""

    async def silent(stream):
        with anyio.move_on_after(5):
            await stream.receive()
        return False

    script.on(*STREAM, silent, lines(BUSY, ANSWER, IDLE, end="hang"))
    script.on(*GET, status(200, DONE))

    with anyio.fail_after(4):
        assert "Hello you" == texts(await turn(api))[-1]


async def test_a_stream_cannot_end_a_turn_that_goes_on(api, script):
    """I-4: with its answer not final, only the record can."""
    script.on(*STREAM, lines(BUSY, IDLE, BUSY, ANSWER, IDLE, end="hang"))
    script.on(*GET, status(200, record("busy", "working", ASKED)), status(200, DONE))

    states = await turn(api)

    assert [True, True, False] == [states[0].busy, states[1].busy, states[-1].busy]
    assert "Hello you" == states[-1].message("m2").text
    assert 1 == script.count(*GET)


async def test_the_end_is_confirmed_by_a_read_however_long_that_takes(api, script):
    """While the API is away nothing is said to be over."""
    script.on(*STREAM, lines(BUSY, ANSWER, named(IDLE, "status", "active_run"), end="hang"))
    script.on(*GET, *[problem(503)] * 7, status(200, DONE))

    states = await turn(api)

    assert [True, True, False] == [chat.busy for chat in states]
    assert (1, 8) == (script.count(*STREAM), script.count(*GET))


async def test_polling_alone_asks_for_the_status(api, script, time):
    """The chat is read at once, when its status or its time of change is another, and now and then besides."""
    working = record("busy", "working", ASKED, updated_at="2026-01-02T03:04:05Z")
    call = message(
        "m2",
        "pending",
        tool_invocations=[{"id": "t1", "type": "client", "status": "awaiting_input", "function": {"name": "f"}}],
    )
    script.on(*STATUS, *[status(200, {"status": "busy", "updated_at": f"2026-01-02T03:04:{second}Z"}) for second in ("05", "05", "06")],
              *[status(200, {"status": "busy"})] * 3, status(200, {"status": "idle"}))  # fmt: skip
    script.on(*GET, status(200, working), status(200, record("busy", "working", ASKED, call, updated_at="2026-01-02T03:04:06Z")),
              status(200, record("busy", "working", ASKED, message("m2", "pending", "so", tool_invocations=[]))), status(200, DONE))  # fmt: skip

    states = await turn(api, stream=False, poll_interval=5.0)

    assert [0, 1, 0, 0] == [len(pending(chat)) for chat in states]
    assert (0, 7, 4) == (script.count(*STREAM), script.count(*STATUS), script.count(*GET))
    assert 7 == time.slept.count(5.0)


async def test_two_turns_are_followed_over_one_stream(api, script):
    """It stays open between them."""
    second = [chats("busy", "working", "r2"), message("m4", "ready", "More", 4), chats("idle", "completed", "r2")]
    script.on(*STREAM, lines(BUSY, ANSWER, IDLE, *second, end="hang"))
    script.on(*GET, status(200, DONE), status(200, record("idle", "completed", ASKED, ANSWER, second[1], run="r2")))
    sizes = []

    async with api.chats.follow_chat(SENT.chat) as states:
        async for chat in states:
            sizes.append((chat.busy, len(chat.chat_messages)))
            if chat.message("m4") and not chat.busy:
                break

    assert [(True, 2), (True, 2), (False, 2), (True, 2), (True, 3), (False, 3)] == sizes
    assert 1 == script.count(*STREAM)


async def test_a_long_chat_costs_little_for_each_piece(api, script):
    """Messages that did not change stay the same objects."""
    old = [message(f"o{number}", "ready", "x" * 100, number) for number in range(1, 301)]
    script.on(
        *STREAM,
        lines(BUSY, *[delta("m2", number, "x") for number in range(1, 4)], ANSWER, IDLE, slice_of=80, end="hang"),
    )
    script.on(*GET, status(200, record("idle", "completed", *old, ANSWER)))
    before = Chat.model_validate(record("idle", "completed", *old, run="r0"))

    states = await turn(api, before=before)

    assert states[0].chat_messages[0] is states[2].chat_messages[0] is before.chat_messages[0]
