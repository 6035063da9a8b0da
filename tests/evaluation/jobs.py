"""The jobs: what a person asks, the fewest calls that can do it, and what a right answer holds.

The first sixteen are those of the trial that found M1 to M22; the others are of the same kinds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.conftest import Way
from tests.evaluation.host import Host, Person
from tests.support.pictures import picture

PERSON_KEY = "inf_person_CANARY_day"
"""With a key of this kind the sandbox takes decisions about approvals, as the platform takes a signed-in person's."""

Script = Callable[[Host], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job. `calls` is the fewest calls that can do it."""

    name: str
    request: str
    """What the person asks for."""
    calls: int
    script: Script
    local: bool
    """Whether it needs the person's disk, which a remote server does not reach."""
    settings: Mapping[str, str] = field(default_factory=dict)
    asks: bool
    """Whether the person is asked, for which the older protocol over HTTP without sessions has no way."""
    person: Callable[[], Person] | None = Person
    """Who answers when the host asks; None for a host that cannot ask."""
    failures: int = 0
    """How many calls fail because the job is about a failure."""

    def can_do(self, way: Way) -> bool:
        """Whether the job can be done at all over this transport and protocol version."""
        return not (self.local and way.transport == "http") and not (self.asks and str(way) == "http-2025")


JOBS: list[Job] = []


def job(
    calls: int,
    *,
    local: bool = False,
    asks: bool = False,
    person: Callable[[], Person] | None = Person,
    failures: int = 0,
    **settings: str,
) -> Callable[[Script], Script]:
    """Register a script as a job. Its docstring is what the person asks for."""

    def register(script: Script) -> Script:
        name = script.__name__.replace("_", " ")
        request = (script.__doc__ or "").strip()
        JOBS.append(
            Job(
                name=name,
                request=request,
                calls=calls,
                script=script,
                local=local,
                asks=asks,
                settings=settings,
                person=person,
                failures=failures,
            )
        )
        return script

    return register


def declining() -> Person:
    """A person who does not agree to what a run would cost."""
    return Person("decline")


def rejecting() -> Person:
    """A person who says no in the form itself."""
    return Person(content={"decision": "reject", "reason": "no lakes today"})


# Files


@job(2, local=True)
async def draw_and_keep(host: Host) -> None:
    """Draw a lighthouse and save the picture in my folder."""
    run = await host.call("app_run", app="sandbox/draw", input={"prompt": "a lighthouse", "width": 64, "height": 64})
    saved = await host.call("file_save", task_ids=[run.value("task_id")])

    (file,) = host.folder.glob("*.png")
    assert file.read_bytes().startswith(b"\x89PNG")
    assert saved.says(file.name)


@job(1, local=True)
async def read_a_picture_from_disk(host: Host) -> None:
    """How large is the picture cat.png in my folder?"""
    (host.folder / "cat.png").write_bytes(picture(48, 32))

    answer = await host.call("app_run", app="sandbox/picture-info", input={"image": str(host.folder / "cat.png")})

    assert answer.says("48", "32")


@job(1, local=True)
async def find_a_file_by_its_name_alone(host: Host) -> None:
    """What format has cat.png?"""
    (host.folder / "cat.png").write_bytes(picture(48, 32))

    answer = await host.call("app_run", app="sandbox/picture-info", input={"image": "cat.png"})

    assert answer.says("png", "48")


@job(2, local=True)
async def save_the_results_of_several_runs(host: Host) -> None:
    """Draw three lakes and save all of them."""
    inputs = [{"prompt": f"lake {number}", "width": 64, "height": 64} for number in range(3)]
    batch = await host.call("app_run_many", app="sandbox/draw", inputs=inputs)
    await host.call("file_save", task_ids=batch.values("task_id"))

    assert len(list(host.folder.glob("*.png"))) == 3


@job(2, local=True)
async def save_under_a_name_of_ones_own(host: Host) -> None:
    """Draw a lighthouse and save it as lighthouse.png."""
    run = await host.call("app_run", app="sandbox/draw", input={"prompt": "a lighthouse", "width": 64, "height": 64})
    await host.call("file_save", uris=[run.value("uri")], filename="lighthouse.png")

    assert (host.folder / "lighthouse.png").read_bytes().startswith(b"\x89PNG")


@job(2, local=True)
async def save_a_text_as_text(host: Host) -> None:
    """Write a text of ten words and save it."""
    run = await host.call("app_run", app="sandbox/stream-text", input={"text": "ten words " * 5, "chunk_ms": 0})
    await host.call("file_save", task_ids=[run.value("task_id")])

    (file,) = host.folder.glob("*.txt")
    assert "ten words" in file.read_text(encoding="utf-8")


@job(1, local=True)
async def use_a_file_in_a_whole_batch(host: Host) -> None:
    """Look at cat.png three times."""
    (host.folder / "cat.png").write_bytes(picture(48, 32))
    path = str(host.folder / "cat.png")

    await host.call("app_run_many", app="sandbox/picture-info", inputs=[{"image": path}] * 3)

    assert len(host.ledger.requests(path="/files")) == 1


@job(2, local=True)
async def use_an_uploaded_file_again(host: Host) -> None:
    """How large is cat.png? And its format, without uploading it again."""
    (host.folder / "cat.png").write_bytes(picture(48, 32))
    first = await host.call("app_run", app="sandbox/picture-info", input={"image": str(host.folder / "cat.png")})
    assert first.says("uploaded", "cat.png")
    uploaded = first.content.lower().partition("uploaded")[2]
    uri = next(uri for uri in first.values("uri") if uri in uploaded)
    await host.call("app_run", app="sandbox/picture-info", input={"image": uri})

    assert len(host.ledger.requests(path="/files")) == 1


@job(3)
async def delete_an_uploaded_file(host: Host) -> None:
    """Upload this note, then delete it from the platform."""
    uploaded = await host.call("file_upload", base64="aGVsbG8=", filename="note.txt")
    files = await host.call("file_list")
    assert files.says("note.txt")
    gone = await host.call("file_delete", file=uploaded.value("file_id"))

    assert gone.says("deleted")


# Runs


@job(2, INFERENCE_WAIT_SECONDS="1")
async def wait_for_a_long_run(host: Host) -> None:
    """Run the slow app and give me the result."""
    handed_over = await host.call("app_run", app="sandbox/slow", input={"seconds": 2})
    assert handed_over.says("task_get")
    result = await host.call("task_get", task_id=handed_over.value("task_id"), wait_seconds=30)

    assert result.says("completed")
    assert len(host.ledger.starts) == 1


@job(2)
async def cancel_a_run(host: Host) -> None:
    """Start the slow app, then stop it."""
    run = await host.call("app_run", app="sandbox/slow", input={"seconds": 600}, wait=False)
    stopped = await host.call("task_cancel", task_id=run.value("task_id"))

    assert stopped.says("cancel")
    assert len(host.ledger.cancels) == 1


@job(3)
async def read_a_cancelled_run(host: Host) -> None:
    """Start the slow app, stop it, and show me where it stands."""
    run = await host.call("app_run", app="sandbox/slow", input={"seconds": 600}, wait=False)
    await host.call("task_cancel", task_id=run.value("task_id"))
    answer = await host.call("task_get", task_id=run.value("task_id"), wait_seconds=10)

    assert answer.says("cancelled")
    assert not answer.is_error


@job(1)
async def run_a_batch(host: Host) -> None:
    """Draw five seasons."""
    inputs = [{"prompt": f"season {number}", "width": 32, "height": 32} for number in range(5)]
    answer = await host.call("app_run_many", app="sandbox/draw", inputs=inputs)

    assert answer.says("5 completed") or answer.says('"completed": 5')
    assert len(answer.values("task_id")) == 5


@job(2)
async def see_what_is_still_running(host: Host) -> None:
    """Start the slow app in the background. Is anything of mine still running?"""
    run = await host.call("app_run", app="sandbox/slow", input={"seconds": 600}, wait=False)
    active = await host.call("task_list", status="active")

    assert active.values("task_id") == [run.value("task_id")]


@job(1, failures=1)
async def learn_why_a_run_failed(host: Host) -> None:
    """Run the failing app with the message "no paint left". Why did it fail?"""
    answer = await host.call("app_run", app="sandbox/fail", input={"message": "no paint left"})

    assert answer.says("no paint left")


@job(2)
async def read_the_logs_of_a_run(host: Host) -> None:
    """What did the slow app write while it ran?"""
    run = await host.call("app_run", app="sandbox/slow", input={"seconds": 0.1, "steps": 2})
    logs = await host.call("task_logs", task_id=run.value("task_id"))

    assert logs.says("step")


@job(2)
async def read_the_rest_of_a_long_text(host: Host) -> None:
    """Write a very long text and show me its second part."""
    words = " ".join(f"word{number}" for number in range(20_000))
    run = await host.call("app_run", app="sandbox/echo", input={"text": words})
    assert run.says("part 1 of", "word0", "word19999")
    second = await host.call("task_get", task_id=run.value("task_id"), part=2)

    assert second.says("part 2 of") or second.says('"part": 2')
    assert len(run.content) < 14_000


@job(1)
async def schedule_a_run(host: Host) -> None:
    """Draw a sunrise an hour from now."""
    at = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    answer = await host.call("app_run", app="sandbox/draw", input={"prompt": "a sunrise"}, run_at=at)

    assert answer.says("task_get")
    assert answer.matches(r"schedul|queued")


@job(1)
async def learn_what_the_functions_take(host: Host) -> None:
    """How do I make sandbox/memory remember something?"""
    answer = await host.call("app_get", app="sandbox/memory")

    assert answer.says("set_value", "Name of the value", "What to remember", "increment", "amount")


@job(2, failures=1)
async def correct_a_wrong_input(host: Host) -> None:
    """Draw a wide lake, 5000 pixels, or as wide as possible."""
    wrong = await host.call("app_run", app="sandbox/draw", input={"prompt": "a lake", "width": 5000})
    assert wrong.says("width", "1024")
    assert wrong.says("Nothing was started") or wrong.says("not_started")
    await host.call("app_run", app="sandbox/draw", input={"prompt": "a lake", "width": 1024, "height": 16})

    assert len(host.ledger.starts) == 1


@job(2)
async def find_a_run_that_the_host_gave_up_on(host: Host) -> None:
    """You started the slow app and lost the answer. How did it end?"""
    await host.call("app_run", app="sandbox/slow", input={"seconds": 0.5}, wait=False)
    host.exchanges.clear()  # the lost answer
    tasks = await host.call("task_list")
    result = await host.call("task_get", task_id=tasks.value("task_id"), wait_seconds=30)

    assert result.says("sandbox/slow", "completed")
    assert len(host.ledger.starts) == 1


@job(1)
async def find_an_app_by_what_it_does(host: Host) -> None:
    """Is there an app that makes pictures of landscapes?"""
    answer = await host.call("app_list", query="landscape picture")

    assert answer.says("sandbox/draw")


# Money


@job(1)
async def ask_what_an_app_costs(host: Host) -> None:
    """What does sandbox/draw cost?"""
    answer = await host.call("app_get", app="sandbox/draw")

    assert answer.matches(r"\$0\.\d+")


@job(1)
async def ask_what_this_input_costs(host: Host) -> None:
    """What would a picture of 1024 by 1024 cost? Do not draw it."""
    answer = await host.call(
        "app_run", app="sandbox/draw", input={"prompt": "a lake", "width": 1024, "height": 1024}, dry_run=True
    )

    assert answer.matches(r"\$0\.02\d*")
    assert not host.ledger.starts


@job(1)
async def ask_what_a_run_cost(host: Host) -> None:
    """Draw a lake and tell me what it cost."""
    answer = await host.call("app_run", app="sandbox/draw", input={"prompt": "a lake", "width": 64, "height": 64})

    assert answer.says("charge")
    assert answer.matches(r"\$0\.\d+")


@job(2)
async def ask_what_everything_cost(host: Host) -> None:
    """Draw three lakes. What did all this cost?"""
    inputs = [{"prompt": f"lake {number}", "width": 64, "height": 64} for number in range(3)]
    await host.call("app_run_many", app="sandbox/draw", inputs=inputs)
    tasks = await host.call("task_list")

    assert tasks.says("charge")
    assert tasks.matches(r"(?i)(sum|total|together|charged)")


@job(1)
async def ask_for_the_balance(host: Host) -> None:
    """How much money is left in my account?"""
    answer = await host.call("account")

    assert answer.says("balance")
    assert answer.matches(r"\$\d")


@job(2)
async def ask_what_was_spent(host: Host) -> None:
    """Draw a lake. How much did I spend on which app?"""
    await host.call("app_run", app="sandbox/draw", input={"prompt": "a lake", "width": 64, "height": 64})
    answer = await host.call("account", days=7)

    assert answer.says("sandbox/draw")


@job(1, asks=True, person=declining, failures=1, INFERENCE_MAX_RUN_COST="0.0001")
async def refuse_an_expensive_run(host: Host) -> None:
    """Draw a huge lake. (It costs more than the limit, and the person says no.)"""
    answer = await host.call("app_run", app="sandbox/draw", input={"prompt": "a lake", "width": 1024, "height": 1024})

    assert answer.matches(r"\$0\.02\d*")
    assert not host.ledger.starts


@job(1, asks=True, INFERENCE_MAX_RUN_COST="0.0001")
async def agree_to_an_expensive_run(host: Host) -> None:
    """Draw a huge lake. (It costs more than the limit, and the person agrees.)"""
    answer = await host.call("app_run", app="sandbox/draw", input={"prompt": "a lake", "width": 512, "height": 512})

    assert answer.says("completed")
    assert len(host.person.questions) == 1


# Sessions


@job(2)
async def remember_something_in_a_session(host: Host) -> None:
    """Remember that the code is 42, then tell me the code."""
    first = await host.call(
        "app_run", app="sandbox/memory", function="set_value", input={"key": "code", "value": 42}, session="new"
    )
    assert first.matches(r"expires|expires_in")
    answer = await host.call(
        "app_run",
        app="sandbox/memory",
        function="get_value",
        input={"key": "code"},
        session=first.value("session_id"),
    )

    assert answer.says("42")


@job(2)
async def end_a_session(host: Host) -> None:
    """Count once in a session, then end it."""
    first = await host.call("app_run", app="sandbox/count", input={}, session="new")
    ended = await host.call("session_end", session_id=first.value("session_id"))

    assert ended.says("end")


@job(2)
async def keep_a_session_alive(host: Host) -> None:
    """Count once in a session, and keep it for later."""
    first = await host.call("app_run", app="sandbox/count", input={}, session="new")
    answer = await host.call("session_keepalive", session_id=first.value("session_id"))

    assert answer.matches(r"\d+ s|expires_in")


# Agents


@job(1)
async def learn_which_agents_there_are(host: Host) -> None:
    """Which agents are there, and what do they do?"""
    answer = await host.call("agent_list")

    assert answer.says("sandbox/approver", "approval before it draws")


@job(1, asks=True, INFERENCE_API_KEY=PERSON_KEY)
async def let_an_agent_draw_with_approval(host: Host) -> None:
    """Let the approver draw a lake. (The person approves.)"""
    answer = await host.call("agent_chat", agent="sandbox/approver", message="Draw a lake")

    assert answer.says("draw", "approved")
    assert len(host.person.questions) == 1


@job(1, asks=True, person=rejecting, INFERENCE_API_KEY=PERSON_KEY)
async def reject_what_an_agent_wants(host: Host) -> None:
    """Let the approver draw a lake. (The person says no.)"""
    answer = await host.call("agent_chat", agent="sandbox/approver", message="Draw a lake")

    assert answer.says("rejected", "no lakes today")
    assert not host.ledger.starts


@job(1, person=None)
async def hear_at_once_where_to_approve(host: Host) -> None:
    """Let the approver draw a lake. (This host cannot ask.)"""
    answer = await host.call("agent_chat", agent="sandbox/approver", message="Draw a lake")

    assert answer.says("cannot ask")
    assert answer.matches(r"https?://\S+/chats?/")


CLIENT_TOOL = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "type": "client",
    "client": {"input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@job(2)
async def answer_an_agents_own_tool(host: Host) -> None:
    """Ask an agent for the weather in Oslo; you know that it rains there."""
    config = {"core_app": {"ref": "sandbox/llm"}, "system_prompt": "Use get_weather.", "tools": [CLIENT_TOOL]}
    asked = await host.call("agent_chat", config=config, message="use get_weather: the weather in Oslo")
    assert asked.says("get_weather", "chat_respond")
    answer = await host.call(
        "chat_respond",
        chat_id=asked.value("chat_id"),
        invocation_id=asked.value("id"),
        result="It rains.",
    )

    assert answer.says("rains")


@job(2)
async def go_on_with_a_chat(host: Host) -> None:
    """Tell the assistant that my name is Ada, then ask it for my name."""
    first = await host.call("agent_chat", agent="sandbox/assistant", message="My name is Ada")
    answer = await host.call("agent_chat", chat_id=first.value("chat_id"), message="What is my name?")

    assert answer.says("Ada")


@job(2)
async def find_an_earlier_chat(host: Host) -> None:
    """Greet the assistant. Which chats do I have?"""
    first = await host.call("agent_chat", agent="sandbox/assistant", message="hello")
    chats = await host.call("chat_list")

    assert first.value("chat_id") in chats.content
    assert chats.says("sandbox/assistant")


@job(1, failures=1)
async def take_an_agent_for_an_app(host: Host) -> None:
    """How do I use the app sandbox/approver?"""
    answer = await host.call("app_get", app="sandbox/approver")

    assert answer.says("agent_chat")


@job(1)
async def learn_what_an_app_still_needs(host: Host) -> None:
    """What do I have to do before I can run sandbox/needs-secret?"""
    answer = await host.call("app_get", app="sandbox/needs-secret")

    assert answer.says("SANDBOX_API_KEY", "Google")
