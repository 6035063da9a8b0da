"""What a running app may use: its log, memory and files."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from inferencesh_sandbox.apps.types import AppFailed, Picked

if TYPE_CHECKING:
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.files import Store
    from inferencesh_sandbox.tasks import Task
    from inferencesh_sandbox.wire import Json

_READABLE = 64 * 1024 * 1024
"""An app reads a file whole, so only up to this size."""


@dataclass(frozen=True)
class AppRuntime:
    """The runtime of one task; it implements `Work`."""

    task: Task
    store: Store
    memory: dict[str, Any]

    @property
    def clock(self) -> Clock:
        return self.task.clock

    @property
    def setup(self) -> Json:
        return self.task.request.setup

    def log(self, text: str) -> None:
        self.task.log(text)

    def publish_partial(self, output: Json) -> None:
        self.task.output = output
        self.task.publish("output")

    def delta(self, **texts: str) -> None:
        self.task.grow(dict(texts))

    def used(self, kind: str, quantity: float, unit: str) -> None:
        self.task.used(kind, quantity, unit)

    def publish(self, body: bytes, filename: str, content_type: str) -> str:
        stored = self.store.make(self.task.owner, filename=filename, content_type=content_type, category="output")
        stored.write(body)
        stored.finish()
        self.task.output_file_ids.append(stored.id)
        return stored.uri_at(self.task.request.base)

    def pick(self, uri: str) -> Picked:
        if uri.startswith("data:"):
            try:
                content_type, body = decode_data_uri(uri)
            except ValueError as exc:
                raise AppFailed(f"the data URI cannot be read: {exc}") from exc
            return Picked(body, content_type)
        stored = self.store.by_uri(uri)
        if stored is None or not (stored.public or stored.owner is self.task.owner):
            raise AppFailed(f"cannot read {uri[:200]!r}: the sandbox has no network; upload the file and give its uri")
        if not stored.arrived or stored.size > _READABLE:
            reason = "is too large to be read here" if stored.arrived else "was never uploaded"
            raise AppFailed(f"the file {stored.filename!r} {reason}")
        return Picked(b"".join(stored.pieces()), stored.content_type)


def decode_data_uri(uri: str) -> tuple[str, bytes]:
    """Split a data URI into content type and bytes, or raise ValueError."""
    head, comma, payload = uri.removeprefix("data:").partition(",")
    if not comma:
        raise ValueError("it has no comma")
    content_type = head.split(";", 1)[0] or "text/plain"
    if not head.endswith(";base64"):
        return content_type, unquote_to_bytes(payload)
    padded = payload + "=" * (-len(payload) % 4)
    return content_type, base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
