"""A schema that somebody else wrote: what it says counts, and it can neither take long nor have anything fetched (T-18)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from inferencesh_mcp.schema.validate import validator_for


def field(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, **more}


def wrong(schema: Any, value: Any) -> list[str]:
    return [str(error.validator) for error in validator_for(schema).errors(value)]


@pytest.fixture
def tripwire(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("something was looked for")

    monkeypatch.setattr(socket, "getaddrinfo", touched)
    monkeypatch.setattr(socket.socket, "connect", touched)
    monkeypatch.setattr("urllib.request.urlopen", touched)


@pytest.mark.usefixtures("tripwire")
def test_what_leads_out_of_a_schema_is_never_fetched(tmp_path: Path) -> None:
    """Neither an address nor a file; what it would have said is not known, and the rest still counts."""
    inner = tmp_path / "inner.json"
    inner.write_text('{"type": "integer"}')
    for ref in (
        "http://127.0.0.1:9/x.json",
        "https://evil.example/x.json",
        inner.as_uri(),
        "other.json",
        "//evil.example/x",
    ):
        schema = field({"$ref": ref, "type": "string"})
        assert [] == wrong(schema, {"a": "x"})
        assert ["type"] == wrong(schema, {"a": 5})
        assert ["required"] == wrong(field({"$ref": ref}, required=["b"]), {"a": 5})
        under = {"$id": "https://evil.example/", **field({"$ref": "#/$defs/A"}, **{"$defs": {"A": {"type": "string"}}})}
        assert ["type"] == wrong(under, {"a": 5})


@pytest.mark.usefixtures("tripwire")
@pytest.mark.parametrize("ref", ["#/$defs/Nowhere", "#nowhere", "#/%zz", "#"])
def test_what_leads_nowhere_leaves_the_value_to_the_app(ref: str) -> None:
    """A reference to nothing, or only to itself, says nothing that could be wrong."""
    assert [] == wrong({"$ref": ref}, {"a": 1})


def test_a_pattern_is_left_to_the_app() -> None:
    """It may be one that never ends. So are names that only a pattern allows."""
    schema = field(
        {"type": "string", "pattern": "^b"}, patternProperties={"^x-": {"type": "integer"}}, additionalProperties=False
    )

    assert [] == wrong(schema, {"a": "a", "x-1": "text", "other": 1})
    assert ["type"] == wrong(schema, {"a": 5})


def test_a_field_that_is_called_like_a_rule_is_a_field() -> None:
    """`pattern` and `$id` are good names for fields, and what is in an enum is no schema."""
    schema = field({"enum": [{"pattern": "x"}]}, required=["pattern"])
    schema["properties"]["pattern"] = {"type": "string"}

    assert [] == wrong(schema, {"a": {"pattern": "x"}, "pattern": "p"})
    assert ["type"] == wrong(schema, {"pattern": 5})
    assert ["enum"] == wrong(schema, {"a": {"pattern": "y"}, "pattern": "p"})


def test_a_dialect_of_its_own_is_none() -> None:
    """Inside a schema `$schema` would hand the rest to rules that are not counted."""
    inner = {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a+)+$", "type": "string"}

    assert [] == wrong(field(inner), {"a": "a" * 40 + "!"})
