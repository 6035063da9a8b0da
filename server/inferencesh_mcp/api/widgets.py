"""A widget as a form, for a host that can ask a person for no more than that; or else as what it says. Pure: no I/O."""

from __future__ import annotations

from typing import Any

from inferencesh_mcp.api.json import is_array, is_object, items
from inferencesh_mcp.api.widget_form import DEPTH_LIMIT, Node, NoForm, WidgetForm
from inferencesh_mcp.api.widgets_a2ui import surface
from inferencesh_mcp.api.widgets_tree import tree

_SAID = {"title", "value", "label", "text", "alt", "placeholder", "artifactTitle"}


def widget_form(widget: Node) -> WidgetForm | None:
    """The widget as a form; None when it is none, or holds more than a form can show."""
    try:
        return surface(widget) if is_array(widget.get("components")) else tree(widget)
    except NoForm:
        return None


def widget_text(widget: Node) -> str:
    """What a widget says, as far as that is text: for one that is no form."""
    lines: list[str] = []
    _say(widget, lines, 0)
    return "\n".join(dict.fromkeys(lines))


def _say(value: Any, lines: list[str], depth: int) -> None:
    if depth > DEPTH_LIMIT:
        return
    if is_object(value):
        for name, inner in value.items():
            if isinstance(inner, str) and name in _SAID:
                lines.extend([inner.strip()] if inner.strip() else [])
            else:
                _say(inner, lines, depth + 1)
    for item in items(value):
        _say(item, lines, depth + 1)
