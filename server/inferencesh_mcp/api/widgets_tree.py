"""A widget that is a tree of nodes, as of npm `@inferencesh/sdk` 0.6.10, read as a form. Pure: no I/O."""

from __future__ import annotations

from typing import Any

from inferencesh_mcp.api.json import is_object, items, unpacked
from inferencesh_mcp.api.widget_form import (
    DEPTH_LIMIT,
    FieldKind,
    FormBuilder,
    FormField,
    Node,
    NoForm,
    WidgetForm,
    choices,
    number,
    string,
)

_SPOKEN = {"text", "markdown", "title", "caption", "badge", "status-badge"}
_SHOWN = {"image", "icon", "divider", "spacer"}
_AROUND = {"row", "col", "box", "form", "transition", ""}


def tree(widget: Node) -> WidgetForm | None:
    """The form that a tree is; None when it asks nothing. NoForm when it holds what no form can show."""
    builder = FormBuilder()
    inner = unpacked(widget.get("json"))
    roots = widget.get("children") or (inner.get("children") or [inner] if is_object(inner) else inner)
    if widget.get("html") and not roots:
        raise NoForm
    for node in items(roots):
        _walk(node, None, builder, 0)
    for button in items(widget.get("actions")):
        if is_object(button):
            # Beside a form that sends itself, these are ways around it.
            alone = bool(builder.fields) and not any(one.submits for one in builder.actions)
            builder.press(button.get("action"), button.get("label"), submits=alone)
    return builder.form(string(widget.get("title")))


def _walk(node: Any, submit: Any, builder: FormBuilder, depth: int) -> None:
    """Read a node and what is in it; `submit` is the action of the form that it stands in."""
    if not is_object(node):
        return
    if depth > DEPTH_LIMIT:
        raise NoForm
    kind = string(node.get("type"))
    if kind in _SPOKEN:
        builder.speak(node.get("value") or node.get("label"))
    elif kind == "label":
        builder.labels[string(node.get("fieldName"))] = string(node.get("value"))
    elif kind == "button":
        own = node.get("onClickAction") or node.get("action")
        builder.press(
            own or (submit if node.get("submit") else None), node.get("label"), submits=bool(node.get("submit"))
        )
    elif kind in _NODE_FIELDS:
        if not node.get("disabled"):
            builder.ask(_node_field(kind, node))
    elif kind not in _AROUND | _SHOWN:
        raise NoForm  # a chart, a plan, or something newer
    inside = node.get("onSubmitAction") or submit
    presses = len(builder.actions)
    for child in items(node.get("children")):
        _walk(child, inside, builder, depth + 1)
    if node.get("onSubmitAction") and not any(one.submits for one in builder.actions[presses:]):
        builder.press(node["onSubmitAction"], "Submit", submits=True)


_NODE_FIELDS: dict[str, FieldKind] = {
    "input": "text",
    "textarea": "text",
    "select": "choice",
    "radio-group": "choice",
    "checkbox": "boolean",
    "date-picker": "date",
}


def _node_field(node_type: str, node: Node) -> FormField:
    name, kind = string(node.get("name")), _NODE_FIELDS[node_type]
    variant = string(node.get("inputType") or node.get("variant"))
    if not name or variant == "password":  # a secret is not asked in a form
        raise NoForm
    if kind == "text" and variant == "number":
        kind = "number"
    if kind == "choice" and node.get("multiple"):
        kind = "choices"
    default = node.get("defaultChecked") if kind == "boolean" else node.get("defaultValue")
    is_number = kind == "number"
    return FormField(
        name=name,
        kind=kind,
        label=string(node.get("label")),
        required=node.get("required") is True,
        options=choices(node.get("options")),
        default=default,
        hint=string(node.get("placeholder")),
        minimum=number(node.get("min")) if is_number else None,
        maximum=number(node.get("max")) if is_number else None,
        pattern=string(node.get("pattern")),
    )
