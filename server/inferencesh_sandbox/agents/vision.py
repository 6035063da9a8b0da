"""What the sandbox's agents see of a message's files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_sandbox.apps.picture_info import measure
from inferencesh_sandbox.apps.types import AppFailed

if TYPE_CHECKING:
    from inferencesh_sandbox.messages import Attached
    from inferencesh_sandbox.turns import Turn

_READ = 16 * 1024 * 1024


def file_dtos(turn: Turn) -> str:
    """Describe each file of the message, from its bytes."""
    return " ".join(_outcome(turn, file) for file in turn.files)


def _outcome(turn: Turn, file: Attached) -> str:
    stored = turn.agent_loop.store.by_uri(file.uri)
    if stored is None or not (stored.public or stored.owner is turn.chat.owner):
        return f"I cannot read {file.uri[:200]}: the sandbox has no network; upload the file first."
    if not stored.arrived:
        return f"The file {stored.filename} was never uploaded."
    text = f"{stored.filename}: {stored.content_type}, {stored.size} bytes"
    if stored.size <= _READ:
        try:
            kind, width, height = measure(b"".join(stored.pieces()))
        except AppFailed:
            return text + "."
        return f"{text}, a {kind} of {width}x{height}."
    return text + "."
