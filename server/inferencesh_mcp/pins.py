"""Pins: which apps have a tool of their own, and the names of those tools. Pure.

A pin is `[alias=]namespace/name[@version][:function]`; pins are separated by commas.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferencesh_mcp.api.refs import AppRef
from inferencesh_mcp.errors import InvalidInput, SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection

# VS Code and Claude give a model 128 tools of all servers together: a third of them stays for other servers.
MAX_PINS = 64
# Hosts cut or refuse names over 60 to 64 characters, including their prefix `mcp__inference__`.
MAX_NAME_LENGTH = 40
VARIABLE = "INFERENCE_PIN"

_ALIAS = re.compile(rf"[A-Za-z][A-Za-z0-9_-]{{0,{MAX_NAME_LENGTH - 1}}}", re.ASCII)
_SHAPE = "[alias=]namespace/name[@version][:function]"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """An app, or one function of it, as a tool called `name`."""

    name: str
    app: AppRef

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read one pin.

        Raises:
            SettingsError: says what a pin must look like.
        """
        alias, equals, ref = text.rpartition("=")
        try:
            app = AppRef.parse(ref)
        except InvalidInput:
            raise SettingsError(message=f"{VARIABLE} has {_quoted(text)}, but takes {_SHAPE}.") from None
        if equals and not _ALIAS.fullmatch(alias.strip()):
            raise SettingsError(
                message=f"{VARIABLE} has the alias {_quoted(alias.strip())}, but an alias is a letter and up to "
                f"{MAX_NAME_LENGTH - 1} letters, digits, _ or -."
            )
        return cls(name=alias.strip() or _default_name(app), app=app)


def parsed(text: str) -> tuple[Pin, ...]:
    """The pins of a list, in its order.

    Raises:
        SettingsError: a pin cannot be read, there are too many, or two tools would have one name.
    """
    pins = tuple(Pin.parse(part.strip()) for part in text.split(",") if part.strip())
    if len(pins) > MAX_PINS:
        raise SettingsError(message=f"{VARIABLE} names {len(pins)} apps, but may name {MAX_PINS} at most.")
    for number, pin in enumerate(pins):
        if any(_folded(pin.name) == _folded(earlier.name) for earlier in pins[:number]):
            raise SettingsError(
                message=f'{VARIABLE} has two tools called "{pin.name}": give one of them another name, for example '
                f"{_alias_example(pin)}."
            )
    return pins


def refuse_taken(pins: Collection[Pin], names: Collection[str]) -> None:
    """Refuse a pin whose tool would have the name of one of the server's own.

    Raises:
        SettingsError: names the pin and an alias for it.
    """
    taken = {_folded(name) for name in names}
    for pin in pins:
        if _folded(pin.name) in taken:
            raise SettingsError(
                message=f'{VARIABLE} has a tool called "{pin.name}", but the server already has a tool of that name: '
                f"give it another name, for example {_alias_example(pin)}."
            )


def _default_name(app: AppRef) -> str:
    """A name for the tool that every host takes: the app's, with the function's if the pin names one."""
    name = "_".join(filter(None, (app.name, app.function)))
    name = name if name[0].isalpha() else f"app {name}"
    plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")
    if len(plain) <= MAX_NAME_LENGTH:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]  # two long names with one beginning stay apart
    return f"{plain[: MAX_NAME_LENGTH - 7]}_{digest}"


def _folded(name: str) -> str:
    """The name as hosts see it that ignore case and the difference of `-` and `_`."""
    return name.lower().replace("-", "_")


def _alias_example(pin: Pin) -> str:
    alias = f"{pin.app.namespace}_{pin.name}"
    return f"{alias if _ALIAS.fullmatch(alias) else 'mine'}={pin.app}"


def _quoted(text: str) -> str:
    return f'"{ascii(text if len(text) <= 80 else text[:80] + "…")[1:-1]}"'
