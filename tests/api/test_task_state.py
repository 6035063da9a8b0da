"""A record and a line make the next record."""

import pytest

from inferencesh_mcp.api.task_state import FIELDS, LONGEST, merge

RECORD = {"id": "t", "short_id": "s", "status": 7, "input": {"a": 1}, "output": None}
TABLE = {
    "heartbeat": ({"type": "heartbeat"}, {}),
    "bare whole": ({"id": "t", "status": 9, "output": 1}, {"status": 9, "output": 1}),
    "by its short id": ({"id": "s", "status": 9}, {"id": "s", "status": 9}),
    "slim": ({"status": "uploading"}, {"status": "uploading"}),
    "named fields": ({"data": {"status": 9, "output": "zero", "id": "t"}, "fields": ["status"]}, {"status": 9}),
    "fields that are not there": ({"data": {"status": 9}, "fields": ["Status"]}, {"status": 9}),
    "no fields named": ({"data": {"status": 9}, "fields": []}, {"status": 9}),
    "odd fields": ({"data": {"status": 9}, "fields": [1, None]}, {"status": 9}),
    "data alone": ({"data": {"status": 9}}, {"status": 9}),
    "event with data": ({"event": "update", "data": {"status": 9}}, {"status": 9}),
    "event of another thing": ({"event": "chat_messages", "data": {"id": "m", "status": "ready"}}, {}),
    "another task": ({"id": "u", "status": 10}, {}),
    "unknown": ({"event": "surprise"}, {}),
    "an error of the stream": ({"error": "x"}, {}),
    "data that is no object": ({"event": "update", "data": [1]}, {}),
    "a null status": ({"id": "t", "status": None, "output": 2}, {"output": 2}),
    "an output taken back": ({"id": "t", "output": None}, {}),
    "envelope": ({"success": True, "status": 200, "data": {"status": 9}}, {"status": 9}),
    "a key of ours": ({"id": "t", "streamed": "x"}, {}),
    "no delta": ({"event": "delta", "data": {"seq": 1}}, {}),
    "a delta that is no object": ({"event": "delta", "data": {"delta": 3}}, {}),
    "a null delta": ({"event": "delta", "data": {"delta": None, "seq": None}}, {}),
    "delta without data": ({"event": "delta"}, {}),
    "delta": ({"event": "delta", "data": {"delta": {"response": "Hel"}, "seq": 1}}, {"streamed": "Hel"}),
    "delta of text": ({"event": "delta", "data": {"delta": "Hel"}}, {"streamed": "Hel"}),
}


@pytest.mark.parametrize(("line", "change"), TABLE.values(), ids=TABLE)
def test_a_line_changes_only_the_fields_it_names(line, change):
    """And nothing else; a line without news gives the same record."""
    merged = merge(RECORD, line)

    assert {**RECORD, **change} == merged
    assert bool(change) == (merged is not RECORD)


@pytest.mark.parametrize("status", [10, 11, 12, 13, "completed", "Failed", "CANCELLED", "rejected"])
def test_the_end_is_final(status):
    """A late line changes nothing."""
    ended = {**RECORD, "status": status, "output": "final"}

    assert ended is merge(ended, {"id": "t", "status": 7, "output": None})
    assert ended is merge(ended, {"data": {"status": 11}, "fields": ["status"]})
    assert ended is merge(ended, {"event": "delta", "data": {"delta": {"response": "x"}}})


DELTAS = {
    "text": ([{"response": "Hel"}, {"response": "lo", "reasoning": "r"}, "!"], "Hello!"),
    "null is no change": ([{"response": "a"}, {"response": None, "extra": None}], "a"),
    "other fields are not kept": ([{"x": "a"}, {"usage": {"total_tokens": 3}, "tool_calls": [{"id": "a"}]}], ""),
    "odd kinds": ([{"response": 3}, 3, None, []], ""),
}


@pytest.mark.parametrize(("deltas", "text"), DELTAS.values(), ids=DELTAS)
def test_deltas_add_up_to_a_text(deltas, text):
    record = RECORD
    for delta in deltas:
        record = merge(record, {"event": "delta", "data": {"delta": delta}})

    assert text == record.get("streamed", "")


def test_of_endless_deltas_only_the_end_is_kept():
    """The newest text is what a person sees, and the record has all of it at the end."""
    record = RECORD
    for number in range(3):
        record = merge(record, {"event": "delta", "data": {"delta": str(number) * (LONGEST - 1)}})

    assert LONGEST == len(record["streamed"])
    assert record["streamed"].endswith("2")


@pytest.mark.finding("S11")
def test_a_task_keeps_no_unknown_field():
    record = {"id": "t", "status": "running"}
    for number in range(1_000):
        record = merge(record, {"data": {"id": "t", f"new_{number}": "x"}, "fields": [f"new_{number}"]})
        record = merge(record, {"event": "delta", "data": {"delta": {f"new_{number}": "x", "response": "a"}}})

    assert record.keys() <= FIELDS | {"streamed"}
    assert "a" * 1_000 == record["streamed"]
