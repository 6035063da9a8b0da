"""The editor of JSON with comments: it reads what JSON is, and its edits undo each other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferencesh_mcp.errors import HostFileRefused
from inferencesh_mcp.hosts import jsonc

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
few = settings(max_examples=40, deadline=None)
objects = st.dictionaries(st.text(max_size=5), values, max_size=4)
indents = st.sampled_from([None, 1, 2, 4, "\t"])


@few
@given(values, indents, st.booleans())
def test_it_reads_what_the_standard_library_writes(value: object, indent: int | str | None, ascii_only: bool) -> None:
    node = jsonc.parse(json.dumps(value, indent=indent, ensure_ascii=ascii_only), comments=False)

    assert node is not None
    assert value == node.value


@few
@given(objects, values, indents)
def test_what_is_put_in_can_be_taken_out(content: dict[str, object], value: object, indent: int | str | None) -> None:
    before = json.dumps(content | {"servers": {"other": 1}}, indent=indent)

    after = jsonc.put(before, ("servers", "new"), value, comments=False)

    assert content | {"servers": {"other": 1, "new": value}} == json.loads(after)
    assert before == jsonc.take(after, ("servers", "new"), comments=False)


@few
@given(objects.filter(bool), indents)
def test_any_member_can_be_taken_out(content: dict[str, object], indent: int | str | None) -> None:
    text = json.dumps(content, indent=indent)
    for key in list(content):
        rest = {other: value for other, value in content.items() if other != key}

        assert rest == json.loads(jsonc.take(text, (key,), comments=False))


@few
@given(st.text(alphabet='{}[]",:/*\n\\ 1a', max_size=20).filter(str.strip))
def test_it_never_takes_what_json_is_not(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(HostFileRefused):
            jsonc.parse(text, comments=False)
        return
    node = jsonc.parse(text, comments=False)
    assert node is not None
    assert expected == node.value


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{\n  "a": 1 // one\n}\n', '{\n  "a": 1, // one\n  "b": 2\n}\n'),
        ('{\n  "a": 1, // one\n}\n', '{\n  "a": 1, // one\n  "b": 2,\n}\n'),
        ('{\n  "a": 1 /* one\n */\n}\n', '{\n  "a": 1,\n  "b": 2 /* one\n */\n}\n'),
        ('{ "a": 1 }', '{ "a": 1, "b": 2 }'),
        ('{"a":[\n1]}', '{"a":[\n1],\n  "b": 2}'),
        ("{}", '{\n  "b": 2\n}'),
        ("{\n  // nothing yet\n}", '{\n  // nothing yet\n  "b": 2\n}'),
        ("{ // nothing yet\n}", '{ // nothing yet\n  "b": 2\n}'),
        ('{\n\t"a": {}\n}', '{\n\t"a": {},\n\t"b": 2\n}'),
        ("// only this\n", '// only this\n{\n  "b": 2\n}\n'),
        ('{\n"a": 1\n}', '{\n"a": 1,\n"b": 2\n}'),
    ],
)
def test_it_writes_as_the_file_is_written(before: str, after: str) -> None:
    assert after == jsonc.put(before, ("b",), 2, comments=True)
