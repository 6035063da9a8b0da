"""Filter, search, sort and page a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inferencesh_sandbox.wire import Json, Problem, objects_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_DEFAULT = 50
_MAX_PAGE_SIZE = 100


def _text(value: object) -> str:
    return str(value or "").lower()


def _like(value: object, pattern: object) -> bool:
    return _text(pattern).strip("%") in _text(value)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, expected: value == expected,
    "neq": lambda value, expected: value != expected,
    "in": lambda value, expected: value in expected,
    "not_in": lambda value, expected: value not in expected,
    "gt": lambda value, expected: value > expected,
    "gte": lambda value, expected: value >= expected,
    "lt": lambda value, expected: value < expected,
    "lte": lambda value, expected: value <= expected,
    "like": _like,
    "ilike": _like,
    "contains": _like,
    "not_contains": lambda value, expected: not _like(value, expected),
    "is_null": lambda value, _: value is None,
    "is_not_null": lambda value, _: value is not None,
    "is_empty": lambda value, _: not value,
    "is_not_empty": lambda value, _: bool(value),
}


def page(items: Iterable[Json], body: Json, *, searched: Sequence[str]) -> Json:
    """Return the page that the body asks for. `items` are newest first."""
    filters = objects_in(body, "filters")
    matching = [item for item in items if all(_holds(item, condition) for condition in filters)]
    matching = [item for item in matching if _mentions(item, body.get("search") or {}, searched)]
    _sort(matching, objects_in(body, "sort"))
    return _cut(matching, str(body.get("cursor") or ""), _limit(body))


def _holds(item: Json, condition: Json) -> bool:
    field, operator = str(condition.get("field")), str(condition.get("operator"))
    if operator not in OPERATORS or field not in item:
        raise Problem(400, "invalid_request", f"cannot filter by {field!r} {operator!r}")
    try:
        return OPERATORS[operator](item[field], condition.get("value"))
    except TypeError as exc:
        raise Problem(400, "invalid_request", f"the filter on {field!r} does not fit its values") from exc


def _mentions(item: Json, search: Json, searched: Sequence[str]) -> bool:
    """Return whether the fields hold every word of the term, or the whole term if `exact`."""
    term = _text(search.get("term")).strip()
    if search.get("exact"):
        return any(_text(item.get(field)) == term for field in searched)
    haystack = " ".join(_text(item.get(field)) for field in searched)
    return all(word in haystack for word in term.split())


def _sort(items: list[Json], orders: list[Json]) -> None:
    for order in reversed(orders):
        field = str(order.get("field"))
        try:
            items.sort(key=lambda item: item[field], reverse=order.get("dir") == "desc")
        except (KeyError, TypeError) as exc:
            raise Problem(400, "invalid_request", f"cannot sort by {field!r}") from exc


def _limit(body: Json) -> int:
    limit = body.get("limit") or _DEFAULT
    if not isinstance(limit, int) or limit < 1:
        raise Problem(400, "invalid_request", "limit must be a whole number from 1 to 100")
    return min(limit, _MAX_PAGE_SIZE)


def _cut(items: list[Json], cursor: str, limit: int) -> Json:
    """The cursor is the id of the last item seen, so that new items do not shift the pages."""
    start = _after(items, cursor) if cursor else 0
    page_items = items[start : start + limit]
    has_next = start + limit < len(items)
    before = items[start - limit - 1]["id"] if start > limit else ""
    return {
        "items": page_items,
        "next_cursor": page_items[-1]["id"] if has_next else "",
        "prev_cursor": before,
        "has_next": has_next,
        "has_previous": start > 0,
        "items_per_page": limit,
        "total_items": len(items),
    }


def _after(items: list[Json], cursor: str) -> int:
    for index, item in enumerate(items):
        if item["id"] == cursor:
            return index + 1
    raise Problem(400, "invalid_request", f"unknown cursor {cursor[:40]!r}")
