"""Compile an app's JSON Schema into the smallest one that every host takes and that accepts the same inputs.

The app's schema is untrusted (threat T-18): nothing is fetched, and the time is bounded. The result is one object schema
without references, choices at the top, regular expressions or unknown keywords. It is never stricter than the app's own, and
`notes` say where it is looser. Before a run the input is validated against the app's own schema. Pure: no I/O.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from inferencesh_mcp.errors import SchemaUnusable
from inferencesh_mcp.schema.emit import TooLarge, Writer, is_file, size
from inferencesh_mcp.schema.ir import ANYTHING, CompileBudget, Rule, Shape, is_open
from inferencesh_mcp.schema.limits import EVERY_HOST, LONGEST_NAME, LONGEST_TOOL_NAME, HostLimits
from inferencesh_mcp.schema.parse import Reader
from inferencesh_mcp.schema.refs import modern

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_OUTPUT_DEPTH = 6  # levels of an output's schema; deeper parts are not shown
_STEPS = 6000  # of work on one schema, however it is written: some 20 ms
_OUTPUT_FIELDS_DEPTH = 1  # levels of fields that are described; below that anything is accepted

# Property names that JavaScript hosts lose or fail on.
_RESERVED = frozenset({"__proto__", "constructor", "prototype"})
_OTHER = re.compile(r"[^a-zA-Z0-9_-]+")


@dataclass(frozen=True)
class Compiled:
    """A schema that hosts take, and how to translate arguments back."""

    schema: dict[str, Any]
    """An object schema, ready to be a tool's `inputSchema`."""
    notes: tuple[str, ...] = ()
    """Where the schema is looser than the app's own, one sentence each. None quotes the app's schema."""
    renamed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The fields with another name: from that name to the app's own."""

    def restored(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with the app's own names at every depth, and without nulls that this schema does not take."""
        restored: dict[str, Any] = _restored(arguments, [self.schema], self.renamed)
        return restored


def compiled_input(schema: dict[str, Any]) -> Compiled:
    """Compile an app's input schema.

    Raises:
        SchemaUnusable: no object fits it, or it is too large even without its details.
    """
    return _compiled(schema, EVERY_HOST, lambda shape: shape)


def compiled_output(schema: dict[str, Any]) -> dict[str, Any]:
    """Compile an app's output schema, loose enough that no real output fails it. Nothing is required.

    Raises:
        SchemaUnusable: no object fits it, or it is too large even without its details.
    """
    subschemas = EVERY_HOST.subschemas // 3  # each is written as a choice between itself and null
    depth = min(_OUTPUT_DEPTH, EVERY_HOST.depth)
    shallow = replace(EVERY_HOST, depth=depth, subschemas=subschemas, null_fields=True)
    return _compiled(schema, shallow, _relaxed).schema


def _compiled(schema: dict[str, Any], limits: HostLimits, transform: Callable[[Shape], Shape]) -> Compiled:
    schema = modern(schema)
    notes: dict[str, None] = {}
    for attempt in _attempts(limits):
        budget = CompileBudget(_STEPS, attempt.most_branches)
        shape = transform(Reader(schema, attempt, budget).shape(schema))
        names = _host_names(shape)
        try:
            written = Writer(attempt, names, budget).top(shape)
        except TooLarge:
            written = {}
        if written is None:
            raise SchemaUnusable(
                message="The app's schema accepts no object, so it cannot be a tool's schema.",
                next_step="Run it with app_run, and report this to its author.",
            )
        notes |= budget.notes
        if written and size(written) <= attempt.bytes:
            renamed = {name: own for own, name in names.items() if own != name}
            return Compiled(written, tuple(notes), MappingProxyType(renamed))
        notes["The schema is too large: parts of it are left open."] = None
    raise SchemaUnusable(
        message="The app's schema is too large for a tool.",
        next_step="Run it with app_run, and report this to its author.",
    )


def _attempts(limits: HostLimits) -> tuple[HostLimits, ...]:
    """The limits to try in turn, with less and less detail, until the schema is small enough."""
    bare = replace(limits, longest_about=0, longest_default=16, longest_listed=min(512, limits.longest_listed))
    shallow = replace(bare, depth=min(4, limits.depth), most_branches=min(8, limits.most_branches))
    return limits, bare, shallow, replace(shallow, depth=2, subschemas=min(100, limits.subschemas))


def _relaxed(shape: Shape, depth: int = 0) -> Shape:
    """An output's shape without bounds, lists of values and required fields. Any value may be null, and a file its record."""
    if is_open(shape):
        return shape
    kinds = list(dict.fromkeys(rule.kind for rule in shape.rules))
    files = any(rule.format == "file" or is_file(rule) for rule in shape.rules)
    if depth and files:
        return replace(ANYTHING, about=shape.about)  # the platform returns a URL or a record
    rules = [_relaxed_rule(kind, [rule for rule in shape.rules if rule.kind == kind], depth) for kind in kinds]
    if depth and "null" not in kinds:
        rules.append(Rule(kind="null"))
    return Shape(rules=tuple(rules), about=shape.about)


def _relaxed_rule(kind: str, rules: list[Rule], depth: int) -> Rule:
    rule = rules[0]
    if len(rules) > 1 or depth >= _OUTPUT_FIELDS_DEPTH:
        return Rule(kind=kind)
    items = None if rule.items is None or rule.first else _relaxed(rule.items, depth + 1)
    return Rule(kind=kind, items=items, fields={name: _relaxed(part, depth + 1) for name, part in rule.fields.items()})


def _host_names(shape: Shape) -> dict[str, str]:
    """A name for every field in a shape: its own if hosts take it, else a unique one made from it."""
    own_names = _names_in(shape)
    names = {name: name for name in own_names if _fits(name)}
    taken = set(names)
    for name in sorted(own_names - taken):
        names[name] = _free(name, taken, LONGEST_NAME)
        taken.add(names[name])
    return names


def tool_name(text: str, taken: Collection[str], *, before: int = 0) -> str:
    """A tool's name made from any text; `before` is the length of the host's prefix (`mcp__server__`)."""
    longest = LONGEST_TOOL_NAME - before
    made = _sanitized(text, "app")
    return made if len(made) <= longest and made not in taken else _free(text, taken, longest, "app")


def _restored(value: Any, schemas: list[dict[str, Any]], names: Mapping[str, str]) -> Any:
    """A value with the app's own names, without nulls in optional fields that take none.

    `schemas` are the compiled schemas of its place; `names` maps the hosts' names to the app's.
    """
    opened = [branch for schema in schemas for branch in schema.get("anyOf", [schema])]
    if isinstance(value, list):
        return [_restored(item, _of_item(opened, at), names) for at, item in enumerate(cast("list[Any]", value))]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for name, item in cast("dict[str, Any]", value).items():
        parts = [branch["properties"][name] for branch in opened if name in branch.get("properties", {})]
        if item is None and parts and not any(_takes_null(part) for part in parts) and _is_optional(name, opened):
            continue
        own = names.get(name, name) if parts else name
        result[own] = _restored(item, parts or _others(opened), names)
    return result


def _takes_null(schema: dict[str, Any]) -> bool:
    """Whether a compiled schema takes null."""
    return any("null" in branch.get("type", "null") for branch in schema.get("anyOf", [schema]))


def _is_optional(name: str, schemas: list[dict[str, Any]]) -> bool:
    return not any(name in schema.get("required", []) for schema in schemas)


def _of_item(schemas: list[dict[str, Any]], at: int) -> list[dict[str, Any]]:
    several = [(schema.get("prefixItems", []), schema.get("items")) for schema in schemas]
    return [part for first, items in several if (part := first[at] if at < len(first) else items) is not None]


def _others(schemas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for schema in schemas if isinstance(part := schema.get("additionalProperties"), dict)]


def _names_in(shape: Shape) -> set[str]:
    names: set[str] = set()
    stack, visited = [shape], set[int]()
    while stack:
        current = stack.pop()
        if id(current) in visited:
            continue
        visited.add(id(current))
        for rule in current.rules:
            names |= rule.fields.keys() | set(rule.required)
            stack += [*rule.fields.values(), *rule.first]
            stack += [part for part in (rule.items, rule.others) if part is not None]
    return names


def _fits(name: str) -> bool:
    return 0 < len(name) <= LONGEST_NAME and not _OTHER.search(name) and name not in _RESERVED


def _free(name: str, taken: Collection[str], longest: int, nameless: str = "field") -> str:
    made = _sanitized(name, nameless)
    if len(made) <= longest and made not in taken and made not in _RESERVED:
        return made
    # a digest of the original name, so that the result does not depend on other names
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return next(
        free
        for length in range(6, 64)
        if (free := f"{made[: max(longest - length - 1, 0)]}_{digest[:length]}") not in taken
    )


def _sanitized(name: str, nameless: str) -> str:
    plain = unicodedata.normalize("NFKD", name[:500]).encode("ascii", "ignore").decode()
    return _OTHER.sub("_", plain).strip("_") or nameless
