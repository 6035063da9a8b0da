"""A widget as a list of form fields and actions, for a host that can ask a person for no more than that. Pure: no I/O.

Two forms are read: the tree of nodes of npm `@inferencesh/sdk` 0.6.10, and the A2UI surface of 0.6.54, a flat list of
components whose values are bound to paths in a data model. What holds anything that is no plain field is no form: a host would
show a part of it, and the person would decide without having seen the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from inferencesh_mcp.api.chats import unpacked
from inferencesh_mcp.api.strictjson import is_array, is_object, items

FieldKind = Literal["text", "number", "boolean", "choice", "choices", "date"]
DEPTH_LIMIT = 32
FIELDS_LIMIT = 50
ACTIONS_LIMIT = 50

Node = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of the things that can be chosen."""

    value: str
    label: str


@dataclass(frozen=True, kw_only=True)
class FormField:
    """One thing that is asked."""

    name: str
    """What the answer is called in `form_data`."""
    kind: FieldKind
    label: str
    required: bool = False
    options: tuple[Choice, ...] = ()
    default: Any = None
    """Text, number, boolean, or for `choices` a tuple of texts; None when there is none."""
    hint: str = ""
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    with_time: bool = False
    """A date that has a time of day."""


@dataclass(frozen=True, kw_only=True)
class FormAction:
    """One thing that can be pressed; `{type, payload}` is what is sent."""

    type: str
    label: str
    payload: Any = None
    submits: bool = False
    """Whether it sends the form's data."""


@dataclass(frozen=True, kw_only=True)
class WidgetForm:
    """A widget as a form."""

    title: str
    text: str
    """What the widget says beside its fields, line by line."""
    fields: tuple[FormField, ...]
    actions: tuple[FormAction, ...]


class _NoForm(Exception):
    """There is something that no form can show."""


@dataclass(kw_only=True)
class _Found:
    """What a walk through a widget has come across."""

    texts: list[str] = field(default_factory=list[str])
    fields: list[FormField] = field(default_factory=list[FormField])
    actions: list[FormAction] = field(default_factory=list[FormAction])
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def form(self, title: str) -> WidgetForm | None:
        names = [one.name for one in self.fields]
        too_many = len(names) > FIELDS_LIMIT or len(self.actions) > ACTIONS_LIMIT
        if not (names or self.actions) or too_many or len(set(names)) < len(names):
            return None
        fields = tuple(replace(one, label=one.label or self.labels.get(one.name) or one.name) for one in self.fields)
        return WidgetForm(title=title, text="\n".join(self.texts), fields=fields, actions=_each_once(self.actions))


def widget_form(widget: Node) -> WidgetForm | None:
    """The widget as a form; None when it is none, or holds more than a form can show."""
    try:
        return _surface(widget) if is_array(widget.get("components")) else _tree(widget)
    except _NoForm:
        return None


def widget_text(widget: Node) -> str:
    """What a widget says, as far as that is text: for one that is no form."""
    lines: list[str] = []
    _say(widget, lines, 0)
    return "\n".join(dict.fromkeys(lines))


# The tree of 0.6.10

_SPOKEN = {"text", "markdown", "title", "caption", "badge", "status-badge"}
_SHOWN = {"image", "icon", "divider", "spacer"}
_AROUND = {"row", "col", "box", "form", "transition", ""}


def _tree(widget: Node) -> WidgetForm | None:
    found = _Found()
    inner = unpacked(widget.get("json"))
    roots = widget.get("children") or (inner.get("children") or [inner] if is_object(inner) else inner)
    if widget.get("html") and not roots:
        raise _NoForm
    for node in items(roots):
        _walk(node, None, found, 0)
    for button in items(widget.get("actions")):
        if is_object(button):
            # Beside a form that sends itself, these are ways around it.
            alone = bool(found.fields) and not any(one.submits for one in found.actions)
            _press(found, button.get("action"), button.get("label"), submits=alone)
    return found.form(_string(widget.get("title")))


def _walk(node: Any, submit: Any, found: _Found, depth: int) -> None:
    """Read a node and what is in it; `submit` is the action of the form that it stands in."""
    if not is_object(node):
        return
    if depth > DEPTH_LIMIT:
        raise _NoForm
    kind = _string(node.get("type"))
    if kind in _SPOKEN:
        _speak(found, node.get("value") or node.get("label"))
    elif kind == "label":
        found.labels[_string(node.get("fieldName"))] = _string(node.get("value"))
    elif kind == "button":
        own = node.get("onClickAction") or node.get("action")
        _press(
            found, own or (submit if node.get("submit") else None), node.get("label"), submits=bool(node.get("submit"))
        )
    elif kind in _NODE_FIELDS:
        if not node.get("disabled"):
            found.fields.append(_node_field(kind, node))
    elif kind not in _AROUND | _SHOWN:
        raise _NoForm  # a chart, a plan, or something newer
    inside = node.get("onSubmitAction") or submit
    presses = len(found.actions)
    for child in items(node.get("children")):
        _walk(child, inside, found, depth + 1)
    if node.get("onSubmitAction") and not any(one.submits for one in found.actions[presses:]):
        _press(found, node["onSubmitAction"], "Submit", submits=True)


_NODE_FIELDS: dict[str, FieldKind] = {
    "input": "text",
    "textarea": "text",
    "select": "choice",
    "radio-group": "choice",
    "checkbox": "boolean",
    "date-picker": "date",
}


def _node_field(node_type: str, node: Node) -> FormField:
    name, kind = _string(node.get("name")), _NODE_FIELDS[node_type]
    variant = _string(node.get("inputType") or node.get("variant"))
    if not name or variant == "password":  # a secret is not asked in a form
        raise _NoForm
    if kind == "text" and variant == "number":
        kind = "number"
    if kind == "choice" and node.get("multiple"):
        kind = "choices"
    default = node.get("defaultChecked") if kind == "boolean" else node.get("defaultValue")
    is_number = kind == "number"
    return _checked(
        FormField(
            name=name,
            kind=kind,
            label=_string(node.get("label")),
            required=node.get("required") is True,
            options=_choices(node.get("options")),
            default=default,
            hint=_string(node.get("placeholder")),
            minimum=_number(node.get("min")) if is_number else None,
            maximum=_number(node.get("max")) if is_number else None,
            pattern=_string(node.get("pattern")),
        )
    )


# The A2UI surface of 0.6.54

_A2UI_AROUND = {"Row", "Column", "List", "Card", "Modal", "Tabs", "Form"}
_A2UI_SHOWN = {"Image", "Icon", "Divider", "Spacer"}


def _surface(widget: Node) -> WidgetForm | None:
    components: dict[str, Node] = {}
    for one in items(widget.get("components")):
        if is_object(one) and isinstance(one.get("id"), str):
            components.setdefault(one["id"], _flat(one))
    inside = {child for one in components.values() for child in _children(one)}
    roots = ["root"] if "root" in components else [name for name in components if name not in inside]
    surface, found = _Surface(components, widget.get("dataModel")), _Found()
    for root in roots:
        surface.walk(root, None, found, 0)
    return found.form("")


def _flat(component: Node) -> Node:
    """`{"id", "component": {"TextField": {…}}}` is the same as `{"id", "component": "TextField", …}`."""
    kind = component.get("component")
    if is_object(kind) and len(kind) == 1:
        name, inner = next(iter(kind.items()))
        return {**component, **(inner if is_object(inner) else {}), "component": name}
    return component


def _children(component: Node) -> list[str]:
    named = [*items(component.get("children")), component.get("child")]
    named += [component.get("entryPointChild"), component.get("contentChild")]
    named += [tab.get("child") for tab in items(component.get("tabItems")) if is_object(tab)]
    return [name for name in named if isinstance(name, str)]


class _Surface:
    """An A2UI surface that is being read."""

    def __init__(self, components: dict[str, Node], model: Any) -> None:
        self._components, self._model = components, unpacked(model)
        self._seen: set[str] = set()

    def walk(self, name: str, submit: Any, found: _Found, depth: int) -> None:
        """Read a component and what is in it, each once."""
        if depth > DEPTH_LIMIT:  # they are nested by name: what the reader of JSON allows says nothing
            raise _NoForm
        one = self._components.get(name)
        if one is None or name in self._seen:
            return
        self._seen.add(name)
        kind = _string(one.get("component"))
        if kind in {"Text", "Badge"}:
            _speak(found, self._bound(one.get("text")) or one.get("badgeLabel"))
        elif kind == "Button":
            self._button(one, submit, found)
            return
        elif kind in {"TextField", "CheckBox", "ChoicePicker", "Slider", "DateTimeInput"}:
            if not one.get("disabled"):
                found.fields.append(_checked(self._field(kind, name, one)))
        elif kind not in _A2UI_AROUND | _A2UI_SHOWN:
            raise _NoForm  # a chart, an artifact, or something newer
        presses = len(found.actions)
        inside = one.get("onSubmitAction") or submit
        for child in _children(one):
            self.walk(child, inside, found, depth + 1)
        if one.get("onSubmitAction") and not any(press.submits for press in found.actions[presses:]):
            _press(found, one["onSubmitAction"], "Submit", submits=True)

    def _button(self, one: Node, submit: Any, found: _Found) -> None:
        face = self._components.get(_string(one.get("child")), {})
        self._seen.add(_string(one.get("child")))
        label = _string(one.get("label")) or _string(self._bound(face.get("text")))
        own = one.get("action")
        if is_object(own) and is_object(submit) and own.get("type") == submit.get("type"):
            own = {**submit, **own}
        is_submit = own is None or (is_object(submit) and is_object(own) and own.get("type") == submit.get("type"))
        _press(found, own or submit, label, submits=is_submit or (submit is None and bool(found.fields)))

    def _field(self, kind: str, component_id: str, one: Node) -> FormField:
        bound = one.get("selections") if kind == "ChoicePicker" and one.get("selections") else one.get("value")
        path = _string(bound.get("path")) if is_object(bound) else ""
        plain = FormField(
            name=path.strip("/") or component_id,
            kind="text",
            label=_string(one.get("label")),
            required=one.get("required") is True,
            default=self._bound(bound),
            hint=_string(one.get("placeholder")),
            pattern=_string(one.get("validationRegexp")),
        )
        if kind == "TextField":
            return self._text_field(plain, _string(one.get("textFieldType")).lower())
        if kind == "CheckBox":
            return replace(plain, kind="boolean")
        if kind == "Slider":
            return replace(
                plain, kind="number", minimum=_number(one.get("minValue")), maximum=_number(one.get("maxValue"))
            )
        if kind == "DateTimeInput":
            only_time = one.get("enableDate") is False
            return plain if only_time else replace(plain, kind="date", with_time=one.get("enableTime") is True)
        several = one.get("maxAllowedSelections") != 1
        return replace(plain, kind="choices" if several else "choice", options=_choices(one.get("options")))

    def _text_field(self, plain: FormField, kind: str) -> FormField:
        if kind in {"obscured", "password"}:  # a secret is not asked in a form
            raise _NoForm
        return (
            replace(plain, kind="number")
            if kind == "number"
            else replace(plain, kind="date")
            if kind == "date"
            else plain
        )

    def _bound(self, value: Any) -> Any:
        """A value that is given, or that the data model has at its path."""
        if not is_object(value):
            return value
        literal = next((value[name] for name in value if name.startswith("literal")), None)
        if literal is not None or not isinstance(value.get("path"), str):
            return literal
        found: Any = self._model
        for step in value["path"].strip("/").split("/"):
            if is_object(found):
                found = found.get(step)
            elif is_array(found) and step.isdigit() and len(step) < 6 and int(step) < len(found):
                found = found[int(step)]
            else:
                return None
        return found


# What both share


def _checked(one: FormField) -> FormField:
    """The field with a default that fits its kind; a choice without anything to choose from is none."""
    if one.kind in {"choice", "choices"} and not one.options:
        raise _NoForm
    return replace(one, default=_default(one))


def _default(one: FormField) -> Any:
    value = one.default
    values = {choice.value for choice in one.options}
    if one.kind == "boolean":
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(_string(value))
    if one.kind == "number":
        return _number(value)
    if one.kind == "choice":
        first = items(value)[0] if items(value) else value
        return first if isinstance(first, str) and first in values else None
    if one.kind == "choices":
        chosen = tuple(item for item in items(value) or [value] if isinstance(item, str) and item in values)
        return chosen or None
    return value if isinstance(value, str) and value else None


def _choices(options: Any) -> tuple[Choice, ...]:
    found: dict[str, Choice] = {}
    for one in items(options):
        value, label = (one.get("value"), one.get("label")) if is_object(one) else (one, one)
        if isinstance(value, str):
            found.setdefault(value, Choice(value=value, label=_string(label) or value))
    return tuple(found.values())


def _press(found: _Found, action: Any, label: Any, *, submits: bool) -> None:
    if is_object(action) and isinstance(action.get("type"), str) and action["type"]:
        face = _string(label) or action["type"]
        found.actions.append(
            FormAction(type=action["type"], label=face, payload=action.get("payload"), submits=submits)
        )


def _each_once(actions: list[FormAction]) -> tuple[FormAction, ...]:
    return tuple(one for index, one in enumerate(actions) if one not in actions[:index])


def _speak(found: _Found, text: Any) -> None:
    if isinstance(text, str) and text.strip():
        found.texts.append(text.strip())


def _say(value: Any, lines: list[str], depth: int) -> None:
    if depth > DEPTH_LIMIT:
        return
    if is_object(value):
        for name, inner in value.items():
            if isinstance(inner, str) and name in {
                "title",
                "value",
                "label",
                "text",
                "alt",
                "placeholder",
                "artifactTitle",
            }:
                lines.extend([inner.strip()] if inner.strip() else [])
            else:
                _say(inner, lines, depth + 1)
    for item in items(value):
        _say(item, lines, depth + 1)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
