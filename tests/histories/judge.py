"""What callers were told, held against what the platform did: J-1 to J-6 of the reliability page."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import inferencesh_mcp
from inferencesh_mcp.sandbox.tasks import Task
from tests.faults.hosts import Frame
from tests.histories.callers import Call, Caller
from tests.histories.world import World

OURS = Path(inferencesh_mcp.__file__).parent
TAG = re.compile(r"\b[a-z]{3}\d{5}\b")
ID = re.compile(r"\b[0-9a-hjkmnp-tv-z]{26}\b")
RUNS = ("app_run", "app_run_many")
ACCOUNTS = (
    "was cancelled",
    "was stopped",
    "had ended",
    "goes on without",
    "may still run",
    "without its caller",
)
"""What the log says of whatever was left; that it names something in passing is no account."""
SOON = timedelta(seconds=10)
"""After whoever left: it has been looked for, and cancelled."""


def judge(world: World, callers: list[Caller], log: str) -> list[str]:
    """All that is wrong with a history that has come to rest; `log` is what the servers logged."""
    found = _Judge(world, callers, log)
    return [
        *found.started_twice(),
        *found.lost(),
        *found.untrue(),
        *found.foreign(),
        *(wrong for caller in callers for frames in caller.frames for wrong in ill_told(frames)),
        *(f"J-6: {path.name} is left behind" for path in world.folder.rglob("*.part")),
    ]


class _Judge:
    def __init__(self, world: World, callers: list[Caller], log: str) -> None:
        self._ledger = world.sandbox.ledger
        self._callers, self._log = callers, log
        self._calls = [call for caller in callers for call in caller.calls]
        self._tasks = {task.id: task for tenant in world.sandbox.tenants for task in tenant.tasks}
        self._heard = {caller.name: _heard(caller) for caller in callers}
        self._unknown = {tag for call in self._calls for tag in _unknown(call)}
        self._ran: dict[str, list[Task]] = defaultdict(list)
        """The tasks of each tag, those of agents' tools with those of calls."""
        for task in self._tasks.values():
            self._ran[_tag_in(json.dumps(task.order.input))].append(task)
        self._said = {message.message_id: _tag_in(message.text) for message in self._ledger.messages}

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
        for call in self._calls:
            drawn = sum(len(self._ran[tag]) for tag in call.tags if tag in says)
            if drawn > call.approved:
                yield f"I-20: {call.tags} was carried out {drawn} times, and approved {call.approved} times"

    def lost(self) -> Iterator[str]:
        """J-2: whoever started something knows of it, or the log does, or it was ended; and nothing runs for nobody."""
        accounts = "\n".join(line for line in self._log.splitlines() if any(how in line for how in ACCOUNTS))
        nameless = accounts.count("may go on without its caller") + accounts.count("may be at work without its caller")
        expected = set(ID.findall(json.dumps([call.result for call in self._calls]) + accounts))
        known = expected.union(*(ID.findall(text) for text in self._heard.values()))
        known |= {cancel.task_id for cancel in self._ledger.cancels} | {stop.chat_id for stop in self._ledger.stops}
        expected |= {cancel.task_id for cancel in self._ledger.cancels}
        over = {tag: call.over_at for call in self._calls for tag in call.tags if call.over_at}  # the last of each tag
        lost = [
            f"J-2: chat {message.chat_id} with {message.text!r} is lost"
            for message in self._ledger.messages
            if message.chat_id not in known and self._said[message.message_id] not in self._unknown
        ]
        for tag in {tag for call in self._calls if call.tool in RUNS for tag in call.tags} - self._unknown:
            for task in self._ran[tag]:
                if task.id not in known:
                    lost.append(f"J-2: {task.id} of {tag} ({task.status.name}) is lost")
                elif task.id not in expected and not (task.ended and task.updated_at <= over[tag] + SOON):
                    yield f"J-2: {task.id} of {tag} ({task.status.name}) ran on for nobody"
        yield from lost[nameless:]

    def untrue(self) -> Iterator[str]:
        """J-3: what is told as over stands so in the platform's records."""
        for call in self._calls:
            for told in _outcomes(call):
                task = self._tasks.get(told.get("task_id", ""))
                if told.get("status") not in {"completed", "failed", "cancelled"}:
                    continue
                if task is None or task.status.name.lower() != told["status"]:
                    yield f"J-3: {told} was told of {task and task.status.name}"
                elif told["status"] == "completed" and told.get("output") != task.output:
                    yield f"J-3: {told} was told of {task.output}"

    def foreign(self) -> Iterator[str]:
        """J-5: nobody hears of what is another's, and nobody of a key."""
        key_of = {caller.name: caller.key for caller in self._callers}
        for caller in self._callers:
            heard = self._heard[caller.name]
            foreign = {tag for tag in TAG.findall(heard) if key_of.get(tag[:3], caller.key) != caller.key}
            yield from (f"J-5: {caller.name} heard of {tag}" for tag in foreign)
            if any(key in heard or key in self._log for key in key_of.values()):
                yield f"J-5: a key was told to {caller.name}, or to the log"


def ill_told(frames: list[Frame]) -> Iterator[str]:
    """I-5 and I-6: one answer to each call, nothing about it afterwards, and progress that increases."""
    latest: dict[Any, float] = {}
    token_of = {frame.id: (frame.params.get("_meta") or {}).get("progressToken") for frame in frames if frame.sent}
    for frame in frames:
        if frame.sent:
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


def _tag_in(text: str) -> str:
    found = TAG.search(text)
    return found[0] if found else ""


def _heard(caller: Caller) -> str:
    return json.dumps([frame.message for frames in caller.frames for frame in frames if not frame.sent])


def _outcomes(call: Call) -> list[dict[str, Any]]:
    """What was told of each run of a call, in order of its tags."""
    told = call.result or {}
    return told.get("results", [told])


def _by_tag(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    told = _outcomes(call)
    return zip(call.tags, told if len(told) == len(call.tags) else told * len(call.tags), strict=True)


def _not_started(call: Call) -> list[str]:
    return [
        tag for tag, told in _by_tag(call)
        if told.get("status") == "not_started" or told.get("error", {}).get("outcome") == "not_started"
    ]  # fmt: skip


def _unknown(call: Call) -> list[str]:
    return [tag for tag, told in _by_tag(call) if told.get("error", {}).get("outcome") == "unknown"]
