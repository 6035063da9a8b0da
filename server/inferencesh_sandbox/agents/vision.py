"""What the sandbox's agents see of a message's files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_sandbox.apps.picture_info import measured
from inferencesh_sandbox.apps.types import AppFailed

if TYPE_CHECKING:
    from inferencesh_sandbox.messages import Attached
    from inferencesh_sandbox.turns import Turn

_READ = 16 * 1024 * 1024


def told_files(turn: Turn) -> str:
    """Tell each file that came with the message, really read."""
    return " ".join(_told(turn, file) for file in turn.files)


def _told(turn: Turn, file: Attached) -> str:
    stored = turn.desk.store.by_uri(file.uri)
    if stored is None or not (stored.public or stored.owner is turn.chat.owner):
        return f"I cannot read {file.uri[:200]}: the sandbox has no network; upload the file first."
    if not stored.arrived:
        return f"The file {stored.filename} was never uploaded."
    told = f"{stored.filename}: {stored.content_type}, {stored.size} bytes"
    if stored.size <= _READ:
        try:
            kind, width, height = measured(b"".join(stored.pieces()))
        except AppFailed:
            return told + "."
        return f"{told}, a {kind} of {width}x{height}."
    return told + "."
