"""Lists: filtered, searched, sorted and cut into pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_sandbox.wire import Json, Problem, objects_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_DEFAULT = 50
_MOST = 100


def _text(value: object) -> str:
    return str(value or "").lower()


def _like(value: object, pattern: object) -> bool:
    return _text(pattern).strip("%") in _text(value)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "neq": lambda value, wanted: value != wanted,
    "in": lambda value, wanted: value in wanted,
    "not_in": lambda value, wanted: value not in wanted,
    "gt": lambda value, wanted: value > wanted,
    "gte": lambda value, wanted: value >= wanted,
    "lt": lambda value, wanted: value < wanted,
    "lte": lambda value, wanted: value <= wanted,
    "like": _like,
    "ilike": _like,
    "contains": _like,
    "not_contains": lambda value, wanted: not _like(value, wanted),
    "is_null": lambda value, _: value is None,
    "is_not_null": lambda value, _: value is not None,
    "is_empty": lambda value, _: not value,
    "is_not_empty": lambda value, _: bool(value),
}


def page(items: Iterable[Json], asked: Json, *, searched: Sequence[str]) -> Json:
    """Cut one page out of items that come newest first, as the body of a list call asks for it."""
    kept = [item for item in items if _passes(item, objects_in(asked, "filters"))]
    kept = [item for item in kept if _mentions(item, asked.get("search") or {}, searched)]
    _sort(kept, objects_in(asked, "sort"))
    return _cut(kept, str(asked.get("cursor") or ""), _limit(asked))


def _passes(item: Json, filters: list[Json]) -> bool:
    return all(_holds(item, one) for one in filters)


def _holds(item: Json, one: Json) -> bool:
    field, operator = str(one.get("field")), str(one.get("operator"))
    if operator not in OPERATORS or field not in item:
        raise Problem(400, "invalid_request", f"cannot filter by {field!r} {operator!r}")
    try:
        return OPERATORS[operator](item[field], one.get("value"))
    except TypeError as exc:
        raise Problem(400, "invalid_request", f"the filter on {field!r} does not fit its values") from exc


def _mentions(item: Json, search: Json, searched: Sequence[str]) -> bool:
    """Say whether every word of the term stands somewhere; an exact search wants the whole term in one field."""
    term = _text(search.get("term")).strip()
    if search.get("exact"):
        return any(_text(item.get(field)) == term for field in searched)
    said = " ".join(_text(item.get(field)) for field in searched)
    return all(word in said for word in term.split())


def _sort(items: list[Json], orders: list[Json]) -> None:
    for order in reversed(orders):
        field = str(order.get("field"))
        try:
            items.sort(key=lambda item: item[field], reverse=order.get("dir") == "desc")
        except (KeyError, TypeError) as exc:
            raise Problem(400, "invalid_request", f"cannot sort by {field!r}") from exc


def _limit(asked: Json) -> int:
    limit = asked.get("limit") or _DEFAULT
    if not isinstance(limit, int) or limit < 1:
        raise Problem(400, "invalid_request", "limit must be a whole number from 1 to 100")
    return min(limit, _MOST)


def _cut(items: list[Json], cursor: str, limit: int) -> Json:
    """The cursor is the id of the last item seen, so that new items do not shift the pages."""
    start = _after(items, cursor) if cursor else 0
    shown = items[start : start + limit]
    more = start + limit < len(items)
    before = items[start - limit - 1]["id"] if start > limit else ""
    return {
        "items": shown,
        "next_cursor": shown[-1]["id"] if more else "",
        "prev_cursor": before,
        "has_next": more,
        "has_previous": start > 0,
        "items_per_page": limit,
        "total_items": len(items),
    }


def _after(items: list[Json], cursor: str) -> int:
    for place, item in enumerate(items):
        if item["id"] == cursor:
            return place + 1
    raise Problem(400, "invalid_request", f"unknown cursor {cursor[:40]!r}")
