"""A form: fields and actions, which any host can ask, and what is found in a widget that may be one. Pure: no I/O.

What holds anything that is no plain field is no form: a host would show a part of it, and the person would decide without
having seen the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from inferencesh_mcp.api.json import is_object, items

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


class NoForm(Exception):
    """There is something that no form can show."""


@dataclass(kw_only=True)
class FormBuilder:
    """What a walk through a widget has come across."""

    texts: list[str] = field(default_factory=list[str])
    fields: list[FormField] = field(default_factory=list[FormField])
    actions: list[FormAction] = field(default_factory=list[FormAction])
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def speak(self, text: Any) -> None:
        """Something is said."""
        if isinstance(text, str) and text.strip():
            self.texts.append(text.strip())

    def ask(self, one: FormField) -> None:
        """Something is asked. A default counts if it fits; a choice without anything to choose from is none."""
        if one.kind in {"choice", "choices"} and not one.options:
            raise NoForm
        self.fields.append(replace(one, default=_default(one)))

    def press(self, action: Any, label: Any, *, submits: bool) -> None:
        """Something can be pressed, if that does anything."""
        if is_object(action) and isinstance(action.get("type"), str) and action["type"]:
            face = string(label) or action["type"]
            self.actions.append(
                FormAction(type=action["type"], label=face, payload=action.get("payload"), submits=submits)
            )

    def form(self, title: str) -> WidgetForm | None:
        """All of it as a form; None when it asks nothing, or more than a form can show."""
        names = [one.name for one in self.fields]
        too_many = len(names) > FIELDS_LIMIT or len(self.actions) > ACTIONS_LIMIT
        if not (names or self.actions) or too_many or len(set(names)) < len(names):
            return None
        fields = tuple(replace(one, label=one.label or self.labels.get(one.name) or one.name) for one in self.fields)
        return WidgetForm(title=title, text="\n".join(self.texts), fields=fields, actions=_each_once(self.actions))


def _default(one: FormField) -> Any:
    value = one.default
    values = {choice.value for choice in one.options}
    if one.kind == "boolean":
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(string(value))
    if one.kind == "number":
        return number(value)
    if one.kind == "choice":
        first = items(value)[0] if items(value) else value
        return first if isinstance(first, str) and first in values else None
    if one.kind == "choices":
        chosen = tuple(item for item in items(value) or [value] if isinstance(item, str) and item in values)
        return chosen or None
    return value if isinstance(value, str) and value else None


def choices(options: Any) -> tuple[Choice, ...]:
    found: dict[str, Choice] = {}
    for one in items(options):
        value, label = (one.get("value"), one.get("label")) if is_object(one) else (one, one)
        if isinstance(value, str):
            found.setdefault(value, Choice(value=value, label=string(label) or value))
    return tuple(found.values())


def _each_once(actions: list[FormAction]) -> tuple[FormAction, ...]:
    return tuple(one for index, one in enumerate(actions) if one not in actions[:index])


def string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
