"""Names that every host takes, and the way back to the app's own."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from inferencesh_mcp.schema.ir import Shape
    from inferencesh_mcp.schema.profiles import Profile

# What JavaScript hosts lose or trip over when it names a property.
_RESERVED = frozenset({"__proto__", "constructor", "prototype"})
_OTHER = re.compile(r"[^a-zA-Z0-9_-]+")


def host_names(shape: Shape, profile: Profile) -> dict[str, str]:
    """A name for every field in a shape: its own where hosts take it, else one made of it that nothing else has."""
    found = _names_in(shape)
    names = {name: name for name in found if _fits(name, profile)}
    taken = set(names)
    for name in sorted(found - taken):
        names[name] = _free(name, taken, profile.longest_name)
        taken.add(names[name])
    return names


def tool_name(wanted: str, taken: Collection[str], profile: Profile, *, before: int = 0) -> str:
    """A tool's name made of any text; `before` is the length of what the host puts before it (`mcp__server__`)."""
    longest = profile.longest_tool_name - before
    made = _made(wanted, "app")
    return made if len(made) <= longest and made not in taken else _free(wanted, taken, longest, "app")


def restored(value: Any, schemas: list[dict[str, Any]], names: Mapping[str, str]) -> Any:
    """A value under the app's own names, without nulls where an optional field takes none.

    `schemas` are the compiled schemas of its place, `names` from hosts' to the app's.
    """
    opened = [branch for schema in schemas for branch in schema.get("anyOf", [schema])]
    if isinstance(value, list):
        return [restored(item, _of_item(opened, at), names) for at, item in enumerate(cast("list[Any]", value))]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in cast("dict[str, Any]", value).items():
        parts = [branch["properties"][name] for branch in opened if name in branch.get("properties", {})]
        if item is None and parts and not any(_takes_null(part) for part in parts) and _is_optional(name, opened):
            continue
        own = names.get(name, name) if parts else name
        found[own] = restored(item, parts or _others(opened), names)
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


def _fits(name: str, profile: Profile) -> bool:
    return 0 < len(name) <= profile.longest_name and not _OTHER.search(name) and name not in _RESERVED


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
