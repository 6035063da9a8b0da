"""Schemas of our own for every way in which an app's can be written: each compiles without becoming looser."""

from __future__ import annotations

from typing import Any

NULL = {"type": "null"}


def _object(required: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, **({"required": required} if required else {})}


WRITTEN: dict[str, dict[str, Any]] = {
    "nothing at all": {},
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
        **_object(box={"$ref": "#/$defs/Box"}, odd={"$ref": "#/$defs/a~1b~0c", "minimum": 2}),
    },
    "everything at once (allOf)": {
        "allOf": [
            _object(["a"], a={"type": "integer", "minimum": 1}),
            _object(["b"], a={"maximum": 5}, b={"type": "string"}),
        ],
        "properties": {"c": {"allOf": [{"type": "string", "minLength": 2}, {"enum": ["a", "bb", "ccc"]}]}},
    },
    "closed objects": {
        **_object(["a"], a={"type": "string"}, inner={**_object(x={"type": "integer"}), "additionalProperties": False}),
        "additionalProperties": False,
    },
    "maps": _object(
        loras={"type": "object", "additionalProperties": {"type": "number", "maximum": 1}},
        some={**_object(a={"type": "string"}), "additionalProperties": {"type": "integer"}, "maxProperties": 2},
    ),
    "values": _object(
        mode={"const": "fast"},
        size={"enum": [1, 2, 3, 4]},
        step={"type": "integer", "enum": [5, 8]},
        blank={"enum": ["", "a"]},
        mixed={"enum": ["auto", 1, 2, 3, None]},
        several={"anyOf": [{"const": "a"}, {"const": "b"}, {"enum": ["c"]}]},
    ),
    "lists": _object(
        pair={"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
        tail={"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "number"}},
        bare={"type": "array", "uniqueItems": True, "minItems": 1},
    ),
    "kinds told apart": {
        "$defs": {
            "Circle": _object(["kind", "r"], kind={"const": "circle"}, r={"type": "number", "exclusiveMinimum": 0}),
            "Square": _object(["kind", "a"], kind={"const": "square"}, a={"type": "number", "minimum": 0}),
        },
        **_object(
            ["shape"],
            shape={
                "oneOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Square"}],
                "discriminator": {"propertyName": "kind"},
            },
        ),
    },
    "files": _object(
        ["image"],
        image={"type": "string", "format": "file"},
        older={
            "oneOf": [
                {"type": "string"},
                _object(
                    **{
                        key: {"anyOf": [{"type": "string"}, NULL]}
                        for key in ("uri", "path", "content_type", "filename")
                    }
                ),
            ]
        },
    ),
    "numbers": _object(
        some={"type": ["integer", "string"], "minimum": 2, "maxLength": 2},
        times={"type": "integer", "multipleOf": 8, "minimum": 8, "maximum": 64},
        either={"anyOf": [{"type": "integer", "minimum": 10}, {"type": "integer", "maximum": 2}]},
    ),
    "required without a schema": {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string"}}},
}
