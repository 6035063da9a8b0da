"""The forms that the sandbox's agents show, in both of the platform's spellings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferencesh_sandbox.turns import Turn
    from inferencesh_sandbox.wire import Json

_SIZES = ({"label": "Small", "value": "s"}, {"label": "Large", "value": "l"})
_TOPPINGS = (
    {"label": "Nuts", "value": "nuts"},
    {"label": "Fruit", "value": "fruit"},
    {"label": "Honey", "value": "honey"},
)

NODES: Json = {
    "type": "ui",
    "interactive": True,
    "title": "An order, for the sandbox to forget",
    "children": [
        {
            "type": "form",
            "onSubmitAction": {"type": "submit", "payload": {"form": "order"}},
            "children": [
                {"type": "text", "value": "Nothing will be delivered."},
                {"type": "input", "name": "name", "label": "Name", "required": True, "placeholder": "Ada"},
                {"type": "textarea", "name": "note", "label": "Note", "rows": 3},
                {"type": "select", "name": "size", "label": "Size", "options": list(_SIZES), "defaultValue": "s"},
                {"type": "radio-group", "name": "topping", "label": "Topping", "options": list(_TOPPINGS)},
                {"type": "checkbox", "name": "gift", "label": "It is a gift", "defaultChecked": False},
                {"type": "date-picker", "name": "day", "label": "Day"},
                {"type": "button", "label": "Order", "submit": True},
            ],
        }
    ],
    "actions": [{"label": "Cancel", "action": {"type": "cancel"}, "variant": "outline"}],
}
"""A tree of WidgetNode, the older form of the platform's widgets."""

SURFACE: Json = {
    "version": "0.9",
    "surfaceId": "order",
    "catalogId": "inference.sh/standard",
    "components": [
        {"id": "root", "component": "Form", "children": ["title", "name", "count", "size", "toppings", "gift", "day", "go"],
         "onSubmitAction": {"type": "submit", "payload": {"form": "order"}}},
        {"id": "title", "component": "Text", "text": "An order, for the sandbox to forget", "variant": "h3"},
        {"id": "name", "component": "TextField", "label": "Name", "value": {"path": "/name"}, "required": True},
        {"id": "count", "component": "Slider", "label": "How many", "value": {"path": "/count"}, "minValue": 1, "maxValue": 9},
        {"id": "size", "component": "ChoicePicker", "label": "Size", "options": list(_SIZES),
         "selections": {"path": "/size"}, "maxAllowedSelections": 1},
        {"id": "toppings", "component": "ChoicePicker", "label": "Toppings", "options": list(_TOPPINGS),
         "selections": {"path": "/toppings"}, "maxAllowedSelections": 3},
        {"id": "gift", "component": "CheckBox", "label": "It is a gift", "value": {"path": "/gift"}},
        {"id": "day", "component": "DateTimeInput", "label": "Day", "value": {"path": "/day"}, "enableDate": True,
         "enableTime": False},
        {"id": "go", "component": "Button", "child": "go-text", "primary": True, "action": {"type": "submit"}},
        {"id": "go-text", "component": "Text", "text": "Order"},
    ],
    "dataModel": {"name": "", "count": 1, "size": ["s"], "toppings": [], "gift": False, "day": ""},
}  # fmt: skip
"""An A2UI surface, the newest form of widgets: flat components, with values bound to places of a data model."""

PAGE: Json = {
    "type": "html",
    "interactive": True,
    "title": "A page that no form can show",
    "html": "<canvas id=board></canvas><p>Pick a square of the board.</p>",
    "actions": [{"label": "Give up", "action": {"type": "give_up"}}],
}
"""A widget that fits no form: a host can only show it as text."""


def form_for(text: str) -> Json:
    lowered = text.lower()
    if "surface" in lowered or "a2ui" in lowered:
        return SURFACE
    return PAGE if "page" in lowered else NODES


async def ask(turn: Turn) -> None:
    """Show the form that the message asks for, and report the answer."""
    await turn.say("Please fill this in.")
    form = form_for(turn.text)
    reply = await turn.ask(form, "widget_html" if form is PAGE else "widget_ui")
    action: Json = reply["action"]
    data: Json = reply.get("form_data") or {}
    filled = ", ".join(f"{name} = {value}" for name, value in sorted(data.items()))
    await turn.say(f"You chose {action.get('type')}" + (f" with {filled}." if filled else "."))
