"""What callers were told, held against what the platform did: J-1 to J-6 of the reliability page."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import inferencesh_mcp
from inferencesh_sandbox.tasks import Task
from tests.system.faults.hosts import Frame
from tests.system.histories.callers import DECISION, TAG, Call, Caller, tag_in
from tests.system.histories.world import World

OURS = Path(inferencesh_mcp.__file__).parent
ID = re.compile(r"\b[0-9a-hjkmnp-tv-z]{26}\b")
RUNS = ("app_run", "app_run_many")
GOES_ON = ("goes on without", "may still run", "without its caller")
"""What the log says of whatever was left and may cost; that it names something in passing is no account."""
ENDED = ("had ended", "was cancelled", "was stopped")
"""What it says of what costs no more; whether that is true, the platform knows."""
KEPT = "goes on without its caller"
"""Of a server that ends itself; these operators keep nothing else."""
SOON = timedelta(seconds=10)
"""After whoever left: it has been looked for, and cancelled."""


def judge(world: World, callers: list[Caller], log: str) -> list[str]:
    """All that is wrong with a history that has come to rest; `log` is what the servers logged."""
    findings = _Judge(world, callers, log)
    return [
        *findings.hollow(),
        *findings.started_twice(),
        *findings.answered_twice(),
        *findings.confused(),
        *findings.lost(),
        *findings.left_at_work(),
        *findings.untrue(),
        *findings.foreign(),
        *(wrong for caller in callers for frames in caller.frames for wrong in ill_told(frames)),
        *(f"J-6: {path.name} is left behind" for path in world.folder.rglob("*.part")),
    ]


class _Judge:
    def __init__(self, world: World, callers: list[Caller], log: str) -> None:
        self._world = world
        self._ledger = world.sandbox.ledger
        self._callers, self._log = callers, log
        self._calls = [call for caller in callers for call in caller.calls]
        self._tasks = {task.id: task for tenant in world.sandbox.tenants for task in tenant.tasks}
        chats = [chat for tenant in world.sandbox.tenants for chat in tenant.chats]
        self._turns = {turn.user_message.id: turn for chat in chats for turn in (*chat.runs, *chat.queue)}
        self._heard = {caller.name: _heard(caller) for caller in callers}
        self._unheard = {tag for call in self._calls if call.unheard for tag in call.tags}
        self._unknown = {tag for call in self._calls for tag in _unknown(call)}
        self._ran: dict[str, list[Task]] = defaultdict(list)
        """The tasks of each tag, those of agents' tools with those of calls."""
        for task in self._tasks.values():
            self._ran[tag_in(json.dumps(task.request.input))].append(task)
        self._said = {message.message_id: tag_in(message.text) for message in self._ledger.messages}
        self._going_on = [line for line in log.splitlines() if any(how in line for how in GOES_ON)]
        self._over = _over_by_tag(self._calls)

    def hollow(self) -> Iterator[str]:
        """What callers ask for makes sense: of a call that is refused for its input, nothing would be learnt."""
        for call in self._calls:
            for outcome in _outcomes(call):
                if outcome.get("error", {}).get("code") == "invalid_input":
                    yield f"{call.tool} of {call.arguments} was refused: {outcome['error']}"

    def started_twice(self) -> Iterator[str]:
        """J-1 and J-4: at most one start for each call, and none where it was told that there is none."""
        declined = Counter(tag for call in self._calls for tag in _not_started(call))
        sent = Counter(self._said.values())
        runs = Counter(tag for call in self._calls if call.tool in RUNS for tag in call.tags)
        says = Counter(tag for call in self._calls if call.tool == "agent_chat" for tag in call.tags)
        # Two tasks of one request, which the sandbox may make, are of one moment.
        starts = {tag: len({task.created_at for task in self._ran[tag]}) for tag in runs}
        for tag, most in (runs + says).items():
            begun = starts[tag] if tag in runs else sent[tag]
            if begun > most - declined[tag]:
                calls = [(call.tool, call.result) for call in self._calls if tag in call.tags]
                yield f"J-1/J-4: {tag} was started {begun} times, by {calls}"

    def answered_twice(self) -> Iterator[str]:
        """J-1 of approvals (I-20): each is sent once at most, whatever the platform would make of the second."""
        approved = sum((caller.approved for caller in self._callers), Counter[str]())
        invoked = Counter(asked.path.split("/")[2] for asked in self._ledger.requests("POST", DECISION))
        sent, drawn = Counter[str](), Counter[str]()
        for turn in self._turns.values():
            tag, asked = tag_in(turn.request.text), turn.chat.invocations.values()
            drawn[tag] = len(self._ran[tag])
            sent[tag] += sum(invoked[item.id] for item in asked if item.message.run_id == turn.id)
        for tag in sent | drawn:
            if max(sent[tag], drawn[tag]) > approved[tag]:
                yield f"I-20: {tag} was approved {approved[tag]} times, sent {sent[tag]} times and carried out {drawn[tag]} times"

    def lost(self) -> Iterator[str]:
        """J-2: whoever started something knows of it, or the log does, or it was ended; and nothing runs for nobody."""
        going_on = "\n".join(self._going_on)
        nameless = going_on.count("may go on without its caller") + going_on.count("may be at work without its caller")
        expected = self._expected()
        ended = "\n".join(line for line in self._log.splitlines() if any(how in line for how in ENDED))
        known = expected.union(ID.findall(ended), *(ID.findall(text) for text in self._heard.values()))
        lost = [
            f"J-2: chat {message.chat_id} with {message.text!r} is lost"
            for message in self._ledger.messages
            if message.chat_id not in known and self._said[message.message_id] not in self._unknown
        ]
        for tag in {tag for call in self._calls if call.tool in RUNS for tag in call.tags} - self._unknown:
            for task in self._ran[tag]:
                if task.id not in known:
                    lost.append(f"J-2: {task.id} of {tag} ({task.status.name}) is lost")
                elif (
                    tag not in self._unheard
                    and task.id not in expected
                    and not (task.ended and task.updated_at <= self._over[tag] + SOON)
                ):
                    yield f"J-2: {task.id} of {tag} ({task.status.name}) ran on for nobody"
        yield from lost[nameless:]
        if not self._world.rolled_over:
            yield from (f"J-2: {line}, and its server did as well" for line in self._going_on if KEPT in line)

    def left_at_work(self) -> Iterator[str]:
        """J-2 of agents: none works on for somebody who left, unless it waits for them."""
        expected = self._expected()
        left = {tag for call in self._calls if call.left for tag in call.tags} - self._unknown - self._unheard
        for turn in self._turns.values():
            tag, chat = tag_in(turn.request.text), turn.chat
            if tag not in left or chat.id in expected or turn.state == "input_required":
                continue
            over = max(message.updated_at for message in chat.messages if message.run_id == turn.id)
            if turn.live or over > self._over[tag] + SOON:
                yield f"J-2: chat {chat.id} of {tag} ({turn.state}) was at work for nobody"

    def _expected(self) -> set[str]:
        """The ids of all that somebody was told of in an answer, that was stopped, or of which the log says that it goes on."""
        answers = [call.result for call in self._calls]
        # What a host heard, too: the SDK's client reads the list of tools after an answer, and drops the answer if that fails.
        answers += [item for caller in self._callers for frames in caller.frames for item in results_in(frames)]
        shown = ID.findall(json.dumps(answers) + "\n".join(self._going_on))
        stopped = [cancel.task_id for cancel in self._ledger.cancels] + [stop.chat_id for stop in self._ledger.stops]
        return {*shown, *stopped}

    def untrue(self) -> Iterator[str]:
        """J-3: what is told as over stands so in the platform's records."""
        for call in self._calls:
            for outcome in _outcomes(call):
                task = self._tasks.get(outcome.get("task_id", ""))
                if outcome.get("status") not in {"completed", "failed", "cancelled"}:
                    continue
                if task is None or task.status.name.lower() != outcome["status"]:
                    yield f"J-3: {outcome} was told of {task and task.status.name}"
                elif outcome["status"] == "completed" and outcome.get("output") != _without_metering(task.output):
                    yield f"J-3: {outcome} was told of {task.output}"

    def confused(self) -> Iterator[str]:
        """J-2 of what is told: an id is that of what this call began, no other call has it, and it stands in the words too."""
        named: list[tuple[Call, str, str]] = []
        for call in self._calls:
            field = "task_id" if call.tool in RUNS else "chat_id"
            for tag, outcome in _by_tag(call):
                if name := outcome.get(field):
                    named.append((call, tag, name))
                elif outcome.get("status", "error") not in {"error", "not_started"}:
                    yield f"J-2: {outcome} was told of {tag}, without its {field}"
        own = {(tag, task.id) for tag, tasks in self._ran.items() for task in tasks}
        own |= {(tag_in(run.request.text), run.chat.id) for run in self._turns.values()}
        for call, tag, name in named:
            if (tag, name) not in own:
                yield f"J-2: {name} was told of {tag}, and is another's"
            if name not in call.text:
                yield f"J-2: {name} of {tag} is not in {call.text!r}"
        first_answers = Counter(name for call, _, name in named if "chat_id" not in call.arguments)
        for name, often in first_answers.items():
            if often > 1:
                yield f"J-1: {name} was told to {often} calls, each of which began one"

    def foreign(self) -> Iterator[str]:
        """J-5: nobody hears of what is another's, and nobody of a key."""
        key_of = {caller.name: caller.key for caller in self._callers}
        for caller in self._callers:
            texts = self._heard[caller.name]
            foreign = {tag for tag in TAG.findall(texts) if key_of.get(tag[:3], caller.key) != caller.key}
            yield from (f"J-5: {caller.name} heard of {tag}" for tag in foreign)
            if any(key in texts or key in self._log for key in key_of.values()):
                yield f"J-5: a key was told to {caller.name}, or to the log"


def ill_told(frames: list[Frame]) -> Iterator[str]:
    """I-5 and I-6: one answer to each call, nothing about it afterwards, and progress that increases."""
    latest: dict[Any, float] = {}
    token_of = {frame.id: (frame.params.get("_meta") or {}).get("progressToken") for frame in frames if frame.by_host}
    for frame in frames:
        if frame.by_host:
            continue
        if frame.method == "notifications/progress":
            token, number = frame.params["progressToken"], frame.params["progress"]
            if number <= latest.get(token, -1):
                yield f"I-5/I-6: progress {number} after {latest[token]}"
            latest[token] = number
        elif frame.id in token_of and not frame.method:
            token = token_of.pop(frame.id)
            if token is not None:
                latest[token] = float("inf")


def at_work() -> Counter[str]:
    """J-6: the coroutines of ours that tasks of this loop are in, by name; the sandbox's are not."""
    places = [frame.f_code for task in asyncio.all_tasks() for frame in task.get_stack()]
    return Counter(
        code.co_qualname
        for code in places
        if OURS in Path(code.co_filename).parents and OURS / "sandbox" not in Path(code.co_filename).parents
    )


def _heard(caller: Caller) -> str:
    return json.dumps([frame.message for frames in caller.frames for frame in frames if not frame.by_host])


def _over_by_tag(calls: list[Call]) -> dict[str, datetime]:
    """When the last call of each tag was over, of those that got no answer, where there are any."""
    over: dict[str, datetime] = {}
    for call in sorted(calls, key=lambda call: (call.result is None, call.over_at)):
        over |= dict.fromkeys(call.tags, call.over_at)
    return over


def _without_metering(output: Any) -> Any:
    """What an answer shows as the output: `output_meta` is its metering."""
    return (
        {name: value for name, value in output.items() if name != "output_meta"} if isinstance(output, dict) else output
    )


def _outcomes(call: Call) -> list[dict[str, Any]]:
    """What was told of each run of a call, in order of its tags."""
    answer = call.result or {}
    return answer.get("results", [answer])


def _by_tag(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    outcomes = _outcomes(call)
    return zip(call.tags, outcomes if len(outcomes) == len(call.tags) else outcomes * len(call.tags), strict=True)


def _not_started(call: Call) -> list[str]:
    return [
        tag for tag, outcome in _by_tag(call)
        if outcome.get("status") == "not_started" or outcome.get("error", {}).get("outcome") == "not_started"
    ]  # fmt: skip


def _unknown(call: Call) -> list[str]:
    return [tag for tag, outcome in _by_tag(call) if outcome.get("error", {}).get("outcome") == "unknown"]


def results_in(frames: list[Frame]) -> list[Any]:
    """The results that a server sent."""
    return [frame.message["result"] for frame in frames if not frame.by_host and "result" in frame.message]
