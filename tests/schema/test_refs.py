"""References and older drafts mean the same to every reader of a schema: validation, files, descriptions and pinned tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferencesh_mcp.schema.file_fields import file_places
from inferencesh_mcp.schema.tool_schema import compiled_input
from inferencesh_mcp.schema.validate import check
from inferencesh_mcp.tools.app_description import fields
from inferencesh_sandbox import catalogue
from tests.conftest import LOCAL, Connect, Upstream
from tests.results import error, payload, run, text_of
from tests.support.faults import Status

pytestmark = [pytest.mark.anyio, pytest.mark.finding("B6")]

FILE = {"type": "string", "format": "file"}
REFERENCES = {
    "a name": ("#/$defs/File", {"$defs": {"File": FILE}}),
    "a name with a space": ("#/$defs/My%20File", {"$defs": {"My File": FILE}}),
    "a name with a slash and a tilde": ("#/$defs/a~1b~0c", {"$defs": {"a/b~c": FILE}}),
    "the older place": ("#/definitions/File", {"definitions": {"File": FILE}}),
    "a place of its own": ("#/components/schemas/File", {"components": {"schemas": {"File": FILE}}}),
    "in a list": ("#/x/1/anyOf/0", {"x": [{}, {"anyOf": [FILE]}]}),
    "another field": ("#/properties/other", {}),
    "by way of another": ("#/$defs/A", {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": FILE}}),
}


def schema_of(field: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"image": field, "other": FILE}, "required": ["image"]} | more


@pytest.mark.parametrize(("ref", "more"), REFERENCES.values(), ids=REFERENCES)
def test_every_reader_follows_a_reference_to_the_same_target(ref: str, more: dict[str, Any]) -> None:
    schema = schema_of({"$ref": ref}, **more)

    assert [("image",)] == file_places(schema, {"image": "/a.png"})
    assert ["image*: a file (path, URL or data URI)", "other: a file (path, URL or data URI)"] == fields(schema)
    assert [] == check(schema, {"image": "/a.png"}).problems
    assert ["'image' must be a file (path, URL or data URI); got 5"] == check(schema, {"image": 5}).problems
    assert "string" == compiled_input(schema)["properties"]["image"]["type"]


@pytest.mark.parametrize(
    "ref", ["#/$defs/Nowhere", "https://elsewhere.example/x", "#/x/9", "#/%zz", "#/x/٣", "other.json#/x", "#anchor"]
)
def test_a_reference_without_a_target_allows_anything(ref: str) -> None:
    schema = schema_of({"$ref": ref}, x=[FILE])

    assert [] == file_places(schema, {"image": "/a.png"})
    assert [] == check(schema, {"image": "/a.png"}).problems == check(schema, {"image": 5}).problems
    assert ["'image' is missing: as the app's schema says"] == check(schema, {}).problems


OLDER: dict[str, tuple[Any, Any, Any, str]] = {
    "above": ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, 1.5, 1, "a number above 1"),
    "below": ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, 0, 1, "a number below 1"),
    "from": ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, 1, 0, "a number of at least 1"),
    "no bound": ({"type": "number", "exclusiveMinimum": True}, -5, "x", "a number"),
    "a tuple": ({"type": "array", "items": [{"type": "integer"}, FILE]}, [1, "x"], ["x", "x"], "a list"),
    "a tuple and more": ({"type": "array", "items": [{"type": "integer"}], "additionalItems": {"type": "string"}}, [1, "x"], [1, 2], "a list"),
    "required of old": ({"type": "integer", "required": True}, 1, "x", "an integer"),
    "a wrong rule": ({"type": "integer", "minimum": "one", "maximum": 3}, 0, 4, "an integer"),
    "a wrong type": ({"anyOf": [{"type": "picture"}, {"type": "integer"}], "multipleOf": 0}, 0, None, ""),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad", "words"), OLDER.values(), ids=OLDER)
def test_the_rules_of_older_drafts_count_and_an_invalid_part_does_not_disable_the_others(
    schema: Any, good: Any, bad: Any, words: str
) -> None:
    """One part that is odd, or wrong, does not leave the whole schema unchecked."""
    whole = schema_of({"type": "string"}) | {"properties": {"image": FILE, "n": schema}}

    assert [] == check(whole, {"image": "x", "n": good}).problems
    assert ["'image' is missing: a file (path, URL or data URI)"] == check(whole, {"n": good}).problems
    assert ["'imgae' is not a field of this app: did you mean 'image'?"] == check(
        whole, {"image": "x", "imgae": 1}
    ).problems
    if bad is not None:
        assert 1 == len(check(whole, {"image": "x", "n": bad}).problems)
    assert [line for line in fields(whole) if line.startswith(f"n: {words}")]
    assert compiled_input(whole)


def test_a_file_in_a_tuple_is_found() -> None:
    """In either draft's words, and after it."""
    older = {"type": "array", "items": [{"type": "integer"}, FILE], "additionalItems": FILE}
    newer = {"type": "array", "prefixItems": [{"type": "integer"}, FILE], "items": FILE}
    for one in (older, newer):
        assert [("image", 1), ("image", 2)] == file_places(schema_of(one), {"image": [1, "/a.png", "/b.png"]})


def test_a_field_may_have_the_name_of_a_keyword() -> None:
    """What is in `properties` are names."""
    named = dict.fromkeys(
        ("items", "required", "exclusiveMinimum", "$ref", "enum", "properties", "additionalItems"), FILE
    )
    schema = {"type": "object", "properties": named}

    assert sorted((name,) for name in named) == sorted(file_places(schema, dict.fromkeys(named, "/a.png")))
    assert 7 == len(fields(schema))


@pytest.mark.parametrize("way", LOCAL[:1], ids=str)
@pytest.mark.parametrize("name", ["a name with a space", "the older place"])
async def test_a_file_behind_an_odd_reference_is_uploaded_and_described(
    name: str, connect: Connect, upstream: Upstream, folder: Path
) -> None:
    """Its path never goes upstream as text."""
    ref, more = REFERENCES[name]
    picture = folder / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    app = catalogue.find_app("sandbox/picture-info")
    shown = catalogue.app_dto(app, version_id=app.version_ids[0])
    schema = {"type": "object", "properties": {"image": {"$ref": ref}}, "required": ["image"]} | more
    text = json.dumps(shown)
    for function in shown["version"]["functions"].values():
        text = text.replace(json.dumps(function["input_schema"]), json.dumps(schema))
    upstream.sandbox.faults.add(Status(code=200, body=text), method="GET", path="/apps/sandbox/picture-info", times=-1)
    async with connect() as client:
        about = await client.call_tool("app_get", {"app": "sandbox/picture-info"})
        missing = await run(client, "sandbox/picture-info", {})
        await run(client, "sandbox/picture-info", {"image": str(picture)})

    assert "image*: a file" in text_of(about)
    assert "'image' is missing" in error(missing)["message"]
    (start,) = [task for tenant in upstream.sandbox.tenants for task in tenant.tasks]
    assert str(folder) not in str(start.request.input)
    assert 1 == len(upstream.sandbox.ledger.requests("POST", "/files"))
    assert payload(about)
