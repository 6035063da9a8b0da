"""Find the files in an app's output. Pure."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.api.enums import is_media_type
from inferencesh_mcp.api.json import is_array, is_object
from inferencesh_mcp.api.url_policy import path_of
from inferencesh_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.api.models import Task

METERING = "output_meta"
"""The field of an output in which the platform meters it; it is none of the app's."""
MAX_ADDRESSES = 10_000  # addresses of one output that are looked at: guessing the types of so many takes 0.1 s
DEEPEST = 32  # levels of an output that are searched
_ADDRESS = re.compile(r"(?:https?|inf)://[^\s<>\"]{1,2000}")


@dataclass(frozen=True)
class OutputFile:
    url: str
    place: str
    """Its path in the output: `image`, `images-2`, `result-preview`."""
    mime_type: str | None = None
    bytes: int | None = None
    name: str = ""
    """Its file name, if the output has it."""
    is_bare: bool = False
    """Whether the output has only its address."""


def output_of(task: Task) -> Any:
    """The output of a task.

    Raises:
        InvalidInput: it has none, or none yet.
    """
    if task.output is None:
        raise InvalidInput(
            message=f"Task {task.id} is {task.status} and has no output.",
            next_step="" if task.ended else f'Wait for it with task_get(task_id="{task.id}", wait_seconds=45).',
        )
    return task.output


def output_files(value: Any, most: int = MAX_ADDRESSES, addresses: int = MAX_ADDRESSES) -> list[OutputFile]:
    """The files in an output: addresses with a known file extension, and objects `{uri, content_type, size}`.

    At most so many, and at most so many addresses are looked at.
    """
    files = (file for file in islice(_addresses(value, (), 0), addresses) if file.mime_type or not file.is_bare)
    return list({file.url: file for file in islice(files, most)}.values())


def _addresses(value: Any, at: tuple[str, ...], depth: int) -> Iterator[OutputFile]:
    """Every address in an output as if it were a file's."""
    if depth > DEEPEST:
        return
    if isinstance(value, str):
        if _is_address(value):
            yield OutputFile(value, "-".join(at), _type(value), is_bare=True)
    elif is_array(value):
        for number, part in enumerate(value, 1):
            yield from _addresses(part, (*at, str(number)), depth + 1)
    elif is_object(value):
        if isinstance(uri := value.get("uri"), str) and _is_address(uri):
            yield _described(uri, "-".join(at), value)
        else:
            for name, part in value.items():
                yield from _addresses(part, (*at, str(name)), depth + 1)


def _is_address(value: str) -> bool:
    return _ADDRESS.fullmatch(value) is not None and value.isprintable()


def _described(uri: str, place: str, node: dict[str, Any]) -> OutputFile:
    kind, size, name = (node.get(field) for field in ("content_type", "size", "filename"))
    return OutputFile(
        uri,
        place,
        kind if isinstance(kind, str) and is_media_type(kind) else _type(uri),
        size if type(size) is int and 0 <= size < 2**63 else None,
        name if isinstance(name, str) else "",
    )


def _type(url: str) -> str | None:
    return mimetypes.guess_type(path_of(url))[0]
