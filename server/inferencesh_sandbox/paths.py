"""Paths as requests bring them, and the patterns that name them."""

from __future__ import annotations

import re

_ROOTS = frozenset({
    "agent-runs", "agents", "app", "apps", "chats", "credentials", "files", "healthz", "integrations", "interrupts",
    "me", "run", "sessions", "store", "tasks", "tools", "upload",
})  # fmt: skip


def plain(path: str) -> str:
    """Undo what joining a base URL by plain concatenation does: doubled slashes, and a prefix before the first noun."""
    segments = [segment for segment in path.split("/") if segment]
    for place, segment in enumerate(segments):
        if segment in _ROOTS:
            return "/" + "/".join(segments[place:])
    return "/" + "/".join(segments)


def fits(path: str, pattern: str) -> bool:
    """Say whether a path is meant by a pattern, in which `*` stands for one segment and `**` for any number."""
    escaped = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(escaped, path, re.DOTALL) is not None
