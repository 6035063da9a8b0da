"""The schema compiler: any app's JSON Schema in, the smallest one out that every host takes and that takes the same inputs.

What goes in is untrusted (threat T-18). Nothing is fetched, the time is bounded whatever it is, and what comes out is one
object schema without references, choices at the top, regular expressions or unknown keywords. Where it had to become looser than
the app's own it says so in `notes`; it is never stricter, and the app's own is what an input is held against before a run.
Pure: no I/O.
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

_OUTPUT_DEPTH = 6  # what is further inside is not told anyway
_STEPS = 6000  # of work on one schema, however it is written: some 20 ms
_OUTPUT_FIELDS_DEPTH = 1  # what is inside the fields is open: the answer itself will tell

# What JavaScript hosts lose or trip over when it names a property.
_RESERVED = frozenset({"__proto__", "constructor", "prototype"})
_OTHER = re.compile(r"[^a-zA-Z0-9_-]+")


@dataclass(frozen=True)
class Compiled:
    """A schema that hosts take, and the way back from it."""

    schema: dict[str, Any]
    """An object schema, ready to be a tool's `inputSchema`."""
    notes: tuple[str, ...] = ()
    """What had to become looser than the app's own schema, a sentence each. None of them quotes the schema."""
    renamed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The fields that have another name here: from it to the app's own."""

    def restored(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments under the app's own names, at any depth; a null that this schema does not take is left out."""
        restored: dict[str, Any] = _restored(arguments, [self.schema], self.renamed)
        return restored


def compiled_input(schema: dict[str, Any]) -> Compiled:
    """Compile an app's input schema.

    Raises:
        SchemaUnusable: no object fits it, or it is too large even without its details.
    """
    return _compiled(schema, EVERY_HOST, lambda shape: shape)


def compiled_output(schema: dict[str, Any]) -> dict[str, Any]:
    """Compile an app's output schema: what to expect, loose enough that no real output fails it. Nothing is required.

    Raises:
        SchemaUnusable: no object fits it, or it is too large even without its details.
    """
    subschemas = EVERY_HOST.subschemas // 3  # each is written as a choice of itself and null
    depth = min(_OUTPUT_DEPTH, EVERY_HOST.depth)
    shallow = replace(EVERY_HOST, depth=depth, subschemas=subschemas, null_fields=True)
    return _compiled(schema, shallow, _relaxed).schema


def _compiled(schema: dict[str, Any], limits: HostLimits, changed: Callable[[Shape], Shape]) -> Compiled:
    schema = modern(schema)
    notes: dict[str, None] = {}
    for attempt in _attempts(limits):
        work = CompileBudget(_STEPS, attempt.most_branches)
        shape = changed(Reader(schema, attempt, work).shape(schema))
        names = _host_names(shape)
        try:
            written = Writer(attempt, names, work).top(shape)
        except TooLarge:
            written = {}
        if written is None:
            raise SchemaUnusable(
                message="The app's schema takes no object: it cannot be the schema of a tool.",
                next_step="Run the app by app_run, and tell its author.",
            )
        notes |= work.notes
        if written and size(written) <= attempt.bytes:
            renamed = {name: own for own, name in names.items() if own != name}
            return Compiled(written, tuple(notes), MappingProxyType(renamed))
        notes["The schema is too large: parts of it are left open."] = None
    raise SchemaUnusable(
        message="The app's schema is too large to be the schema of a tool.",
        next_step="Run the app by app_run, and tell its author.",
    )


def _attempts(limits: HostLimits) -> tuple[HostLimits, ...]:
    """The limits, and what is tried where the outcome would be too large for it: less and less detail."""
    bare = replace(limits, longest_about=0, longest_default=16, longest_listed=min(512, limits.longest_listed))
    shallow = replace(bare, depth=min(4, limits.depth), most_branches=min(8, limits.most_branches))
    return limits, bare, shallow, replace(shallow, depth=2, subschemas=min(100, limits.subschemas))


def _relaxed(shape: Shape, depth: int = 0) -> Shape:
    """The shape without limits, choices of values and required fields; anything may be null, a file may be its record."""
    if is_open(shape):
        return shape
    kinds = list(dict.fromkeys(rule.kind for rule in shape.rules))
    files = any(rule.format == "file" or is_file(rule) for rule in shape.rules)
    if depth and files:
        return replace(ANYTHING, about=shape.about)  # a URL or a record of it: the platform's choice
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
    """A name for every field in a shape: its own where hosts take it, else one made of it that nothing else has."""
    found = _names_in(shape)
    names = {name: name for name in found if _fits(name)}
    taken = set(names)
    for name in sorted(found - taken):
        names[name] = _free(name, taken, LONGEST_NAME)
        taken.add(names[name])
    return names


def tool_name(wanted: str, taken: Collection[str], *, before: int = 0) -> str:
    """A tool's name made of any text; `before` is the length of what the host puts before it (`mcp__server__`)."""
    longest = LONGEST_TOOL_NAME - before
    made = _made(wanted, "app")
    return made if len(made) <= longest and made not in taken else _free(wanted, taken, longest, "app")


def _restored(value: Any, schemas: list[dict[str, Any]], names: Mapping[str, str]) -> Any:
    """A value under the app's own names, without nulls where an optional field takes none.

    `schemas` are the compiled schemas of its place, `names` from hosts' to the app's.
    """
    opened = [branch for schema in schemas for branch in schema.get("anyOf", [schema])]
    if isinstance(value, list):
        return [_restored(item, _of_item(opened, at), names) for at, item in enumerate(cast("list[Any]", value))]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in cast("dict[str, Any]", value).items():
        parts = [branch["properties"][name] for branch in opened if name in branch.get("properties", {})]
        if item is None and parts and not any(_takes_null(part) for part in parts) and _is_optional(name, opened):
            continue
        own = names.get(name, name) if parts else name
        found[own] = _restored(item, parts or _others(opened), names)
    return found


def _takes_null(schema: dict[str, Any]) -> bool:
    """Whether a compiled schema takes null: it says so, or is open."""
    return any("null" in branch.get("type", "null") for branch in schema.get("anyOf", [schema]))


def _is_optional(name: str, schemas: list[dict[str, Any]]) -> bool:
    return not any(name in schema.get("required", []) for schema in schemas)


def _of_item(schemas: list[dict[str, Any]], at: int) -> list[dict[str, Any]]:
    several = [(schema.get("prefixItems", []), schema.get("items")) for schema in schemas]
    return [part for first, items in several if (part := first[at] if at < len(first) else items) is not None]


def _others(schemas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for schema in schemas if isinstance(part := schema.get("additionalProperties"), dict)]


def _names_in(shape: Shape) -> set[str]:
    found: set[str] = set()
    waiting, seen = [shape], set[int]()
    while waiting:
        place = waiting.pop()
        if id(place) in seen:
            continue
        seen.add(id(place))
        for rule in place.rules:
            found |= rule.fields.keys() | set(rule.required)
            waiting += [*rule.fields.values(), *rule.first]
            waiting += [part for part in (rule.items, rule.others) if part is not None]
    return found


def _fits(name: str) -> bool:
    return 0 < len(name) <= LONGEST_NAME and not _OTHER.search(name) and name not in _RESERVED


def _free(name: str, taken: Collection[str], longest: int, nameless: str = "field") -> str:
    made = _made(name, nameless)
    if len(made) <= longest and made not in taken and made not in _RESERVED:
        return made
    # by what it was made of, so that it is the same whatever else there is
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return next(
        free
        for length in range(6, 64)
        if (free := f"{made[: max(longest - length - 1, 0)]}_{digest[:length]}") not in taken
    )


def _made(name: str, nameless: str) -> str:
    plain = unicodedata.normalize("NFKD", name[:500]).encode("ascii", "ignore").decode()
    return _OTHER.sub("_", plain).strip("_") or nameless
