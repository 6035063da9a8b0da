"""Files of a message that are addresses: the agent hears what they are called and what they are."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh_sandbox import Facts
from tests.conftest import Connect, Upstream
from tests.results import payload
from tests.system.conversations.rounds import HERE, MEMORY, chats, over
from tests.tools.test_agents import chat

pytestmark = [pytest.mark.anyio, pytest.mark.finding("B9")]

CAT = "https://example.com/pets/my%20cat.PNG?size=large#top"


@over(*HERE)
async def test_a_picture_by_url_reaches_the_agent_as_a_picture(connect: Connect, upstream: Upstream) -> None:
    addresses = [CAT, "https://example.com/a/report.pdf", "https://example.com/", "https://example.com/data"]
    async with connect() as client:
        payload(await chat(client, "Look at these", agent="sandbox/assistant", files=addresses))

    (talk,) = chats(upstream)
    files = talk.runs[0].request.files
    assert [
        (CAT, "my cat.PNG", "image/png"),
        (addresses[1], "report.pdf", "application/pdf"),
        (addresses[2], "", ""),
        (addresses[3], "data", ""),
    ] == [(file.uri, file.filename, file.content_type) for file in files]
    assert ["text", "image", "file", "file", "file"] == _kinds(talk.messages[0].dto())


@pytest.mark.parametrize("facts", [Facts(attachments_read=False)], ids=["older"])
@over(MEMORY[0])
async def test_an_older_platform_gets_the_picture_among_the_images(connect: Connect, upstream: Upstream) -> None:
    """Both forms are sent, and the older one is sorted by type."""
    async with connect() as client:
        await chat(client, "Look at these", agent="sandbox/assistant", files=[CAT, "https://example.com/a.pdf"])

    (talk,) = chats(upstream)
    assert [{"type": "image", "image": CAT}, {"type": "file", "file": "https://example.com/a.pdf"}] == talk.messages[
        0
    ].dto()["content"][1:]


def _kinds(message: dict[str, Any]) -> list[str]:
    return [part["type"] for part in message["content"]]
