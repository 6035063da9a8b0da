"""JSON from the API, line by line and whole; and that a value that is sent can be read back by everybody."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh_mcp import errors
from inferencesh_mcp.api import json as api_json
from inferencesh_mcp.api.agents import AgentRunRequest
from inferencesh_mcp.api.json import (
    MAX_LINE_BYTES,
    MAX_VALUES,
    NdjsonReader,
    NotJson,
    NotReadableBack,
    encoded,
    parse,
    too_many_values,
)
from inferencesh_mcp.api.models import RunRequest

pytestmark = pytest.mark.anyio

CASES = {
    "nothing": (b"", [], 0),
    "one": (b'{"a":1}\n', [{"a": 1}], 0),
    "two": (b'{"a":1}\n{"b":2}\n', [{"a": 1}, {"b": 2}], 0),
    "no last line end": (b'{"a":1}\n{"b":2}', [{"a": 1}, {"b": 2}], 0),
    "cut off": (b'{"a":1}\n{"b":', [{"a": 1}], 1),
    "carriage returns": (b'{"a":1}\r\n{"b":2}\r\n', [{"a": 1}, {"b": 2}], 0),
    "byte order mark": (b'\xef\xbb\xbf{"a":1}\n', [{"a": 1}], 0),
    "blank lines": (b'\n  \n\r\n{"a":1}\n\n', [{"a": 1}], 0),
    "a bad line between": (b'{"a":1}\nnonsense\n{"b":2}\n', [{"a": 1}, {"b": 2}], 1),
    "comments": (b': ping\ndata: {"a":1}\n{"b":2}\n', [{"b": 2}], 2),
    "no objects": (b'null\n[1]\n"x"\n3\n{"b":2}\n', [{"b": 2}], 0),
    "separators inside": (
        '{"a":"x\u2028y\u0085z\u000b"}\n'.replace("\u000b", "").encode(),
        [{"a": "x\u2028y\u0085z"}],
        0,
    ),
    "not a number": (b'{"a":NaN}\n{"a":Infinity}\n{"a":1e999}\n{"a":1}\n', [{"a": 1}], 3),
    "bad utf-8": (b'{"a":"\xff"}\n{"a":1}\n', [{"a": 1}], 1),
    "lone surrogate": (b'{"a":"\\ud800"}\n', [{"a": "?"}], 0),
    "too deep": (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}\n" + b'{"b":2}\n', [{"b": 2}], 1),
    "far too deep": (b"[" * 100_000 + b'\n{"b":2}\n', [{"b": 2}], 1),
    "huge number": (b'{"a":' + b"9" * 5000 + b'}\n{"b":2}\n', [{"b": 2}], 1),
}


def read(pieces):
    lines = NdjsonReader()
    objects = [line for piece in pieces for line in lines.feed(piece)]
    return objects + lines.end(), lines.bad


@pytest.mark.fault("X-8")
@pytest.mark.parametrize(("raw", "objects", "bad"), CASES.values(), ids=CASES)
def test_lines_read_the_same_wherever_the_bytes_are_cut(raw, objects, bad):
    """Where the network cuts is no news: nowhere, at each byte, and at all of them."""
    cuts = range(len(raw)) if len(raw) < 10_000 else [7]

    assert (objects, bad) == read([raw])
    assert [] == [cut for cut in cuts if (objects, bad) != read([raw[:cut], raw[cut:]])]
    assert (objects, bad) == read([raw[cut : cut + 1] for cut in range(len(raw))])


@pytest.mark.parametrize(("raw", "objects", "bad"), CASES.values(), ids=CASES)
def test_a_following_line_changes_nothing_before_it(raw, objects, bad):
    """What follows belongs to the next line."""
    whole = raw if raw.endswith(b"\n") or not raw else raw + b"\n"

    assert ([*objects, {"tail": True}], bad) == read([whole + b'{"tail":true}'])


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=6), st.data())
def test_any_cut_gives_the_same_objects(objects, data):
    """Also through the middle of a character."""
    raw = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in objects)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    assert (objects, 0) == read(pieces)


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(raw):
    """And what is found can be written as strict JSON in UTF-8."""
    objects, _ = read([raw, b"\n"])

    json.dumps(objects, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("size", "is_read"), [(MAX_LINE_BYTES - 1, True), (MAX_LINE_BYTES, True), (MAX_LINE_BYTES + 1, False)]
)
def test_a_line_may_be_as_long_as_the_limit(size, is_read):
    """One byte more, and nothing is read any further."""
    lines = NdjsonReader()
    line = b'{"a":"' + b"x" * (size - 8) + b'"}'

    objects = lines.feed(line + b"\n") + lines.feed(b'{"b":2}\n')

    assert is_read == (not lines.too_long)
    assert (2 if is_read else 0) == len(objects)


def test_an_endless_line_is_not_kept():
    """Memory stays near the limit, whatever comes."""
    lines = NdjsonReader()
    for _ in range(100):
        lines.feed(b"x" * (MAX_LINE_BYTES // 10))

    assert lines.too_long
    assert [] == lines.end()
    assert not lines._pending


TINY = [b"[]", b"{}", b"0", b'""', b'{"a":{}}']


@pytest.mark.finding("S4")
@pytest.mark.parametrize("tiny", TINY)
def test_endless_tiny_values_are_refused_before_they_take_memory(tiny):
    raw = b"[" + b",".join([tiny] * 2_000_000) + b"]"
    tracemalloc.start()
    try:
        with pytest.raises(NotJson, match="values"):
            parse(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 6 * len(raw)


@pytest.mark.finding("S4")
@pytest.mark.parametrize("text", ["[{,", '["\\", [', "\\", '\\"', "\\\\", '","', "\u00e9[\U0001f600{"], ids=range(7))
def test_brackets_and_commas_inside_a_text_are_not_counted(text):
    raw = json.dumps({"output": text * MAX_VALUES, "more": [text] * 100}).encode()

    assert not too_many_values(raw)
    assert text * MAX_VALUES == parse(raw)["output"]


def test_the_largest_allowed_number_of_values_is_read():
    assert MAX_VALUES - 1 == len(parse(b"[" + b",".join([b"7"] * (MAX_VALUES - 1)) + b"]"))


def test_values_are_not_hidden_by_another_encoding():
    hidden = json.dumps({"a\u2222": [[]] * MAX_VALUES}).encode("utf-16-le")

    assert too_many_values(hidden)


@pytest.mark.finding("S11")
def test_all_large_lines_of_one_connection_are_limited(monkeypatch):
    """The record is read then, and a new connection opened; small lines go on for ever."""
    monkeypatch.setattr(api_json, "MAX_LARGE_LINES_BYTES", 5 * api_json.LARGE_LINE)
    large = json.dumps({"id": "t", "output": "x" * api_json.LARGE_LINE}).encode() + b"\n"
    lines, small = NdjsonReader(), NdjsonReader()

    counts = [len(lines.feed(large)) for _ in range(8)]
    beats = sum(len(small.feed(b'{"type":"heartbeat"}\n' * 1_000)) for _ in range(100))

    assert ([1] * 4 + [0] * 4, True) == (counts, lines.too_long)
    assert (100_000, False) == (beats, small.too_long)


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


@pytest.mark.finding("S12")
@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
async def test_an_input_that_no_answer_could_repeat_is_refused_before_it_is_sent(api, script, value):
    """A run and a message alike: nothing was started, and it is the caller's to change."""
    script.on("POST", "/apps/run", None)

    with pytest.raises(errors.InvalidInput) as caught:
        await api.run(RunRequest(app="a/b", input=value))
    assert ("not_started", True) == (caught.value.outcome, caught.value.retry_safe)
    assert len(caught.value.message) < 120
    assert [] == script.requests


@pytest.mark.finding("S12")
async def test_a_message_that_no_answer_could_repeat_is_refused(api, script):
    """It would be in the chat, and the chat could not be read any more."""
    with pytest.raises(errors.InvalidInput) as caught:
        await api.chats.send_message(AgentRunRequest(chat_id="c1", text="a\ud800"))
    assert "not_started" == caught.value.outcome
    assert [] == script.requests


@pytest.mark.finding("S12")
@pytest.mark.parametrize("value", READABLE, ids=range(len(READABLE)))
def test_a_value_that_can_be_read_back_is_sent_unchanged(value):
    """Seeds of 64 bits, emoji, and whatever else real inputs hold."""
    assert value == parse(encoded(value))


@pytest.mark.finding("S12")
def test_an_answer_may_wrap_the_deepest_value_a_dozen_times():
    """As lists of tasks do."""
    wrapped = json.dumps(nested(12, nested(48))).encode()

    assert parse(wrapped)
    with pytest.raises(NotReadableBack):
        encoded(nested(49))
