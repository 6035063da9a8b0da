"""Normalise request paths, and match them with patterns."""

from __future__ import annotations

import re

_ROOTS = frozenset({
    "agent-runs", "agents", "app", "apps", "chats", "credentials", "files", "healthz", "integrations", "interrupts",
    "me", "run", "sessions", "store", "tasks", "tools", "upload",
})  # fmt: skip


def normalize(path: str) -> str:
    """Remove double slashes and any prefix before the first known noun."""
    segments = [segment for segment in path.split("/") if segment]
    for index, segment in enumerate(segments):
        if segment in _ROOTS:
            return "/" + "/".join(segments[index:])
    return "/" + "/".join(segments)


def matches(path: str, pattern: str) -> bool:
    """Return whether a path matches. `*` is one segment, `**` any number of segments."""
    escaped = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(escaped, path, re.DOTALL) is not None
