"""A widget is a form where a form can show all of it."""

import time

import pytest

from inferencesh_mcp.api.widgets import Choice, FormAction, FormField, WidgetForm, widget_form, widget_text

SIZES = [{"label": "Small", "value": "s"}, {"label": "Large", "value": "l"}]
CHOICES = (Choice(value="s", label="Small"), Choice(value="l", label="Large"))
SEND = {"type": "send", "payload": {"a": 1}}

TREE = {
    "type": "ui",
    "title": "Order",
    "interactive": True,
    "children": [
        {"type": "text", "value": "What may it be?"},
        {
            "type": "form",
            "onSubmitAction": SEND,
            "children": [
                {"type": "label", "fieldName": "name", "value": "Your name"},
                {"type": "input", "name": "name", "required": True, "placeholder": "Jo", "pattern": "^J"},
                {"type": "input", "name": "age", "variant": "number", "label": "Age", "min": "1", "max": "99", "defaultValue": "7"},
                {"type": "row", "children": [{"type": "textarea", "name": "note", "defaultValue": "hi"}, {"type": "divider"}]},
                {"type": "select", "name": "size", "label": "Size", "options": SIZES, "defaultValue": "l"},
                {"type": "radio-group", "name": "again", "options": [*SIZES, {"value": "l"}, None], "defaultValue": "xxl"},
                {"type": "select", "name": "all", "options": SIZES, "multiple": True, "defaultValue": "s"},
                {"type": "checkbox", "name": "news", "label": "News?", "defaultChecked": True},
                {"type": "date-picker", "name": "when", "label": "When"},
                {"type": "input", "name": "off", "disabled": True},
                {"type": "button", "label": "Send", "submit": True},
                {"type": "button", "label": "Stop", "onClickAction": {"type": "stop"}},
            ],
        },
    ],
}  # fmt: skip
FORM = WidgetForm(
    title="Order",
    text="What may it be?",
    fields=(
        FormField(name="name", kind="text", label="Your name", required=True, hint="Jo", pattern="^J"),
        FormField(name="age", kind="number", label="Age", default=7.0, minimum=1.0, maximum=99.0),
        FormField(name="note", kind="text", label="note", default="hi"),
        FormField(name="size", kind="choice", label="Size", options=CHOICES, default="l"),
        FormField(name="again", kind="choice", label="again", options=CHOICES),
        FormField(name="all", kind="choices", label="all", options=CHOICES, default=("s",)),
        FormField(name="news", kind="boolean", label="News?", default=True),
        FormField(name="when", kind="date", label="When"),
    ),
    actions=(
        FormAction(type="send", label="Send", payload={"a": 1}, submits=True),
        FormAction(type="stop", label="Stop"),
    ),
)


def test_a_tree_of_nodes_is_a_form():
    """As in 0.6.10."""
    assert FORM == widget_form(TREE)


def test_a_tree_may_come_as_a_string():
    assert ["a"] == [
        field.name
        for field in widget_form(
            {
                "type": "ui",
                "json": '{"type":"form","children":[{"type":"input","name":"a"}],"onSubmitAction":{"type":"go"}}',
            }
        ).fields
    ]
    assert ["a"] == [
        field.name for field in widget_form({"type": "ui", "json": '[{"type":"input","name":"a"}]'}).fields
    ]


def test_a_widget_may_be_two_buttons():
    """On its own, without a field."""
    widget = {
        "type": "ui",
        "actions": [
            {"label": "Yes", "action": {"type": "yes"}},
            {"label": "No", "action": {"type": "no"}},
            {"label": "?"},
        ],
    }

    assert (FormAction(type="yes", label="Yes"), FormAction(type="no", label="No")) == widget_form(widget).actions


SURFACE = {
    "version": "v1",
    "surfaceId": "s",
    "components": [
        {"id": "send", "component": "Button", "child": "face", "action": {"type": "send"}},
        {"id": "face", "component": "Text", "text": "Send it"},
        {"id": "root", "component": "Form", "children": ["head", "col"], "onSubmitAction": {"type": "send"}},
        {"id": "head", "component": "Text", "text": {"path": "/head"}},
        {"id": "col", "component": "Column", "children": ["name", "age", "day", "time", "ok", "one", "many", "how", "off", "send"]},
        {"id": "name", "component": "TextField", "label": "Name", "value": {"path": "/who/name"}, "required": True, "validationRegexp": "x"},
        {"id": "age", "component": "TextField", "textFieldType": "number", "value": "3"},
        {"id": "day", "component": "DateTimeInput", "value": {"path": "/day"}, "enableTime": True},
        {"id": "time", "component": "DateTimeInput", "enableDate": False, "enableTime": True},
        {"id": "ok", "component": {"CheckBox": {"label": "OK?", "value": {"literalBoolean": True}}}},
        {"id": "one", "component": "ChoicePicker", "options": SIZES, "selections": {"path": "/one"}, "maxAllowedSelections": 1},
        {"id": "many", "component": "ChoicePicker", "options": SIZES, "selections": {"path": "/list/0"}},
        {"id": "how", "component": "Slider", "minValue": 0, "maxValue": 10, "value": {"path": "/how"}},
        {"id": "off", "component": "TextField", "disabled": True},
    ],
    "dataModel": '{"head":"Hello","who":{"name":"Jo"},"one":["s"],"list":[["s","l","z"]],"how":4}',
}  # fmt: skip
SURFACE_FORM = WidgetForm(
    title="",
    text="Hello",
    fields=(
        FormField(name="who/name", kind="text", label="Name", required=True, default="Jo", pattern="x"),
        FormField(name="age", kind="number", label="age", default=3.0),
        FormField(name="day", kind="date", label="day", with_time=True),
        FormField(name="time", kind="text", label="time"),
        FormField(name="ok", kind="boolean", label="OK?", default=True),
        FormField(name="one", kind="choice", label="one", options=CHOICES, default="s"),
        FormField(name="list/0", kind="choices", label="list/0", options=CHOICES, default=("s", "l")),
        FormField(name="how", kind="number", label="how", default=4.0, minimum=0.0, maximum=10.0),
    ),
    actions=(FormAction(type="send", label="Send it", submits=True),),
)


def test_a_surface_is_a_form():
    """As in 0.6.54: flat, bound to a data model."""
    assert SURFACE_FORM == widget_form(SURFACE)


def test_a_surface_may_have_no_root_and_may_be_circular():
    parts = [{"id": "a", "component": "Card", "child": "b"}, {"id": "b", "component": "Row", "children": ["a", "c", "c", 3]},
             {"id": "c", "component": "TextField"}, {"id": "t", "component": "Tabs", "tabItems": [{"child": "d"}, None]}, {"id": "d", "component": "CheckBox"}]  # fmt: skip

    assert ["d"] == [field.name for field in widget_form({"components": parts}).fields]
    assert ["c", "d"] == [
        field.name
        for field in widget_form(
            {"components": [{"id": "root", "component": "Row", "children": ["a", "t"]}, *parts]}
        ).fields
    ]


INPUT = {"type": "input", "name": "a"}
DEEP = INPUT
for _ in range(40):
    DEEP = {"type": "row", "children": [DEEP]}
NO_FORM = {
    "nothing": {},
    "only text": {"type": "ui", "children": [{"type": "text", "value": "x"}]},
    "html": {"type": "html", "html": "<form>"},
    "a chart": {"type": "ui", "children": [INPUT, {"type": "chart"}]},
    "something new": {"type": "ui", "children": [INPUT, {"type": "hologram"}]},
    "a field without a name": {"type": "ui", "children": [{"type": "input"}]},
    "two fields of one name": {"type": "ui", "children": [INPUT, INPUT]},
    "a password": {"type": "ui", "children": [{"type": "input", "name": "a", "variant": "password"}]},
    "nothing to choose from": {"type": "ui", "children": [{"type": "select", "name": "a"}]},
    "too deep": {"type": "ui", "children": [DEEP]},
    "too many": {"type": "ui", "children": [{"type": "input", "name": str(number)} for number in range(51)]},
    "too many buttons": {"type": "ui", "children": [{"type": "button", "label": str(number), "onClickAction": {"type": f"t{number}"}} for number in range(30_000)]},
    "too many components": {"components": [{"id": "a", "component": "TextField"}, *({"id": f"i{number}", "component": "Icon"} for number in range(2_000))]},
    "an artifact": {"components": [{"id": "a", "component": "Artifact"}, {"id": "b", "component": "TextField"}]},
    "a hidden password": {"components": [{"id": "b", "component": "TextField", "textFieldType": "obscured"}]},
    "an empty surface": {"components": []},
}  # fmt: skip


@pytest.mark.parametrize("widget", NO_FORM.values(), ids=NO_FORM)
def test_a_widget_that_a_form_cannot_show_is_no_form(widget):
    assert widget_form(widget) is None


@pytest.mark.parametrize("odd", [None, 1, 10**400, "x", [], [None, 1, "x", [[]]], {"x": {"y": []}}], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "children",
        "components",
        "actions",
        "json",
        "dataModel",
        "title",
        "type",
        "options",
        "value",
        "action",
        "text",
        "min",
        "onSubmitAction",
    ],
)
def test_no_odd_widget_is_a_crash(name, odd):
    for widget in (
        {**TREE, name: odd},
        {**SURFACE, name: odd},
        {
            "type": "ui",
            "children": [
                {"type": kind, "name": "a", name: odd}
                for kind in ("input", "select", "form", "button", "text", "label")
            ],
        },
        {
            "components": [
                {"id": kind, "component": kind, name: odd}
                for kind in ("TextField", "ChoicePicker", "Button", "Text", "Slider", "Form")
            ]
        },
    ):
        widget_form(widget)
        widget_text(widget)


@pytest.mark.timing
@pytest.mark.parametrize("name", ["too many buttons", "too many components"])
def test_a_widget_with_too_many_parts_is_no_form_in_bounded_time(name):
    began = time.process_time()

    widget_form(NO_FORM[name])

    assert time.process_time() - began < 5, "seconds of CPU; what compares every two buttons takes minutes"


def test_a_widget_that_is_no_form_is_shown_as_text():
    assert "Order\nWhat may it be?" == "\n".join(widget_text(TREE).splitlines()[:2])
    assert "Send it" in widget_text(SURFACE)
    assert "" == widget_text({"type": "chart", "chartData": [1, 2]})
