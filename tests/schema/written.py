"""Schemas of our own in the forms that real apps use: each compiles without becoming looser."""

from __future__ import annotations

from typing import Any

NULL = {"type": "null"}


def _object(required: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, **({"required": required} if required else {})}


WRITTEN: dict[str, dict[str, Any]] = {
    "no rules": {},
    "nullable fields": _object(
        ["a"],
        a={"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, NULL]},
        b={"anyOf": [{"type": "array", "items": {"type": "string"}, "maxItems": 2}, NULL], "default": None},
        c={"anyOf": [_object(["x"], x={"type": "boolean"}), NULL]},
        d={"type": ["string", "null"], "maxLength": 3},
        e={"anyOf": [{"enum": ["a", "b"], "type": "string"}, NULL]},
    ),
    "references": {
        "$defs": {
            "Size": {"type": "string", "enum": ["s", "m"], "description": "An enumeration."},
            "Box": _object(
                ["size"], size={"$ref": "#/$defs/Size"}, many={"type": "array", "items": {"$ref": "#/$defs/Size"}}
            ),
            "a/b~c": {"type": "integer", "maximum": 3},
        },
        **_object(box={"$ref": "#/$defs/Box"}, odd={"$ref": "#/$defs/a~1b~0c"}),
    },
    "lists of values": _object(
        size={"type": "integer", "enum": [1, 2, 3, 4]},
        step={"type": "integer", "enum": [5, 8]},
        mode={"type": "string", "const": "fast"},
    ),
    "lists": _object(some={"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "number"}}),
    "a choice of objects": {
        "$defs": {
            "Circle": _object(["r"], r={"type": "number", "exclusiveMinimum": 0}),
            "Square": _object(["a"], a={"type": "number", "minimum": 0}),
        },
        **_object(["shape"], shape={"anyOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Square"}]}),
    },
    "files": _object(
        ["image"],
        image={"type": "string", "format": "file"},
        older={
            "oneOf": [
                _object(
                    **{
                        key: {"anyOf": [{"type": "string"}, NULL]}
                        for key in ("uri", "path", "content_type", "filename")
                    }
                ),
                {"type": "string"},
            ]
        },
    ),
}
