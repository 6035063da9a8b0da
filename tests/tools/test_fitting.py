"""Answers cut to size, and cleaned of what no host should show."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh_mcp.api.problem_details import problem
from inferencesh_mcp.sanitize import visible
from inferencesh_mcp.tools.results import FileLink, build_result, error_result
from inferencesh_mcp.tools.truncate import MAX_OUTPUT_TOKENS, as_json, cleaned_value, fit, split_parts, tokens
from tests.system.threats.test_patterns import MOST, quickly

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@given(JSON)
def test_every_value_becomes_strict_json_in_valid_utf8(value: object) -> None:
    json.dumps(fit(value).value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    "value",
    [
        "word " * 100_000,
        "日本語" * 50_000,
        "😀" * 50_000,
        "0123456789" * 50_000,
        [{"name": f"item {n}", "text": "x" * 500} for n in range(5_000)],
        {f"key {n}": n for n in range(100_000)},
        list(range(200_000)),
        {"deep": [[["y" * 200_000]]], "short": "kept"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_large_value_is_cut_and_says_so(value: object) -> None:
    found = fit(value)

    assert tokens(json.dumps(found.value, ensure_ascii=False)) <= MAX_OUTPUT_TOKENS
    assert len(json.dumps(value, ensure_ascii=False)) == found.original_length
    assert "cut:" in json.dumps(found.value, ensure_ascii=False)


def test_a_small_value_is_unchanged() -> None:
    value = {"a": [1, 2.5, None, True], "text": "line one\nline two"}

    assert (value, 0) == (fit(value).value, fit(value).original_length)


def test_a_text_is_cut_at_a_sentence() -> None:
    text = "This is a sentence. " * 10_000

    assert fit(text).value.endswith(f"sentence. … [cut: {len(text)} characters in all]")


@pytest.mark.parametrize("hidden", ["\x1b", "\x00", "\u202e", "\u200b", "\ufeff", "\U000e0041", "\ud800", "\u2066"])
def test_hidden_and_reordering_characters_are_replaced(hidden: str) -> None:
    assert "a\ufffdb" == visible(f"a{hidden}b")


@pytest.mark.finding("S13")
@pytest.mark.parametrize(
    "text",
    ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f\u200d\U0001f525", "1\ufe0f\u20e3",
     "\u0915\u094d\u200d\u0937", "\u0e01\u0e32\u0e23\u200b\u0e17\u0e33", "private \ue000 use"],
    ids=["Persian", "family", "heart on fire", "keycap", "Devanagari", "Thai", "private use"],
)  # fmt: skip
def test_characters_that_shape_a_script_or_an_emoji_are_kept(text: str) -> None:
    assert text == visible(text)
    assert {text: text} == fit({text: text}).value


@pytest.mark.finding("S13")
@pytest.mark.parametrize(
    "hidden",
    ["a\u200db", "a\u200cb", "\U0001f600\u200d\u200c\u200d\u200c", "x\ufe01", "\U0001f600\U000e0101\U000e0102"],
)
def test_joiners_and_selectors_that_shape_nothing_are_replaced(hidden: str) -> None:
    """A row of them may carry a message that no person sees."""
    assert "\ufffd" in visible(hidden)
    assert len(hidden) == len(visible(hidden))


@pytest.mark.finding("S13")
@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\r\n", "\r", "\x0b", "\x0c"])
def test_every_kind_of_line_end_becomes_a_line_feed(end: str) -> None:
    assert "one\ntwo" == visible(f"one{end}two") == fit(f"one{end}two").value


@pytest.mark.finding("S13")
def test_names_that_look_alike_stay_separate() -> None:
    """However long they are, and whatever of them is not shown: no value is lost."""
    long = "n" * 300
    value = {f"{long}1": 1, f"{long}2": 2, "a\u202e": 3, "a\u2066": 4}
    found = fit(value).value
    cut = fit({**value, "text": "word " * 100_000}).value

    assert [f"{long}1", f"{long}2"] == list(found)[:2]
    assert [1, 2, 3, 4] == list(found.values()) == list(cut.values())[:4]


@pytest.mark.finding("S13")
def test_the_parts_of_an_output_join_to_its_json() -> None:
    """Nothing is taken out on the way: what cannot be shown has a sign in its place, and it parses."""
    value = {"text": "one\u2028two \u202e three", "persian": "\u0645\u06cc\u200c\u062e"}

    assert {"text": "one\ntwo \ufffd three", "persian": value["persian"]} == json.loads(
        "".join(split_parts(as_json(cleaned_value(value))))
    )


def test_lines_and_letters_of_every_script_are_kept() -> None:
    text = "Grüße\n\tこんにちは مرحبا 👍"

    assert text == visible(text)


@pytest.mark.parametrize("text", ["", "a", "word " * 50_000, "日本" * 30_000, "x😀" * 20_000])
def test_the_parts_of_a_text_join_to_the_text(text: str) -> None:
    found = split_parts(text)

    assert text == "".join(found)
    assert all(tokens(part) <= MAX_OUTPUT_TOKENS for part in found)


@pytest.mark.skipif(sys.platform == "win32", reason="no timer of CPU time")
@pytest.mark.parametrize("value", ["word " * 1_000_000, ["a1é"] * 600_000], ids=["one long text", "many short ones"])
def test_the_largest_output_is_cut_quickly(value: object) -> None:
    """Everybody else waits while an answer is cut: what is left out is not looked at closely."""
    with quickly("an output", 4 * MOST):
        fit(value)
        split_parts(as_json(value))


@pytest.mark.parametrize(
    "value", ['"' * 100_000, "\n\t" * 50_000, ["a1é"] * 50_000], ids=["quotes", "controls", "list"]
)
def test_a_part_also_fits_as_a_json_string(value: object) -> None:
    found = split_parts(as_json(value))

    assert as_json(value) == "".join(found)
    assert all(tokens(as_json(part)) <= MAX_OUTPUT_TOKENS for part in found)


def test_no_answer_is_larger_than_hosts_accept() -> None:
    """However much there is of whatever: texts, fields, addresses, or what an app still needs."""
    links = [FileLink(url=f"https://example.com/{'1' * 1900}{n}.png") for n in range(30)]
    needs = [{"type": "secret", "key": f"KEY_{n}", "action": {"type": "add_secret"}} for n in range(600)]
    large = build_result("a line of many\n" * 50_000, {"names": ["app"] * 50_000, "id": "kept"}, links)
    refused = error_result(problem(412, {}, json.dumps({"errors": needs}).encode()))

    for result in (large, refused):
        assert tokens(as_json([part.model_dump() for part in result.content])) <= 25_000
        assert tokens(as_json(result.structured_content)) <= 20_000
    assert "kept" == (large.structured_content or {})["id"]
    assert "Next: A person has to do this" in as_json(refused.content[0].model_dump())
