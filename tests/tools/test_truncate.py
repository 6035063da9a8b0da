"""Answers cut to size, and cleaned of what no host should show."""

from __future__ import annotations

import json
import re
import time
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh_mcp.api.problem_details import problem
from inferencesh_mcp.redaction import Redactor
from inferencesh_mcp.sanitize import visible
from inferencesh_mcp.tools import truncate
from inferencesh_mcp.tools.error_results import error_result
from inferencesh_mcp.tools.results import FileLink, build_result
from inferencesh_mcp.tools.truncate import (
    CUT,
    MAX_ANSWER_TOKENS,
    PART_TOKENS,
    SHOWN_TOKENS,
    as_json,
    fit,
    show,
    show_part,
    split_parts,
    tokens,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@given(JSON)
def test_every_value_becomes_strict_json_in_valid_utf8(value: object) -> None:
    json.dumps(fit(value), ensure_ascii=False, allow_nan=False).encode()
    json.dumps(vars(show(value)), ensure_ascii=False, allow_nan=False).encode()


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
    shown = show(value)
    last = show_part(value, shown.parts)

    assert tokens(as_json(shown.value)) <= SHOWN_TOKENS
    assert tokens(shown.text) <= SHOWN_TOKENS
    assert "…" in shown.text
    assert tokens(as_json(fit(value))) <= MAX_ANSWER_TOKENS
    assert last is not None
    assert (shown.characters, shown.parts) == (last.characters, last.parts)
    assert show_part(value, shown.parts + 1) is None


@pytest.mark.parametrize(
    "value", [{"n" * 3_000_000: "x"}, {"n" * 3_000_000: 1, "m" * 3_000_000: 2}], ids=["text", "two"]
)
def test_a_long_name_is_cut_also_if_its_value_is_short(value: dict[str, Any]) -> None:
    shown = show(value)

    assert list(value.values()) == list(shown.value.values())
    assert all(name.endswith(("n…", "m…")) for name in shown.value)
    assert tokens(as_json(vars(shown))) <= SHOWN_TOKENS


def test_a_small_value_is_unchanged() -> None:
    value = {"a": [1, 2.5, None, True], "text": "line one\nline two"}

    assert (value, 0) == (show(value).value, show(value).parts)
    assert value == fit(value)


@pytest.mark.finding("M10")
@pytest.mark.parametrize("output", [{"text": "x"}, {"text": "x", "seed": 7}, ["x"]], ids=["only", "flat", "list"])
def test_a_long_text_is_shown_by_its_beginning_and_end(output: object) -> None:
    """With one size, that of the whole, and in parts of the same form that together are all of it."""
    text = "First sentence. " + "One in the middle. " * 5_000 + "Last sentence."
    long = json.loads(json.dumps(output).replace('"x"', json.dumps(text)))

    shown = show(long)
    parts = [show_part(long, number) for number in range(1, shown.parts + 1)]

    for written in (shown.text, as_json(shown.value)):
        assert "First sentence." in written
        assert f"middle. {CUT} One in" in written
        assert "Last sentence." in written
        assert not any(number in written for number in (str(len(text)), f"{len(text):,}"))
    assert "".join(part.text for part in parts if part)[: len(shown.text) // 2] == shown.text[: len(shown.text) // 2]
    assert {shown.characters} == {part.characters for part in parts if part}
    assert shown.characters == len(text) or output != {"text": "x"}


@pytest.mark.finding("M10")
def test_a_long_list_is_shown_by_its_beginning_and_end() -> None:
    shown = show(list(range(50_000)))

    assert ([0, 1, 2], 49_999) == (shown.value[:3], shown.value[-1])
    assert re.fullmatch(r"\[… \d+ more items …\]", next(item for item in shown.value if isinstance(item, str)))


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
    assert {text: text} == fit({text: text})


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
    assert "one\ntwo" == visible(f"one{end}two") == fit(f"one{end}two")


@pytest.mark.finding("S13")
def test_names_that_look_alike_stay_separate() -> None:
    """However long they are, and whatever of them is not shown: no value is lost."""
    long = "n" * 300
    value = {f"{long}1": 1, f"{long}2": 2, "a\u202e": 3, "a\u2066": 4}
    shown = fit(value)
    cut = fit({**value, "text": "word " * 100_000})

    assert [f"{long}1", f"{long}2"] == list(shown)[:2]
    assert [1, 2, 3, 4] == list(shown.values()) == list(cut.values())[:4]


@pytest.mark.timing
def test_twenty_thousand_names_that_look_alike_stay_separate_in_bounded_time() -> None:
    unseen = [chr(number) for number in range(0xE0000, 0xE0090)]
    hidden = {f"a{first}{second}": number for number, (first, second) in enumerate(product(unseen, unseen))}
    keys = {f"1nfsh-{number:032}": number for number in range(20_000)}
    began = time.process_time()

    shown = [fit(hidden, limit=10**9), Redactor([]).value(keys)]

    assert time.process_time() - began < 5, "seconds of CPU; what tries every number for every name takes minutes"
    assert [list(range(len(hidden))), list(range(len(keys)))] == [list(value.values()) for value in shown]
    assert all(re.fullmatch(r"[^()]+( \(\d+\))?", name) for value in shown for name in value)


@pytest.mark.finding("S13")
def test_the_parts_of_an_output_join_to_its_text() -> None:
    """Nothing is taken out on the way: what cannot be shown has a sign in its place."""
    value = {"text": "one\u2028two \u202e three", "persian": "\u0645\u06cc\u200c\u062e"}
    part = show_part(value, 1)

    assert part is not None
    assert "text: one\ntwo \ufffd three\npersian: \u0645\u06cc\u200c\u062e" == part.text == part.value


def test_lines_and_letters_of_every_script_are_kept() -> None:
    text = "Grüße\n\tこんにちは مرحبا 👍"

    assert text == visible(text)


@pytest.mark.parametrize("text", ["", "a", "word " * 50_000, "日本" * 30_000, "x😀" * 20_000])
def test_the_parts_of_a_text_join_to_the_text(text: str) -> None:
    parts = split_parts(text)

    assert text == "".join(parts)
    assert all(tokens(part) <= PART_TOKENS for part in parts)


@pytest.mark.parametrize(
    "value", ['"' * 100_000, "\n\t" * 50_000, ["a1é"] * 50_000], ids=["quotes", "controls", "list"]
)
def test_a_part_also_fits_as_a_json_string(value: object) -> None:
    parts = split_parts(as_json(value))

    assert as_json(value) == "".join(parts)
    assert all(tokens(as_json(part)) <= PART_TOKENS for part in parts)


def test_no_answer_is_larger_than_hosts_accept() -> None:
    """However much there is of whatever: texts, fields, addresses, or what an app still needs."""
    links = [FileLink(url=f"https://example.com/{'1' * 1900}{n}.png") for n in range(30)]
    needs = [{"type": "secret", "key": f"KEY_{n}", "action": {"type": "add_secret"}} for n in range(600)]
    large = build_result("a line of many\n" * 50_000, {"names": ["app"] * 50_000, "id": "kept"}, links)
    refused = error_result(problem(412, {}, {"errors": needs}))

    for result in (large, refused):
        assert tokens(as_json([part.model_dump() for part in result.content])) <= 25_000
        assert tokens(as_json(result.structured_content)) <= 20_000
    assert "kept" == (large.structured_content or {})["id"]
    assert "Next: A person has to do this" in as_json(refused.content[0].model_dump())


def _wide(depth: int, width: int, leaf: Any = 7) -> Any:
    return leaf if not depth else [_wide(depth - 1, width, leaf)] * width


@pytest.mark.finding("S4")
@pytest.mark.parametrize(
    "value",
    [_wide(4, 20), [[number] for number in range(150_000)], {str(number): {} for number in range(150_000)}, ["x" * 10**6] * 16, _wide(7, 3, "é " * 900)],
    ids=["a tree", "lists", "objects", "texts", "texts in a tree"],
)  # fmt: skip
def test_a_large_output_is_read_once_and_then_in_part(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written out once to tell its length; after that only what could be shown is looked at."""
    lengths: list[int] = []
    cleaned: list[int] = []
    as_json, visible = truncate.as_json, truncate.visible

    def noted(json_value: Any) -> str:
        text = as_json(json_value)
        lengths.append(len(text))
        return text

    def recorded(text: str) -> str:
        cleaned.append(len(text))
        return visible(text)

    monkeypatch.setattr(truncate, "as_json", noted)
    monkeypatch.setattr(truncate, "visible", recorded)

    show(value)

    assert sum(lengths) < 6 * len(as_json(value)) + 12 * 16 * PART_TOKENS, "once, and in parts"
    assert sum(cleaned) < 12 * 16 * PART_TOKENS
