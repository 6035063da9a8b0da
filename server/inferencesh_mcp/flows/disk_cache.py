"""Apps on disk, so that a start needs no network. A help, never a condition: whatever is wrong with it, the API is asked.

A file is found by a hash of what it depends on: where the API is, the app and its version, and, unless the app is public,
the key that showed it (T-3). What it holds is what the API told of the app; no key, and nothing of the caller's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from anyio import to_thread

from inferencesh_mcp.api.json import NotJson, is_object, parse
from inferencesh_mcp.api.models import App, parsed
from inferencesh_mcp.errors import UpstreamError

FORMAT = "2"  # part of every name: a later version that keeps something else does not read these
LARGEST = 4 * 1024 * 1024  # bytes of a file; a schema is a few tens of kB
MOST = 256  # files; the oldest go

logger = logging.getLogger(__name__)


class AppDiskCache:
    """A folder of apps, as they were told to one key."""

    def __init__(self, folder: Path, *, origin: str, key: str) -> None:
        self._folder = folder
        self._origin = origin
        self._owner = hashlib.sha256(key.encode()).hexdigest()

    async def read(self, named: str) -> tuple[float, App] | None:
        """How many seconds ago the app was told of, and the app; None where that is not known, or cannot be read."""
        return await to_thread.run_sync(self._read, named)

    async def write(self, named: str, app: App) -> None:
        """Keep an app. Where nothing can be written, nothing is."""
        await to_thread.run_sync(self._write, named, app)

    async def forget(self, named: str) -> None:
        """Keep it no longer."""
        await to_thread.run_sync(self._forget, named)

    def _path(self, named: str, *, public: bool) -> Path:
        depends = "\n".join((FORMAT, self._origin, "" if public else self._owner, named))
        return self._folder / f"{hashlib.sha256(depends.encode()).hexdigest()}.json"

    def _read(self, named: str) -> tuple[float, App] | None:
        for public in (True, False):
            path = self._path(named, public=public)
            try:
                with path.open("rb") as file:
                    written, content = os.fstat(file.fileno()).st_mtime, file.read(LARGEST + 1)
                told = parse(content)
                if is_object(told) and told.get("app_ref") == named and is_object(told.get("app")):
                    age = time.time() - written  # across processes there is no other clock
                    return age if age >= 0 else float("inf"), parsed(App, told["app"])
            except (OSError, NotJson, UpstreamError) as exc:
                logger.debug("%s is not known from disk: %s", named, type(exc).__name__)
        return None

    def _write(self, named: str, app: App) -> None:
        public = app.visibility == "public"
        content = json.dumps({"app_ref": named, "app": app.model_dump(mode="json")}).encode()
        if len(content) > LARGEST:
            return
        new: Path | None = None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Readable by nobody else, and complete from the first moment that it has its name.
            with NamedTemporaryFile(dir=self._folder, suffix=".new", delete=False) as file:
                new = Path(file.name)
                file.write(content)
            new.replace(self._path(named, public=public))
            self._path(named, public=not public).unlink(missing_ok=True)
            self._tidy()
        except OSError as exc:
            logger.info("%s is not kept on disk: %s", named, type(exc).__name__)
            if new:
                with suppress(OSError):
                    new.unlink(missing_ok=True)

    def _forget(self, named: str) -> None:
        for public in (True, False):
            with suppress(OSError):
                self._path(named, public=public).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Let the oldest go, and what a process left that ended in the middle of writing."""
        ages: list[tuple[float, Path]] = []
        for path in self._folder.iterdir():
            if path.suffix in {".json", ".new"}:
                with suppress(OSError):  # another process was quicker
                    ages.append((path.stat().st_mtime, path))
        for _, path in sorted(ages, reverse=True)[MOST:]:
            path.unlink(missing_ok=True)
