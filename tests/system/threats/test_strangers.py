"""Two callers of one server, in turn, with every id that there is: neither ever sees what is the other's (A-5, A-17, I-8, I-10)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from inferencesh_sandbox import serving
from inferencesh_sandbox.ids import fingerprint
from tests.http.asking import ERAS, Face, facing, message_of
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio
KEYS = {"ada": "inf_ada_CANARY_a1", "bob": "inf_bob_CANARY_b2"}
BY_ID: dict[str, tuple[str, dict[str, Any]]] = {
    "task_get": ("task", {"task_id": None}), "task_logs": ("task", {"task_id": None}), "task_cancel": ("task", {"task_id": None}),
    "file_delete": ("file", {"file": None}), "session_get": ("session", {"session_id": None}),
    "session_keepalive": ("session", {"session_id": None}), "session_end": ("session", {"session_id": None}),
    "app_run": ("session", {"app": "sandbox/count", "input": {}, "session": None}),
    "chat_get": ("chat", {"chat_id": None}), "chat_stop": ("chat", {"chat_id": None}),
    "chat_respond": ("chat", {"chat_id": None, "invocation_id": "x", "result": "x"}),
    "agent_chat": ("chat", {"agent": "sandbox/assistant", "message": "Hi.", "chat_id": None}),
}  # fmt: skip
"""Every tool that takes an id over HTTP, whose id it takes, and how."""
RESOURCES = {
    "task": ("tasks/{}", "tasks/{}/logs"),
    "file": ("files/{}",),
    "session": ("sessions/{}",),
    "chat": ("chats/{}",),
}
LISTS = ("task_list", "file_list", "session_list")


@pytest.fixture(scope="module")
async def faces() -> AsyncIterator[dict[str, Face]]:
    """One server, and two who may use it."""
    sandbox = Sandbox()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(sandbox))
        face = await stack.enter_async_context(facing({"INFERENCE_BASE_URL": url}, sandbox, {}))
        yield {name: face.seen_by({"authorization": f"Bearer {key}"}) for name, key in KEYS.items()}


@pytest.fixture(scope="module")
async def ids(faces: dict[str, Face]) -> dict[str, dict[str, str]]:
    """One thing of each kind for each of them, with their name in it."""
    by_owner: dict[str, dict[str, str]] = {}
    for name, face in faces.items():
        task = await face.call("app_run", app="sandbox/slow", input={"seconds": 60, "steps": 2}, wait=False)
        counted = await face.call("app_run", app="sandbox/count", input={}, session="new")
        chat = await face.call("agent_chat", agent="sandbox/assistant", message=f"I am {name}-CANARY.")
        file = await face.call("file_upload", base64="aGk=", filename=f"{name}-CANARY.txt", content_type="text/plain")
        by_owner[name] = {
            "task": task["task_id"],
            "session": counted["session_id"],
            "chat": chat["chat_id"],
            "file": file["file_id"],
        }
    return by_owner


def check_answer(answer: Any, owner: str) -> str:
    """What was said, which says nothing of the owner's."""
    text = json.dumps(answer)
    assert f"{owner}-CANARY" not in text
    assert KEYS[owner] not in text
    return text


@pytest.mark.parametrize("era", ERAS)
async def test_an_id_is_useless_without_its_owners_key(
    faces: dict[str, Face], ids: dict[str, dict[str, str]], era: str
) -> None:
    """Each tries each other's; it is as if it were not there, and nothing becomes of it; then the owner's own works."""
    sandbox = faces["ada"].sandbox
    cancels, starts = len(sandbox.ledger.cancels), len(sandbox.ledger.starts)
    for mine, theirs in (("ada", "bob"), ("bob", "ada")):
        for tool, (kind, arguments) in BY_ID.items():
            filled = {name: ids[theirs][kind] if value is None else value for name, value in arguments.items()}
            answer = await faces[mine].call(tool, era, **filled)
            assert answer.get("error", {}).get("code", "").endswith("not_found"), (tool, answer)
            check_answer(answer, theirs)
        for kind, templates in RESOURCES.items():
            for template in templates:
                response = await faces[mine].ask("resources/read", era, uri="inference://" + template.format(ids[theirs][kind]),
                                                 more={"mcp-name": "inference://" + template.format(ids[theirs][kind])} if era == ERAS[0] else {})  # fmt: skip
                answer = message_of(response)
                assert "error" in answer, (template, answer)
                check_answer(answer, theirs)

    assert (cancels, starts) == (len(sandbox.ledger.cancels), len(sandbox.ledger.starts))
    for name, face in faces.items():
        assert ids[name]["task"] == (await face.call("task_get", era, task_id=ids[name]["task"]))["task_id"]
        assert (
            ids[name]["session"] == (await face.call("session_get", era, session_id=ids[name]["session"]))["session_id"]
        )


@pytest.mark.parametrize("era", ERAS)
async def test_lists_and_completions_show_only_the_callers_own(
    faces: dict[str, Face], ids: dict[str, dict[str, str]], era: str
) -> None:
    for mine, theirs in (("ada", "bob"), ("bob", "ada"), ("ada", "bob")):
        texts = [json.dumps(await faces[mine].call(tool, era)) for tool in LISTS]
        texts.append((await faces[mine].ask("resources/list", era)).text)
        for kind, (template, *_) in RESOURCES.items():
            ref = {"type": "ref/resource", "uri": "inference://" + template.format("{id}")}
            response = await faces[mine].ask("completion/complete", era, ref=ref, argument={"name": "id", "value": ""})
            assert ids[mine][kind] in response.text, kind
            texts.append(response.text)
        for text in texts:
            assert not [item for item in ids[theirs].values() if item in text]
            assert f"{theirs}-CANARY" not in text


async def test_each_request_is_sent_with_its_callers_key(faces: dict[str, Face]) -> None:
    """Of all that was asked in this file, nothing was asked in anybody else's name."""
    assert {fingerprint(key) for key in KEYS.values()} >= set(faces["ada"].asked()) - {""}
