"""Lines out of bytes, however the bytes are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh_mcp.api.json import LINE_LIMIT, NdjsonReader

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
    found = [line for piece in pieces for line in lines.feed(piece)]
    return found + lines.end(), lines.bad


@pytest.mark.fault("X-8")
@pytest.mark.parametrize(("raw", "found", "bad"), CASES.values(), ids=CASES)
def test_a_case_reads_the_same_wherever_it_is_cut(raw, found, bad):
    """Where the network cuts is no news: nowhere, at each byte, and at all of them."""
    cuts = range(len(raw)) if len(raw) < 10_000 else [7]

    assert (found, bad) == read([raw])
    assert [] == [cut for cut in cuts if (found, bad) != read([raw[:cut], raw[cut:]])]
    assert (found, bad) == read([raw[cut : cut + 1] for cut in range(len(raw))])


@pytest.mark.parametrize(("raw", "found", "bad"), CASES.values(), ids=CASES)
def test_a_tail_does_not_disturb_what_came_before(raw, found, bad):
    """What follows belongs to the next line."""
    whole = raw if raw.endswith(b"\n") or not raw else raw + b"\n"

    assert ([*found, {"tail": True}], bad) == read([whole + b'{"tail":true}'])


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=6), st.data())
def test_any_cut_gives_the_same_objects(objects, data):
    """Also through the middle of a character."""
    raw = b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in objects)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    assert (objects, 0) == read(pieces)


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(raw):
    """And what is found can be written as strict JSON in UTF-8."""
    found, _ = read([raw, b"\n"])

    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(("size", "kept"), [(LINE_LIMIT - 1, True), (LINE_LIMIT, True), (LINE_LIMIT + 1, False)])
def test_a_line_may_be_as_long_as_the_limit(size, kept):
    """One byte more, and nothing is read any further."""
    lines = NdjsonReader()
    line = b'{"a":"' + b"x" * (size - 8) + b'"}'

    found = lines.feed(line + b"\n") + lines.feed(b'{"b":2}\n')

    assert kept == (not lines.too_long)
    assert (2 if kept else 0) == len(found)


def test_a_line_without_end_is_not_kept():
    """Memory stays near the limit, whatever comes."""
    lines = NdjsonReader(limit=1000)
    for _ in range(100):
        lines.feed(b"x" * 100)

    assert lines.too_long
    assert [] == lines.end()
    assert not lines._pending
