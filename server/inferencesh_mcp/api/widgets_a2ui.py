"""A widget that is an A2UI surface, as of npm `@inferencesh/sdk` 0.6.54, read as a form. Pure: no I/O.

It is a flat list of components, whose values are bound to paths in a data model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inferencesh_mcp.api.json import is_array, is_object, items, unpacked
from inferencesh_mcp.api.widget_form import (
    DEPTH_LIMIT,
    FormBuilder,
    FormField,
    Node,
    NoForm,
    WidgetForm,
    choices,
    number,
    string,
)

_AROUND = {"Row", "Column", "List", "Card", "Modal", "Tabs", "Form"}
_SHOWN = {"Image", "Icon", "Divider", "Spacer"}


def surface(widget: Node) -> WidgetForm | None:
    """The form that a surface is; None when it asks nothing. NoForm when it holds what no form can show."""
    components: dict[str, Node] = {}
    for one in items(widget.get("components")):
        if is_object(one) and isinstance(one.get("id"), str):
            components.setdefault(one["id"], _flat(one))
    inside = {child for one in components.values() for child in _children(one)}
    roots = ["root"] if "root" in components else [name for name in components if name not in inside]
    surface, builder = _Surface(components, widget.get("dataModel")), FormBuilder()
    for root in roots:
        surface.walk(root, None, builder, 0)
    return builder.form("")


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

    def walk(self, name: str, submit: Any, builder: FormBuilder, depth: int) -> None:
        """Read a component and what is in it, each once."""
        if depth > DEPTH_LIMIT:  # they are nested by name: what the reader of JSON allows says nothing
            raise NoForm
        component = self._components.get(name)
        if component is None or name in self._seen:
            return
        self._seen.add(name)
        kind = string(component.get("component"))
        if kind in {"Text", "Badge"}:
            builder.speak(self._bound(component.get("text")) or component.get("badgeLabel"))
        elif kind == "Button":
            self._button(component, submit, builder)
            return
        elif kind in {"TextField", "CheckBox", "ChoicePicker", "Slider", "DateTimeInput"}:
            if not component.get("disabled"):
                builder.ask(self._field(kind, name, component))
        elif kind not in _AROUND | _SHOWN:
            raise NoForm  # a chart, an artifact, or something newer
        presses = len(builder.actions)
        inside = component.get("onSubmitAction") or submit
        for child in _children(component):
            self.walk(child, inside, builder, depth + 1)
        if component.get("onSubmitAction") and not any(press.submits for press in builder.actions[presses:]):
            builder.press(component["onSubmitAction"], "Submit", submits=True)

    def _button(self, component: Node, submit: Any, builder: FormBuilder) -> None:
        face = self._components.get(string(component.get("child")), {})
        self._seen.add(string(component.get("child")))
        label = string(component.get("label")) or string(self._bound(face.get("text")))
        own = component.get("action")
        if is_object(own) and is_object(submit) and own.get("type") == submit.get("type"):
            own = {**submit, **own}
        is_submit = own is None or (is_object(submit) and is_object(own) and own.get("type") == submit.get("type"))
        builder.press(own or submit, label, submits=is_submit or (submit is None and bool(builder.fields)))

    def _field(self, kind: str, component_id: str, component: Node) -> FormField:
        bound = (
            component.get("selections")
            if kind == "ChoicePicker" and component.get("selections")
            else component.get("value")
        )
        path = string(bound.get("path")) if is_object(bound) else ""
        plain = FormField(
            name=path.strip("/") or component_id,
            kind="text",
            label=string(component.get("label")),
            required=component.get("required") is True,
            default=self._bound(bound),
            hint=string(component.get("placeholder")),
            pattern=string(component.get("validationRegexp")),
        )
        if kind == "TextField":
            return self._text_field(plain, string(component.get("textFieldType")).lower())
        if kind == "CheckBox":
            return replace(plain, kind="boolean")
        if kind == "Slider":
            return replace(
                plain,
                kind="number",
                minimum=number(component.get("minValue")),
                maximum=number(component.get("maxValue")),
            )
        if kind == "DateTimeInput":
            only_time = component.get("enableDate") is False
            return plain if only_time else replace(plain, kind="date", with_time=component.get("enableTime") is True)
        several = component.get("maxAllowedSelections") != 1
        return replace(plain, kind="choices" if several else "choice", options=choices(component.get("options")))

    def _text_field(self, plain: FormField, kind: str) -> FormField:
        if kind in {"obscured", "password"}:  # a secret is not asked in a form
            raise NoForm
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
        node: Any = self._model
        for step in value["path"].strip("/").split("/"):
            if is_object(node):
                node = node.get(step)
            elif is_array(node) and step.isdigit() and len(step) < 6 and int(step) < len(node):
                node = node[int(step)]
            else:
                return None
        return node
