"""Rewrites an A2UI surface (npm `@inferencesh/sdk` 0.6.54) as the tree of nodes that `widgets` reads. Pure: no I/O.

A surface is a flat list of components that name each other by id; their values are bound to paths in a data model.
"""

from __future__ import annotations

from typing import Any

from inferencesh_mcp.api.json import as_object, as_text, is_array, is_object, items, unpacked

Node = dict[str, Any]

_CONTAINERS = {"Row", "Column", "List", "Card", "Modal", "Tabs", "Form"}
_DECORATION = {"Image", "Icon", "Divider", "Spacer"}
_FIELDS = {"TextField", "CheckBox", "ChoicePicker", "Slider", "DateTimeInput"}
_UNSUPPORTED: Node = {"type": "unsupported"}
MAX_DEPTH = 32
"""Deepest nesting of a widget; one that is deeper is no form."""
MAX_COMPONENTS = 1_000
"""Components of a surface; one with more is no form."""


def surface_nodes(widget: Node) -> list[Node]:
    """The nodes of a surface. What a form cannot show, or is nested too deep, has a type that no reader supports."""
    listed = items(widget.get("components"))
    if len(listed) > MAX_COMPONENTS:
        return [_UNSUPPORTED]
    components: dict[str, Node] = {}
    for component in listed:
        if is_object(component) and isinstance(component.get("id"), str):
            components.setdefault(component["id"], _flat(component))
    children = {child for component in components.values() for child in _children(component)}
    roots = ["root"] if "root" in components else [name for name in components if name not in children]
    surface = _Surface(components, unpacked(widget.get("dataModel")))
    return [node for root in roots for node in surface.nodes(root, None, 0)]


def _flat(component: Node) -> Node:
    """`{"id", "component": {"TextField": {…}}}` is the same as `{"id", "component": "TextField", …}`."""
    kind = component.get("component")
    if is_object(kind) and len(kind) == 1:
        name, inner = next(iter(kind.items()))
        return {**component, **as_object(inner), "component": name}
    return component


def _children(component: Node) -> list[str]:
    ids = [*items(component.get("children")), component.get("child")]
    ids += [component.get("entryPointChild"), component.get("contentChild")]
    ids += [as_object(tab).get("child") for tab in items(component.get("tabItems"))]
    return [child_id for child_id in ids if isinstance(child_id, str)]


class _Surface:
    def __init__(self, components: dict[str, Node], model: Any) -> None:
        self._components, self._model = components, model
        self._visited: set[str] = set()
        self._has_fields = False

    def nodes(self, component_id: str, submit: Any, depth: int) -> list[Node]:
        """The node of a component with its children, each component once; `submit` is the action of its form."""
        component = self._components.get(component_id)
        if component is None or component_id in self._visited:
            return []
        self._visited.add(component_id)
        kind = as_text(component.get("component"))
        if depth > MAX_DEPTH:
            return [_UNSUPPORTED]
        if kind == "Button":
            return [self._button(component, submit)]
        if kind in {"Text", "Badge"}:
            node: Node = {"type": "text", "value": self._bound(component.get("text")) or component.get("badgeLabel")}
        elif kind in _FIELDS:
            self._has_fields = self._has_fields or not component.get("disabled")
            node = self._field(kind, component_id, component)
        elif kind in _CONTAINERS | _DECORATION:
            node = {"type": "box"}
        else:  # a chart, an artifact, or something newer
            return [_UNSUPPORTED]
        own_submit = component.get("onSubmitAction")
        inside = [self.nodes(child_id, own_submit or submit, depth + 1) for child_id in _children(component)]
        return [node | {"onSubmitAction": own_submit, "children": [child for children in inside for child in children]}]

    def _button(self, component: Node, submit: Any) -> Node:
        """A button with its form's action or none of its own submits the form; outside a form it sends all fields."""
        face_id, action = as_text(component.get("child")), component.get("action")
        face = self._components.get(face_id, {})
        self._visited.add(face_id)
        is_same = False
        if is_object(action) and is_object(submit) and action.get("type") == submit.get("type"):
            payload = action.get("payload", submit.get("payload"))
            action, is_same = {"type": action.get("type"), "payload": payload}, True
        return {
            "type": "button",
            "label": as_text(component.get("label")) or as_text(self._bound(face.get("text"))),
            "action": action,
            "submit": action is None or is_same or (submit is None and self._has_fields),
        }

    def _field(self, kind: str, component_id: str, component: Node) -> Node:
        selections = component.get("selections") if kind == "ChoicePicker" else None
        bound = selections or component.get("value")
        path, default = as_text(as_object(bound).get("path")), self._bound(bound)
        node: Node = {
            "type": "input",
            "name": path.strip("/") or component_id,
            "label": component.get("label"),
            "required": component.get("required"),
            "disabled": component.get("disabled"),
            "defaultValue": default,
            "placeholder": component.get("placeholder"),
            "pattern": component.get("validationRegexp"),
        }
        match kind:
            case "TextField":
                variant = as_text(component.get("textFieldType")).lower()
                if variant == "date":
                    return node | {"type": "date-picker"}
                return node | {"variant": "password" if variant == "obscured" else variant}
            case "CheckBox":
                return node | {"type": "checkbox", "defaultChecked": default}
            case "Slider":
                return node | {"variant": "number", "min": component.get("minValue"), "max": component.get("maxValue")}
            case "DateTimeInput":
                is_time = component.get("enableDate") is False
                return node if is_time else node | {"type": "date-picker", "enableTime": component.get("enableTime")}
            case _:
                is_multiple = component.get("maxAllowedSelections") != 1
                return node | {"type": "select", "multiple": is_multiple, "options": component.get("options")}

    def _bound(self, value: Any) -> Any:
        """The value itself, or the data model's value at its path."""
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
