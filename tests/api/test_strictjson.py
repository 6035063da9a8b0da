"""What is sent can be read back: by us, and by whoever the platform is written in."""

import json

import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api.agents import AgentRunRequest, MessageInput
from inferencesh_mcp.api.json import NotReadableBack, encoded, parse
from inferencesh_mcp.api.models import RunRequest

pytestmark = [pytest.mark.anyio, pytest.mark.finding("S12")]


def nested(depth, inner=1):
    for _ in range(depth):
        inner = {"a": inner}
    return inner


UNREADABLE = {
    "deep": nested(60),
    "very deep": nested(5000),
    "not a number": {"a": float("nan")},
    "infinite": {"a": [float("-inf")]},
    "half a character": {"a": "\ud800"},
    "the other half": {"a": "x\udfff"},
    "halves the wrong way round": {"a": "\udc00\ud800"},
    "half a character as a name": {"\udcff": 1},
    "308 digits too many": {"a": 10**309},
    "too many digits for Python": {"a": 10**5000},
    "no JSON": {"a": {1, 2}},
    "large": {"a": "x" * (4 * 1024 * 1024)},
}
READABLE = [
    nested(48), {"a": 2**64 - 1}, {"a": -(10**300)}, {"a": 1.7e308}, {"a": "\U0001f600\U0001f600 \\ud800"}, {"a": "9" * 400},
    [[]] * 100_000, {"a": "\u2028\u0000"}, {"a": 10**308},
]  # fmt: skip


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_no_answer_could_repeat_is_refused_before_anything_is_sent(api, script, value):
    """A run and a message alike: nothing was started, and it is the caller's to change."""
    script.on("POST", "/apps/run", None)

    with pytest.raises(errors.InvalidInput) as caught:
        await api.run(RunRequest(app="a/b", input=value))
    assert ("not_started", True) == (caught.value.outcome, caught.value.retry_safe)
    assert len(caught.value.message) < 120
    assert [] == script.seen


async def test_a_message_that_no_answer_could_repeat_is_refused(api, script):
    """It would be in the chat, and the chat could not be read any more."""
    with pytest.raises(errors.InvalidInput) as caught:
        await api.chats.send_message(AgentRunRequest(chat_id="c1", input=MessageInput(text="a\ud800")))
    assert "not_started" == caught.value.outcome
    assert [] == script.seen


@pytest.mark.parametrize("value", READABLE, ids=range(len(READABLE)))
def test_what_can_be_read_back_is_sent_as_it_is(value):
    """Seeds of 64 bits, emoji, and whatever else real inputs hold."""
    assert value == parse(encoded(value))


def test_an_answer_may_wrap_the_deepest_value_a_dozen_times():
    """As lists of tasks do."""
    wrapped = json.dumps(nested(12, nested(48))).encode()

    assert parse(wrapped)
    with pytest.raises(NotReadableBack):
        encoded(nested(49))
