"""What a host's picker shows, and what it completes: recent things of the caller, quick or nothing."""

from __future__ import annotations

import base64

import pytest
from mcp import Client, MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from inferencesh_mcp.resources.list import ENTRIES_PER_KIND, MAX_PAGES
from tests.conftest import Connect, Upstream, Way, connected
from tests.resources.hosts import refused
from tests.results import run
from tests.support.faults import Stall, Status
from tests.system.faults.hosts import MEMORY, over

pytestmark = pytest.mark.anyio

APP = ResourceTemplateReference(uri="inference://apps/{namespace}/{name}")


async def echoes(client: Client, count: int) -> None:
    inputs = [{"n": number} for number in range(count)]
    await client.call_tool("app_run_many", {"app": "sandbox/echo", "inputs": inputs, "max_concurrency": 32})


async def values(client: Client, ref: ResourceTemplateReference | PromptReference, name: str, written: str, **known: str) -> list[str]:  # fmt: skip
    argument = {"name": name, "value": written}
    return (await client.complete(ref, argument, context_arguments=known or None)).completion.values


async def test_the_list_shows_recent_resources(connect: Connect, way: Way) -> None:
    """Tasks, files, sessions and chats, each by a title that says what it is; every one of them can be read."""
    async with connect() as client:
        await run(client, "sandbox/count", {}, session="new")
        await client.call_tool(
            "file_upload", {"base64": "aGk=", "content_type": "text/plain", "filename": "a\u202eb.txt"}
        )
        await client.call_tool("agent_chat", {"agent": "sandbox/assistant", "message": "Hello there."})
        page = await client.list_resources()
        found = {entry.uri.split("/")[2]: entry for entry in page.resources}
        assert {"tasks", "files", "sessions", "chats"} == found.keys()
        for entry in found.values():
            await client.read_resource(entry.uri)

    assert "Task: sandbox/count (completed)" == found["tasks"].title
    assert "File: a\ufffdb.txt" == found["files"].title
    assert page.next_cursor is None
    if way.era == "2026":
        assert "private" == page.cache_scope


@over(*MEMORY)
async def test_a_long_list_has_pages(connect: Connect) -> None:
    """Each page goes on where the last ended; nothing comes twice."""
    async with connect() as client:
        await echoes(client, ENTRIES_PER_KIND + 5)
        first = await client.list_resources()
        second = await client.list_resources(cursor=first.next_cursor)

    uris = [entry.uri for entry in (*first.resources, *second.resources)]
    assert (ENTRIES_PER_KIND, 5, None) == (len(first.resources), len(second.resources), second.next_cursor)
    assert len(uris) == len(set(uris))


async def test_the_list_has_a_last_page(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that reads all pages is not led through years of tasks."""
    monkeypatch.setattr("inferencesh_mcp.resources.list.ENTRIES_PER_KIND", 2)
    async with connected(Way("memory", "2026"), environ) as client:
        await echoes(client, 2 * MAX_PAGES + 1)
        pages, cursor = 0, None
        while pages == 0 or cursor:
            cursor = (await client.list_resources(cursor=cursor)).next_cursor
            pages += 1

    assert MAX_PAGES == pages


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@over(*MEMORY)
@pytest.mark.parametrize(
    "cursor",
    ["nonsense", "e30=", "WzEsIDJd", "é", "x" * 20_000, *map(encoded, ("[" * 5_000, "[1e400, {}]", "[Infinity, {}]"))],
)
async def test_an_unknown_cursor_is_refused(connect: Connect, cursor: str) -> None:
    """With a sentence, and nothing is asked of the platform for it."""
    async with connect() as client:
        with pytest.raises(MCPError, match="The cursor is invalid"):
            await client.list_resources(cursor=cursor)


@over(*MEMORY)
async def test_a_kind_that_cannot_be_listed_is_left_out(connect: Connect, upstream: Upstream) -> None:
    """Hosts ask when they start: one call that fails takes nothing else away."""
    upstream.sandbox.faults.add(Status(code=403, error="forbidden"), method="POST", path="/chats/list", times=-1)
    async with connect() as client:
        await run(client, "sandbox/echo", {})
        page = await client.list_resources()

    assert ["tasks"] == [entry.uri.split("/")[2] for entry in page.resources]


async def test_names_of_apps_are_completed(connect: Connect) -> None:
    """Namespace, then name, by the platform's own search; what begins as written comes first."""
    async with connect() as client:
        assert ["sandbox"] == await values(client, APP, "namespace", "sa")
        assert ["echo"] == (await values(client, APP, "name", "ec", namespace="sandbox"))[:1]
        assert [] == await values(client, APP, "name", "ec", namespace="nobody")
        assert [] == await values(client, APP, "other", "ec")
        assert [] == await values(client, ResourceTemplateReference(uri="inference://other/{id}"), "id", "")


@over(*MEMORY)
async def test_ids_are_completed_from_recent_lists(connect: Connect) -> None:
    """Those of tasks, files, sessions and chats."""
    async with connect() as client:
        await run(client, "sandbox/count", {}, session="new")
        await client.call_tool("file_upload", {"base64": "aGk=", "content_type": "text/plain"})
        await client.call_tool("agent_chat", {"agent": "sandbox/assistant", "message": "Hello there."})
        recent = {
            entry.uri.split("/")[2]: entry.uri.split("/")[3] for entry in (await client.list_resources()).resources
        }
        for noun, known in recent.items():
            ref = ResourceTemplateReference(uri=f"inference://{noun}/{{id}}")
            assert known in await values(client, ref, "id", known[:4]), noun
            assert [] == await values(client, ref, "id", "zzz"), noun


@over(*MEMORY)
async def test_arguments_of_prompts_are_completed(connect: Connect) -> None:
    """Names of apps and agents; in a list with commas the last is the one that is being written."""
    async with connect() as client:
        assert ["sandbox/draw"] == await values(client, PromptReference(name="run_app"), "app", "sandbox/dr")
        several = await values(client, PromptReference(name="compare_apps"), "apps", "sandbox/echo, dr")
        agents = await values(client, PromptReference(name="hand_to_agent"), "agent", "sandbox/as")
        nothing = await values(client, PromptReference(name="run_app"), "goal", "a cat")

    assert "sandbox/echo, sandbox/draw" in several
    assert ["sandbox/assistant"] == agents
    assert [] == nothing


@over(*MEMORY)
async def test_a_slow_or_failed_completion_is_empty(
    connect: Connect, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, a refusal, no answer in time: an empty list."""
    monkeypatch.setattr("inferencesh_mcp.flows.concurrency.PATIENCE", 0.2)
    async with connect(INFERENCE_API_KEY=None) as client:
        assert [] == await values(client, APP, "name", "ec")
        assert () == upstream.sandbox.ledger.requests()
    async with connect() as client:
        upstream.sandbox.faults.add(Status(code=403, error="forbidden"), method="POST", path="/apps/list")
        assert [] == await values(client, APP, "name", "ec")
        upstream.sandbox.faults.add(Stall(), method="POST", path="/apps/list")
        assert [] == await values(client, APP, "name", "ec")


async def test_the_start_causes_no_upstream_request(connect: Connect, upstream: Upstream) -> None:
    """What a host reads when it starts, but for the list of what is recent, needs no network."""
    async with connect() as client:
        await client.list_tools()
        await client.list_prompts()
        await client.list_resource_templates()
        assert (await refused(client, "inference://nothing/1")).error.code == -32602

    assert () == upstream.sandbox.ledger.requests()
