"""A widget of a chat as a form, which any host can ask a person, or as plain text. Pure: no I/O.

A widget is a tree of nodes, as in npm `@inferencesh/sdk` 0.6.10, or an A2UI surface, as in 0.6.54. If it contains anything
but plain fields, it is not a form: a host would show a part of it, and the person would decide without seeing the rest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from inferencesh_mcp.api.json import (
    NotReadableBack,
    as_object,
    as_text,
    encoded,
    is_array,
    is_object,
    items,
    unpacked,
    without_none,
)
from inferencesh_mcp.api.widgets_a2ui import MAX_DEPTH, Node, surface_nodes
from inferencesh_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

FieldKind = Literal["text", "number", "boolean", "choice", "choices", "date"]
MAX_FIELDS = 50
MAX_ACTIONS = 50

_TEXT_TYPES = {"text", "markdown", "title", "caption", "badge", "status-badge"}
_FIELD_TYPES: dict[str, FieldKind] = {
    "input": "text",
    "textarea": "text",
    "select": "choice",
    "radio-group": "choice",
    "checkbox": "boolean",
    "date-picker": "date",
}
_IGNORED_TYPES = {"image", "icon", "divider", "spacer", "row", "col", "box", "form", "transition", ""}
"""Decoration, and containers of other nodes."""
_TEXT_NAMES = {"title", "value", "label", "text", "alt", "placeholder", "artifactTitle"}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One option of a field."""

    value: str
    label: str


@dataclass(frozen=True, kw_only=True)
class FormField:
    """One field of a form."""

    name: str
    """The name of the answer in `form_data`."""
    kind: FieldKind
    label: str
    required: bool = False
    options: tuple[Choice, ...] = ()
    default: Any = None
    """Text, number, boolean, or for `choices` a tuple of texts; None if there is none."""
    hint: str = ""
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    with_time: bool = False
    """Whether a date has a time of day."""


@dataclass(frozen=True, kw_only=True)
class FormAction:
    """One button of a form."""

    type: str
    label: str = ""
    payload: Any = None
    submits: bool = False
    """Whether it sends the form's data."""


@dataclass(frozen=True, kw_only=True)
class WidgetForm:
    """A widget as a form."""

    title: str
    text: str
    """The texts beside the fields, line by line."""
    fields: tuple[FormField, ...]
    actions: tuple[FormAction, ...]


class _NoForm(Exception):
    """The widget contains something that no form can show."""


def widget_form(widget: Node) -> WidgetForm | None:
    """The widget as a form; None if it asks nothing, or contains more than a form can show."""
    builder = _FormBuilder()
    try:
        if is_array(widget.get("components")):
            builder.add_nodes(surface_nodes(widget))
            return builder.form("")
        tree = unpacked(widget.get("json"))
        roots = widget.get("children") or as_object(tree).get("children") or (tree if is_array(tree) else [tree])
        if widget.get("html") and not any(map(is_object, items(roots))):
            return None
        builder.add_nodes(roots)
        for button in items(widget.get("actions")):
            # Beside a form that has its own submit button, these are ways around it.
            is_submit = bool(builder.fields) and not any(action.submits for action in builder.actions)
            builder.add_action(as_object(button).get("action"), as_object(button).get("label"), submits=is_submit)
        return builder.form(as_text(widget.get("title")))
    except _NoForm:
        return None


def widget_result(action: FormAction, form_data: Mapping[str, Any] | None) -> str:
    """A person's answer to a widget as the text that the API takes: `{action: {type, payload?}, form_data?}`."""
    sent_action = without_none(type=action.type, payload=action.payload)
    value = without_none(action=sent_action, form_data=dict(form_data) if form_data else None)
    try:
        encoded(value)
    except NotReadableBack as exc:
        raise InvalidInput(message=f"the answer {exc}") from exc
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def widget_text(widget: Node) -> str:
    """The texts in a widget, each once, line by line: for one that is not a form."""
    lines: list[str] = []
    _add_texts(widget, lines, 0)
    return "\n".join(dict.fromkeys(lines))


def _add_texts(value: Any, lines: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        return
    for name, inner in as_object(value).items():
        if name in _TEXT_NAMES and isinstance(inner, str):
            lines.extend(filter(None, [inner.strip()]))
        else:
            _add_texts(inner, lines, depth + 1)
    for item in items(value):
        _add_texts(item, lines, depth + 1)


@dataclass(kw_only=True)
class _FormBuilder:
    """Collects the parts of a form while it walks through a tree."""

    texts: list[str] = field(default_factory=list[str])
    fields: list[FormField] = field(default_factory=list[FormField])
    actions: list[FormAction] = field(default_factory=list[FormAction])
    labels: dict[str, str] = field(default_factory=dict[str, str])
    """Labels of their own, by the name of their field."""

    def add_nodes(self, nodes: Any, submit: Any = None, depth: int = 0) -> None:
        """Add nodes with everything in them; `submit` is the action of the form that they are in."""
        for node in items(nodes):
            if is_object(node):
                self._add_node(node, submit, depth)

    def add_action(self, action: Any, label: Any, *, submits: bool) -> None:
        """Add a button, if it does anything."""
        action = as_object(action)
        kind = as_text(action.get("type"))
        added = FormAction(type=kind, label=as_text(label) or kind, payload=action.get("payload"), submits=submits)
        if kind and added not in self.actions:
            self.actions.append(added)
        if len(self.actions) > MAX_ACTIONS:
            raise _NoForm

    def form(self, title: str) -> WidgetForm | None:
        """The form; None if it asks nothing, or the same thing twice."""
        names = [item.name for item in self.fields]
        if not (names or self.actions) or len(set(names)) < len(names):
            return None
        fields = (replace(item, label=item.label or self.labels.get(item.name) or item.name) for item in self.fields)
        return WidgetForm(title=title, text="\n".join(self.texts), fields=tuple(fields), actions=tuple(self.actions))

    def _add_node(self, node: Node, submit: Any, depth: int) -> None:
        kind = as_text(node.get("type"))
        if depth > MAX_DEPTH:
            raise _NoForm
        if kind in _TEXT_TYPES:
            text = as_text(node.get("value") or node.get("label")).strip()
            self.texts += [text] if text else []
        elif kind == "label":
            self.labels[as_text(node.get("fieldName"))] = as_text(node.get("value"))
        elif kind == "button":
            submits = bool(node.get("submit"))
            action = node.get("onClickAction") or node.get("action") or (submit if submits else None)
            self.add_action(action, node.get("label"), submits=submits)
        elif kind in _FIELD_TYPES:
            if not node.get("disabled"):
                self.fields.append(_field(node, _FIELD_TYPES[kind]))
            if len(self.fields) > MAX_FIELDS:
                raise _NoForm
        elif kind not in _IGNORED_TYPES:
            raise _NoForm  # a chart, a plan, an artifact, or something newer
        own_submit, before = node.get("onSubmitAction"), len(self.actions)
        self.add_nodes(node.get("children"), own_submit or submit, depth + 1)
        if own_submit and not any(action.submits for action in self.actions[before:]):
            self.add_action(own_submit, "Submit", submits=True)


def _field(node: Node, kind: FieldKind) -> FormField:
    name, variant = as_text(node.get("name")), as_text(node.get("inputType") or node.get("variant"))
    if not name or variant == "password":  # a form does not ask for a secret
        raise _NoForm
    if kind == "text" and variant == "number":
        kind = "number"
    if kind == "choice" and node.get("multiple"):
        kind = "choices"
    options = _choices(node.get("options"))
    if kind in {"choice", "choices"} and not options:
        raise _NoForm
    default = node.get("defaultChecked") if kind == "boolean" else node.get("defaultValue")
    return FormField(
        name=name,
        kind=kind,
        label=as_text(node.get("label")),
        required=node.get("required") is True,
        options=options,
        default=_default(kind, options, default),
        hint=as_text(node.get("placeholder")),
        minimum=_number(node.get("min")) if kind == "number" else None,
        maximum=_number(node.get("max")) if kind == "number" else None,
        pattern=as_text(node.get("pattern")),
        with_time=kind == "date" and node.get("enableTime") is True,
    )


def _default(kind: FieldKind, options: tuple[Choice, ...], value: Any) -> Any:
    """A default, if it is a value that the field can have."""
    values = {choice.value for choice in options}
    match kind:
        case "boolean":
            return value if isinstance(value, bool) else {"true": True, "false": False}.get(as_text(value))
        case "number":
            return _number(value)
        case "choice":
            first = as_text(items(value)[0] if items(value) else value)
            return first if first in values else None
        case "choices":
            chosen = tuple(item for item in items(value) or [value] if isinstance(item, str) and item in values)
            return chosen or None
        case _:
            return as_text(value) or None


def _choices(options: Any) -> tuple[Choice, ...]:
    choices: dict[str, Choice] = {}
    for option in items(options):
        value, label = (option.get("value"), option.get("label")) if is_object(option) else (option, option)
        if isinstance(value, str):
            choices.setdefault(value, Choice(value=value, label=as_text(label) or value))
    return tuple(choices.values())


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
