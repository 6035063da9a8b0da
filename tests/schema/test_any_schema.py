"""Schemas of every make, as they may come: the compiled one is never stricter, and where it is looser it says so."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from inferencesh_mcp.errors import SchemaUnusable
from inferencesh_mcp.schema import Compiled, compiled_input
from inferencesh_mcp.schema.emit import NULL_LEFT_OUT
from tests.schema.hosts import RULES, refusals
from tests.schema.inputs import inputs

SCALARS = st.sampled_from(["", "a", "bb", "ccc", 0, 1, 2, 3, 2.5, None, True])
NAMES = st.sampled_from(["a", "b", "c", "a b", "é"])
SMALL = st.integers(0, 4)
LEAVES = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])}, optional={"minimum": SMALL, "maximum": SMALL}
    ),
    st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": SMALL, "maxLength": SMALL}),
    st.fixed_dictionaries({"type": st.sampled_from(["boolean", "null", ["integer", "null"], ["string", "number"]])}),
    st.fixed_dictionaries({"enum": st.lists(SCALARS, min_size=1, max_size=4, unique_by=repr)}),
    st.fixed_dictionaries({"const": SCALARS}),
    st.fixed_dictionaries({"exclusiveMinimum": SMALL, "multipleOf": st.integers(1, 3)}),
    st.fixed_dictionaries({"type": st.just("string"), "pattern": st.sampled_from(["^a", "b$"])}),
    st.just({"$ref": "#/$defs/Loop"}),
    st.just({"$ref": "#/$defs/Leaf"}),
    st.sampled_from([True, False]),
)


def _objects(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(NAMES, parts, max_size=3)},
        optional={
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": parts,
            "maxProperties": SMALL,
        },
    )


def _composed(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(parts, min_size=1, max_size=3)
    return st.one_of(
        _objects(parts),
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": parts},
            optional={"prefixItems": several, "minItems": SMALL, "maxItems": SMALL},
        ),
        *(st.fixed_dictionaries({word: several}) for word in ("anyOf", "oneOf", "allOf")),
        st.fixed_dictionaries({"anyOf": several, "allOf": several}),
        st.fixed_dictionaries({"if": parts, "then": parts, "not": parts}),
    )


SCHEMAS = st.builds(
    lambda top, more: {**top, **more, "$defs": {"Loop": {**top, **more}, "Leaf": {"type": "integer", "maximum": 2}}},
    _objects(st.recursive(LEAVES, _composed, max_leaves=8)),
    st.one_of(st.just({}), st.fixed_dictionaries({"allOf": st.lists(_objects(LEAVES), min_size=1, max_size=2)})),
)


def _compiled(schema: dict[str, Any]) -> Compiled | None:
    try:
        return compiled_input(schema)
    except SchemaUnusable:
        return None


def _renamed(made: Any, schemas: list[Any], names: dict[str, str]) -> Any:
    """The same input by the names that a model finds in the tool's schema; where that is open, by the app's own."""
    opened = [branch for schema in schemas if isinstance(schema, dict) for branch in schema.get("anyOf", [schema])]
    if isinstance(made, list):
        firsts = [[*one.get("prefixItems", []), *[one.get("items", {})] * len(made)] for one in opened]
        return [_renamed(part, [first[at] for first in firsts], names) for at, part in enumerate(made)]
    if isinstance(made, dict):
        named: dict[str, Any] = {}
        for own, part in made.items():
            name = names.get(own, own)
            places = [one["properties"][name] for one in opened if name in one.get("properties", {})]
            others = [one.get("additionalProperties", {}) for one in opened]
            named[name if places else own] = _renamed(part, places or others, names)
        return named
    return made


@settings(max_examples=80, deadline=None)
@given(SCHEMAS)
def test_it_is_never_stricter_and_says_where_it_is_looser(schema: dict[str, Any]) -> None:
    """What the app takes, the tool takes. Without a note, the tool takes nothing else."""
    compiled = _compiled(schema)
    theirs = jsonschema.Draft202012Validator(schema)
    made = list(inputs(schema, seed=json.dumps(schema), count=25))
    if compiled is None:
        assert [] == [one for one in made if theirs.is_valid(one)]
        return
    ours = jsonschema.Draft202012Validator(compiled.schema)

    names = {own: name for name, own in compiled.renamed.items()}
    given_names = [(_renamed(one, [compiled.schema], names), one) for one in made]
    stricter = [one for named, one in given_names if theirs.is_valid(one) and not ours.is_valid(named)]
    looser = [one for named, one in given_names if ours.is_valid(named) and not theirs.is_valid(one)]
    left_out = NULL_LEFT_OUT in compiled.notes
    assert [] == [one for one in stricter if not (left_out and "null" in json.dumps(one))]
    assert [] == looser or compiled.notes
    restored = [(one, compiled.restored(named)) for named, one in given_names]
    assert [] == [one for one, back in restored if one != back and "null" not in json.dumps(one)]
    assert {} == {host: found for host in RULES if (found := refusals(compiled.schema, host))}


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.one_of(SCALARS, st.text(max_size=5)),
        lambda part: st.one_of(
            st.lists(part, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "properties",
                        "items",
                        "enum",
                        "$ref",
                        "anyOf",
                        "allOf",
                        "required",
                        "const",
                        "minimum",
                        "maxLength",
                        "prefixItems",
                        "additionalProperties",
                        "format",
                        "description",
                        "default",
                        "multipleOf",
                        "uniqueItems",
                        "$defs",
                        "a",
                    ]
                ),
                part,
                max_size=5,
            ),
        ),
        max_leaves=20,
    )
)
def test_nonsense_compiles_or_is_refused(nonsense: Any) -> None:
    """What is no schema at all does not break anything, and what comes of it is one that every host takes."""
    compiled = _compiled(
        {"type": "object", "properties": {"a": nonsense}, **(nonsense if isinstance(nonsense, dict) else {})}
    )

    assert compiled is None or {} == {host: found for host in RULES if (found := refusals(compiled.schema, host))}
    if compiled is not None:
        jsonschema.Draft202012Validator.check_schema(compiled.schema)
