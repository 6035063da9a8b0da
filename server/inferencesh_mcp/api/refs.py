"""References to apps and agents, and ids as segments of a path. Pure: no I/O.

Nothing from outside reaches a URL without passing here: it must match a strict pattern, and is URL-encoded too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from inferencesh_mcp.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}", re.ASCII)
_KINDS = ("app", "skill", "knowledge", "agent")
_SHAPE = "namespace/name, namespace/name@version or namespace/name:function, for example infsh/flux-schnell"


@dataclass(frozen=True, kw_only=True)
class AppRef:
    """`[app/]namespace/name[@version][:function]`; missing parts are empty."""

    namespace: str
    name: str
    version: str = ""
    function: str = ""

    @classmethod
    def parse(cls, text: str) -> AppRef:
        """Parse a reference as a person writes it; InvalidInput shows the right form."""
        rest, function = _split_function(text.strip())
        path, _, version = rest.partition("@")
        namespace, name = _split_path(path, text)
        parts = [namespace, name, *filter(None, (version, function))]
        if not all(_fits(part, _NAME) for part in parts) or rest.endswith("@") or text.strip().endswith(":"):
            raise _bad_ref(text)
        return cls(namespace=namespace, name=name, version="" if version == "latest" else version, function=function)

    @property
    def path(self) -> str:
        """`namespace/name`, safe inside a URL."""
        return f"{segment(self.namespace, 'namespace', _NAME)}/{segment(self.name, 'app name', _NAME)}"

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        return f"{self.namespace}/{self.name}{version}" + (f":{self.function}" if self.function else "")


def agent_reference(text: str) -> str:
    """`namespace/name` or `namespace/name@version` of `[agent/]namespace/name[@version]`; InvalidInput for anything else."""
    path, at, version = text.strip().partition("@")
    namespace, _, name = path.removeprefix("agent/").partition("/")
    if not all(_fits(part, _NAME) for part in (namespace, name, *([version] if at else []))):
        raise InvalidInput(
            message=f"{_quoted(text)} is not an agent: write namespace/name or namespace/name@version",
            next_step="Find the agent's name with agent_list.",
        )
    return f"{namespace}/{name}" + (f"@{version}" if at and version != "latest" else "")


def segment(value: str, label: str = "id", pattern: re.Pattern[str] = _ID) -> str:
    """`value` as one segment of a path; InvalidInput unless it is an id: letters, digits, `_` and `-`, at most 128."""
    if not _fits(value, pattern):
        raise InvalidInput(
            message=f"{label} {_quoted(value)} is not valid: letters, digits, '_' and '-' only, at most 128 characters",
            next_step="Use the id exactly as an earlier answer gave it.",
        )
    return quote(value, safe="")


def _fits(value: str, pattern: re.Pattern[str]) -> bool:
    return pattern.fullmatch(value) is not None and ".." not in value


def _split_function(text: str) -> tuple[str, str]:
    """The reference and its function: the part after the last `:`, unless that contains an `@`."""
    rest, colon, function = text.rpartition(":")
    return (rest, function) if colon and "@" not in function else (text, "")


def _split_path(path: str, text: str) -> tuple[str, str]:
    parts = path.split("/")
    if len(parts) == 3 and parts[0] in _KINDS:
        if parts[0] != "app":
            raise InvalidInput(message=f"{_quoted(text)} is of kind '{parts[0]}', not an app")
        parts = parts[1:]
    if len(parts) != 2:
        raise _bad_ref(text)
    return parts[0], parts[1]


def _bad_ref(text: str) -> InvalidInput:
    return InvalidInput(
        message=f"{_quoted(text)} is not an app: write {_SHAPE}",
        next_step="Find the app's name with app_list.",
        outcome="not_started",
        retry_safe=True,
    )


def _quoted(value: str) -> str:
    return ascii(value if len(value) <= 80 else value[:80] + "…")
