"""Files: records with signed URLs, and the bytes, in memory or spooled to disk."""

from __future__ import annotations

import hashlib
import hmac
import mimetypes
import secrets
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from inferencesh_sandbox.ids import fresh_id
from inferencesh_sandbox.wire import Json, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.owners import Owner

IN_MEMORY = 64 * 1024 * 1024
"""A file beyond this is spooled to a temporary file."""
MAX_FILE_BYTES = 1024 * 1024 * 1024
PIECE = 256 * 1024
SIGNED_FOR = timedelta(minutes=15)
_ROOM = 4 * 1024 * 1024 * 1024
_RECORDS = 20_000
"""All files together; the oldest make room."""


def _new_spool() -> IO[bytes]:
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))


@dataclass(eq=False, kw_only=True)
class StoredFile:
    """One file: its record from the start, its bytes once they arrived."""

    id: str
    owner: Owner
    filename: str
    content_type: str
    created_at: datetime
    path: str = ""
    category: str = ""
    public: bool = False
    declared: int = 0
    """The size that the client declared. Shown until the bytes have arrived."""
    arrived: bool = False
    size: int = 0
    _spool: IO[bytes] = field(default_factory=_new_spool, repr=False)

    @property
    def path_of_bytes(self) -> str:
        """The path of the bytes. Anyone who knows it may read them, as on a CDN."""
        return f"/app/files/u/{self.owner.user_id}/{self.id}{PurePosixPath(self.filename).suffix.lower()}"

    def uri_at(self, base: str) -> str:
        return base + self.path_of_bytes

    def write(self, piece: bytes) -> None:
        self._spool.write(piece)
        self.size += len(piece)

    def finish(self) -> None:
        self.arrived = True

    def start_over(self) -> None:
        """Drop the bytes: a second upload replaces the first."""
        self._spool.close()
        self._spool = _new_spool()
        self.size, self.arrived = 0, False

    def pieces(self) -> Iterator[bytes]:
        """The bytes in pieces; each is sought by itself, since several may read at once."""
        start = 0
        while start < self.size:
            self._spool.seek(start)
            piece = self._spool.read(PIECE)
            start += len(piece)
            yield piece

    def close(self) -> None:
        self._spool.close()

    def dto(self, base: str, upload_url: str = "") -> Json:
        """The file, as a FileDTO."""
        return {
            **self.owner.record_fields(self.id, self.created_at, self.created_at),
            "visibility": "public" if self.public else "private",
            "path": self.path,
            "remote_path": self.path_of_bytes.removeprefix("/"),
            "upload_url": upload_url,
            "uri": self.uri_at(base),
            "content_type": self.content_type,
            "size": self.size if self.arrived else self.declared,
            "filename": self.filename,
            "category": self.category,
            "rating": "safe",
        }


class Store:
    """Every tenant's files, by id and by place, and the signatures that let bytes in."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._by_id: dict[str, StoredFile] = {}

    def make(self, owner: Owner, *, filename: str, content_type: str = "", **fields: Any) -> StoredFile:
        """Create a record. Its bytes come later."""
        now = self._clock.now()
        guessed = content_type or mimetypes.guess_type(filename)[0] or "application/octet-stream"
        stored = StoredFile(
            id=fresh_id(now), owner=owner, filename=filename, content_type=guessed, created_at=now, **fields
        )
        if len(self._by_id) >= _RECORDS:
            self.remove(next(iter(self._by_id.values())))
        self._by_id[stored.id] = stored
        return stored

    def of(self, owner: Owner) -> list[StoredFile]:
        return [stored for stored in self._by_id.values() if stored.owner is owner]

    def any(self, file_id: str) -> StoredFile | None:
        return self._by_id.get(file_id)

    def by_uri(self, uri: str) -> StoredFile | None:
        """Find a file of this sandbox by its URI. The host in the URI does not matter."""
        return self.at(urlsplit(uri).path)

    def at(self, path: str) -> StoredFile | None:
        stored = self._by_id.get(PurePosixPath(path).stem)
        return stored if stored and stored.path_of_bytes == path else None

    def remove(self, stored: StoredFile) -> None:
        self._by_id.pop(stored.id, None)
        stored.close()

    def close(self) -> None:
        for stored in list(self._by_id.values()):
            self.remove(stored)

    def make_room(self) -> None:
        """Delete the oldest files until the rest fits."""
        while sum(stored.size for stored in self._by_id.values()) > _ROOM:
            self.remove(next(iter(self._by_id.values())))

    def signed(self, stored: StoredFile, base: str) -> str:
        """Return a signed upload URL that expires."""
        expires = int((self._clock.now() + SIGNED_FOR).timestamp())
        return f"{base}/upload/{stored.id}?expires={expires}&signature={self._signature(stored.id, str(expires))}"

    def opened_by(self, file_id: str, expires: str, signature: str) -> StoredFile:
        """Find the file of a signed upload URL."""
        if not hmac.compare_digest(signature.encode(), self._signature(file_id, expires).encode()):
            raise Problem(403, "forbidden", "the upload URL's signature is wrong")
        if self._clock.now().timestamp() > int(expires):
            raise Problem(403, "forbidden", "the upload URL has expired; create the file again")
        stored = self.any(file_id)
        if stored is None:
            raise Problem(404, "not_found", f"file {file_id!r} is gone")
        return stored

    def _signature(self, file_id: str, expires: str) -> str:
        return hmac.new(self._secret, f"{file_id}\n{expires}".encode(), hashlib.sha256).hexdigest()
