"""The schema compiler: any app's JSON Schema in, the smallest one out that every host takes and that takes the same inputs.

What goes in is untrusted (threat T-18). Nothing is fetched, the time is bounded whatever it is, and what comes out is one
object schema without references, choices at the top, regular expressions or unknown keywords. Where it had to become looser than
the app's own it says so in `notes`; it is never stricter, and the app's own is what an input is held against before a run.
Pure: no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.errors import SchemaUnusable
from inferencesh_mcp.schema import tool_names
from inferencesh_mcp.schema.emit import TooLarge, Writer, size
from inferencesh_mcp.schema.ir import CompileBudget, Shape
from inferencesh_mcp.schema.parse import Reader
from inferencesh_mcp.schema.profiles import EVERY_HOST, HOSTS, Profile
from inferencesh_mcp.schema.refs import modern
from inferencesh_mcp.schema.relax import loosened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["EVERY_HOST", "HOSTS", "Compiled", "Profile", "compiled_input", "compiled_output", "tool_name"]

tool_name = tool_names.tool_name
_OUTPUT_DEPTH = 6  # what is further inside is not told anyway
_STEPS = 6000  # of work on one schema, however it is written: some 20 ms


@dataclass(frozen=True)
class Compiled:
    """A schema that hosts take, and the way back from it."""

    schema: dict[str, Any]
    """An object schema, ready to be a tool's `inputSchema`."""
    notes: tuple[str, ...] = ()
    """What had to become looser than the app's own schema, a sentence each. None of them quotes the schema."""
    renamed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The fields that have another name here: from it to the app's own."""

    def restored(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments under the app's own names, at any depth; a null that this schema does not take is left out."""
        restored: dict[str, Any] = tool_names.restored(arguments, [self.schema], self.renamed)
        return restored


def compiled_input(schema: dict[str, Any], profile: Profile = EVERY_HOST) -> Compiled:
    """Compile an app's input schema.

    Raises:
        SchemaUnusable: no object fits it, or it is too large even without its details.
    """
    return _compiled(schema, profile, lambda shape: shape)


def compiled_output(schema: dict[str, Any]) -> dict[str, Any]:
    """Compile an app's output schema: what to expect, loose enough that no real output fails it. Nothing is required.

    Raises:
        SchemaUnusable: no object fits it, or it is too large even without its details.
    """
    subschemas = EVERY_HOST.subschemas // 3  # each is written as a choice of itself and null
    depth = min(_OUTPUT_DEPTH, EVERY_HOST.depth)
    shallow = replace(EVERY_HOST, depth=depth, subschemas=subschemas, null_fields=True)
    return _compiled(schema, shallow, loosened).schema


def _compiled(schema: dict[str, Any], profile: Profile, changed: Callable[[Shape], Shape]) -> Compiled:
    schema = modern(schema)
    notes: dict[str, None] = {}
    for attempt in _attempts(profile):
        work = CompileBudget(_STEPS, attempt.most_branches)
        shape = changed(Reader(schema, attempt, work).shape(schema))
        names = tool_names.host_names(shape, attempt)
        try:
            written = Writer(attempt, names, work).top(shape)
        except TooLarge:
            written = {}
        if written is None:
            raise SchemaUnusable(
                message="The app's schema takes no object: it cannot be the schema of a tool.",
                next_step="Run the app by app_run, and tell its author.",
            )
        notes |= work.notes
        if written and size(written) <= attempt.bytes:
            renamed = {name: own for own, name in names.items() if own != name}
            return Compiled(written, tuple(notes), MappingProxyType(renamed))
        notes["The schema is too large: parts of it are left open."] = None
    raise SchemaUnusable(
        message="The app's schema is too large to be the schema of a tool.",
        next_step="Run the app by app_run, and tell its author.",
    )


def _attempts(profile: Profile) -> tuple[Profile, ...]:
    """The profile, and what is tried where the outcome would be too large for it: less and less detail."""
    bare = replace(profile, longest_about=0, longest_default=16, longest_listed=min(512, profile.longest_listed))
    shallow = replace(bare, depth=min(4, profile.depth), most_branches=min(8, profile.most_branches))
    return profile, bare, shallow, replace(shallow, depth=2, subschemas=min(100, profile.subschemas))
