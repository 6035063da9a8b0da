"""Which apps have a tool of their own, and what those tools are called. Pure.

A pin is `[alias=]namespace/name[@version][:function]`; pins are separated by commas.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.errors import InvalidInput, SettingsError
from inferencesh_mcp.schema import tool_name
from inferencesh_mcp.schema.limits import LONGEST_TOOL_NAME

if TYPE_CHECKING:
    from collections.abc import Collection

# VS Code and Claude hand a model 128 tools, those of all servers together: ours and these leave a third to the others.
MOST = 64
# Hosts cut or refuse a name over 60 to 64 characters, their `mcp__inference__` before it included.
LONGEST = 40
VARIABLE = "INFERENCE_PIN"

_ALIAS = re.compile(rf"[A-Za-z][A-Za-z0-9_-]{{0,{LONGEST - 1}}}", re.ASCII)
_SHAPE = "[alias=]namespace/name[@version][:function]"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """An app, or one function of it, as a tool called `name`."""

    name: str
    app: AppRef

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read one pin as a person writes it; SettingsError says what is right."""
        alias, given, named = text.rpartition("=")
        try:
            app = AppRef.parse(named)
        except InvalidInput:
            raise SettingsError(message=f"{VARIABLE} has {_quoted(text)}, but takes {_SHAPE}.") from None
        if given and not _ALIAS.fullmatch(alias.strip()):
            raise SettingsError(
                message=f"{VARIABLE} has the alias {_quoted(alias.strip())}, but an alias is a letter and up to "
                f"{LONGEST - 1} letters, digits, _ or -."
            )
        return cls(name=alias.strip() or _named_after(app), app=app)


def parsed(text: str) -> tuple[Pin, ...]:
    """The pins of a list, in its order.

    Raises:
        SettingsError: one that cannot be read, too many of them, or two whose tools would have one name.
    """
    pins = tuple(Pin.parse(part.strip()) for part in text.split(",") if part.strip())
    if len(pins) > MOST:
        raise SettingsError(message=f"{VARIABLE} names {len(pins)} apps, but may name {MOST} at most.")
    for number, pin in enumerate(pins):
        if any(_folded(pin.name) == _folded(earlier.name) for earlier in pins[:number]):
            raise SettingsError(message=f'{VARIABLE} has two tools called "{pin.name}": {_alias_it(pin)}')
    return pins


def refuse_taken(pins: Collection[Pin], names: Collection[str]) -> None:
    """SettingsError where a pin's tool would be called as one of the server's own."""
    taken = {_folded(name) for name in names}
    for pin in pins:
        if _folded(pin.name) in taken:
            raise SettingsError(
                message=f'{VARIABLE} has a tool called "{pin.name}", as one of the server\'s own is: {_alias_it(pin)}'
            )


def _named_after(app: AppRef) -> str:
    """The app's name, and the function's where one is named, within what every host takes."""
    whole = "_".join(filter(None, (app.name, app.function)))
    named = whole if whole[0].isalpha() else f"app {whole}"
    return tool_name(named, (), before=LONGEST_TOOL_NAME - LONGEST)


def _folded(name: str) -> str:
    """As the hosts see a name that tell neither case nor `-` from `_`."""
    return name.lower().replace("-", "_")


def _alias_it(pin: Pin) -> str:
    other = f"{pin.app.namespace}_{pin.name}"
    return f"give it another name, for example {other if _ALIAS.fullmatch(other) else 'mine'}={pin.app}."


def _quoted(text: str) -> str:
    return f'"{ascii(text if len(text) <= 80 else text[:80] + "…")[1:-1]}"'
