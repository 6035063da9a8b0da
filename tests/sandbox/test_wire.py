"""Envelopes, problems, keys and paths: what every answer has in common."""

from __future__ import annotations

import httpx2
import pytest

from inferencesh_sandbox import Facts, serving
from inferencesh_sandbox.ledger import matches
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def test_version_2_is_answered_bare(me):
    assert (await me.get("/me")).json()["username"].startswith("sandbox-")


async def test_without_a_version_the_answer_comes_in_the_envelope(me, url):
    async with httpx2.AsyncClient(headers={"authorization": "Bearer inf_me"}) as old:
        told = (await old.get(f"{url}/me")).json()

    assert (told["success"], told["status"], told["messages"]) == (True, 200, [])
    assert told["data"] == (await me.get("/me")).json()


@pytest.mark.parametrize("authorization", ["", "Bearer nobody", "Bearer", "Basic inf_me"])
async def test_no_key_of_ours_is_a_401_problem(url, authorization):
    async with httpx2.AsyncClient(headers={"authorization": authorization}) as http:
        answer = await http.get(f"{url}/me")

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "https://api.inference.sh/errors/unauthorized"
    assert answer.json()["error"]["code"] == "unauthorized"


@pytest.mark.parametrize("joined", ["//me", "/prefix//me", "/api/v1/me"])
async def test_base_urls_joined_by_concatenation_work(me, url, joined):
    assert (await me.get(f"{url}{joined}")).status_code == 200


async def test_an_empty_body_with_a_json_type_is_accepted(me):
    answer = await me.http.post("/tasks/list", headers={"content-type": "application/json"})

    assert answer.json()["items"] == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(me, body):
    answer = await me.http.post("/apps/run", content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


async def test_an_unknown_path_and_a_wrong_method_are_problems(me):
    assert (await me.get("/nothing")).json()["error"]["code"] == "not_found"
    assert (await me.http.delete("/me")).json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("path", "pattern", "meant"),
    [
        ("/tasks/1/stream", "/tasks/*/stream", True),
        ("/tasks/1/stream", "/tasks/*", False),
        ("/tasks/1", "/tasks/*", True),
        ("/app/files/u/1/2.png", "/app/files/**", True),
        ("/tasks", "/**", True),
        ("/tasksx", "/tasks", False),
        ("/t.sks", "/t?sks", False),
    ],
)
async def test_a_pattern_names_paths_segment_by_segment(path, pattern, meant):
    assert matches(path, pattern) is meant


async def test_health_needs_no_key(url):
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{url}/healthz")).json()["ok"] is True


async def test_what_is_required_and_not_connected_is_told(me):
    asked = {"secrets": [{"key": "K"}, {"key": "L", "optional": True}], "credentials": [{"slug": "google"}]}

    told = (await me.post("/integrations/check", asked)).json()

    assert told["satisfied"] is False
    assert [(one["type"], one["key"]) for one in told["errors"]] == [("secret", "K"), ("credential", "google")]
    assert (await me.post("/credentials/check", {"integrations": [{"key": "google"}]})).json() == {"satisfied": True}
    assert (await me.post("/credentials/check", {"secrets": ["K"]})).status_code == 400
    assert (await me.post("/credentials/check", {})).json() == {"satisfied": True}


async def test_the_newest_form_is_one_envelope_whatever_version_is_named():
    """And a problem without the `error` of older ones; keys of either beginning are let in."""
    async with serving(Sandbox()) as url, httpx2.AsyncClient(base_url=url) as http:
        answers = [
            await http.get("/me", headers={"authorization": f"Bearer {key}", **version})
            for key in ("inf_me", "1nfsh-01arz3ndektsv4rrffq69g5fav")
            for version in ({}, {"x-api-version": "2"})
        ]
        refused = await http.get("/me", headers={"authorization": "Bearer nobody"})

    assert [{"data", "messages"}] * 4 == [answer.json().keys() for answer in answers]
    assert "error" not in refused.json()
    assert refused.json()["type"] == "https://api.inference.sh/errors/unauthorized"


@pytest.mark.parametrize("slim", [True, False])
async def test_a_run_is_answered_slim_or_whole(slim):
    body = {"app": "sandbox/echo", "input": {"a": 1}}
    async with serving(Sandbox(facts=Facts(slim_run_answers=slim))) as url, httpx2.AsyncClient() as http:
        headers = {"authorization": "Bearer inf_me"}
        told = (await http.post(f"{url}/apps/run", json=body, headers=headers)).json()["data"]

    assert ("input" not in told, "status_text" in told) == (slim, slim)
    assert told["id"]
