"""Apps that were read lately, in memory and on disk, so that a run needs no look-up and a start no network.

The cache is optional: whenever it cannot answer, the API is asked. What one key may see is shown to another key only if
the app is public (I-8, T-3).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from anyio import to_thread

from inferencesh_mcp.api.json import NotJson, is_object, parse
from inferencesh_mcp.api.models import App
from inferencesh_mcp.api.wire import parsed
from inferencesh_mcp.bounded import BoundedDict
from inferencesh_mcp.errors import Forbidden, KeyRefused, NotFound, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from inferencesh_mcp.api.client import Api
    from inferencesh_mcp.api.refs import AppRef

FRESH = 300.0  # seconds: a new version of an app is noticed after that, or at once if an input no longer fits
MAX_APPS = 256  # apps in memory
MAX_APP_BYTES = 256 * 1024  # bytes of one app as JSON: a schema has a few tens of kB; a larger app is read each time

DISK_FORMAT = "2"  # part of every file name, so that a later version does not read files of another format
MAX_DISK_FILE_BYTES = 4 * 1024 * 1024  # bytes of a file; a schema has a few tens of kB
MAX_DISK_FILES = 256  # files; the oldest are deleted

logger = logging.getLogger(__name__)


class AppCache:
    """The apps that callers read lately: public ones for all callers, others for each principal alone."""

    def __init__(self) -> None:
        self._apps: BoundedDict[tuple[str, str], tuple[float, App]] = BoundedDict(MAX_APPS)
        self._disk: AppDiskCache | None = None
        self._watched: frozenset[str] = frozenset()
        self._on_app: Callable[[AppRef, App], None] = lambda _ref, _app: None

    def watch(self, refs: Collection[AppRef], on_app: Callable[[AppRef, App], None], disk: AppDiskCache | None) -> None:
        """Call `on_app` whenever the API answers with one of these apps, for any caller, and write the app to `disk`."""
        self._watched, self._on_app, self._disk = frozenset(map(_versioned_name, refs)), on_app, disk

    async def app(self, api: Api, principal: str, ref: AppRef, *, fresh: bool = False) -> App:
        """Return the app that `ref` names; `fresh` reads it from the API in any case."""
        name = _versioned_name(ref)
        entry = self._entry(principal, name)
        if entry and not fresh and self.knows(principal, ref):
            return entry[1]
        try:
            app = await api.app(ref)
        except (NotFound, Forbidden, KeyRefused) as exc:
            await self._forget(principal, name, gone=isinstance(exc, NotFound))
            raise
        self._remember(principal, name, time.monotonic(), app)
        if name in self._watched:
            self._on_app(replace(ref, function=""), app)
            if self._disk:
                await to_thread.run_sync(self._disk.write, name, app)
        return app

    def knows(self, principal: str, ref: AppRef) -> bool:
        """Whether the app is in memory, and fresh enough for a run."""
        entry = self._entry(principal, _versioned_name(ref))
        return entry is not None and time.monotonic() - entry[0] < FRESH

    async def recall(self, principal: str, ref: AppRef) -> tuple[float, App] | None:
        """The age in seconds and the app as the API last returned it; None if the API would have to be asked."""
        name = _versioned_name(ref)
        entry = self._entry(principal, name)
        if entry:
            return time.monotonic() - entry[0], entry[1]
        stored = await to_thread.run_sync(self._disk.read, name) if self._disk else None
        if stored:
            self._remember(principal, name, time.monotonic() - stored[0], stored[1])
        return stored

    def name(self, principal: str, app_id: str) -> str:
        """The name of the app with this id if it is in memory, else the id, as the API's lists show it."""
        visible = (app for (owner, _), (_, app) in self._apps.items() if owner in {"", principal})
        return next((app.ref for app in visible if app.id == app_id), app_id)

    def forget_private(self, principal: str) -> None:
        """Drop what only this caller may see: the API no longer accepts their key."""
        for owner, name in [key for key in self._apps if key[0] == principal]:
            del self._apps[owner, name]

    async def _forget(self, principal: str, name: str, *, gone: bool) -> None:
        """Drop an app that this key may not read. If it is `gone`, others lose it too, and each of them asks again."""
        self._apps.pop((principal, name), None)
        if gone:
            self._apps.pop(("", name), None)
        if gone and self._disk and name in self._watched:
            await to_thread.run_sync(self._disk.forget, name)

    def _entry(self, principal: str, name: str) -> tuple[float, App] | None:
        return self._apps.get(("", name)) or self._apps.get((principal, name))

    def _remember(self, principal: str, name: str, read_at: float, app: App) -> None:
        for owner in ("", principal):  # an app that was public may be private by now
            self._apps.pop((owner, name), None)
        if len(app.model_dump_json()) > MAX_APP_BYTES:
            return
        self._apps["" if app.visibility == "public" else principal, name] = (read_at, app)


class AppDiskCache:
    """A folder of apps, as the API returned them to one key. Its methods block.

    A file is named by a hash of what it depends on: the API's address, the app with its version and, unless the app is
    public, the key. It holds the app as the API returned it, and nothing of the caller's (T-3).
    """

    def __init__(self, folder: Path, *, origin: str, key: str) -> None:
        self._folder = folder
        self._origin = origin
        self._owner = hashlib.sha256(key.encode()).hexdigest()

    def _path(self, name: str, *, public: bool) -> Path:
        key = "\n".join((DISK_FORMAT, self._origin, "" if public else self._owner, name))
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def read(self, name: str) -> tuple[float, App] | None:
        """The age in seconds and the app; None if it is not stored or cannot be read."""
        for public in (True, False):
            path = self._path(name, public=public)
            try:
                with path.open("rb") as file:
                    written, content = os.fstat(file.fileno()).st_mtime, file.read(MAX_DISK_FILE_BYTES + 1)
                document = parse(content)
                if is_object(document) and document.get("app_ref") == name and is_object(document.get("app")):
                    age = time.time() - written  # the only clock that processes share
                    return age if age >= 0 else float("inf"), parsed(App, document["app"])
            except (OSError, NotJson, UpstreamError) as exc:
                logger.debug("%s is not known from disk: %s", name, type(exc).__name__)
        return None

    def write(self, name: str, app: App) -> None:
        """Store an app. A folder that cannot be written is no error."""
        public = app.visibility == "public"
        content = json.dumps({"app_ref": name, "app": app.model_dump(mode="json")}).encode()
        if len(content) > MAX_DISK_FILE_BYTES:
            return
        new: Path | None = None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Readable by nobody else, and complete before it gets its name.
            with NamedTemporaryFile(dir=self._folder, suffix=".new", delete=False) as file:
                new = Path(file.name)
                file.write(content)
            new.replace(self._path(name, public=public))
            self._path(name, public=not public).unlink(missing_ok=True)
            self._delete_oldest()
        except OSError as exc:
            logger.info("%s is not stored on disk: %s", name, type(exc).__name__)
            if new:
                with suppress(OSError):
                    new.unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        for public in (True, False):
            with suppress(OSError):
                self._path(name, public=public).unlink(missing_ok=True)

    def _delete_oldest(self) -> None:
        """Keep the newest files only. Also deletes what a process left that ended while it wrote."""
        files: list[tuple[float, Path]] = []
        for path in self._folder.iterdir():
            if path.suffix in {".json", ".new"}:
                with suppress(OSError):  # another process deleted it
                    files.append((path.stat().st_mtime, path))
        for _, path in sorted(files, reverse=True)[MAX_DISK_FILES:]:
            path.unlink(missing_ok=True)


def _versioned_name(ref: AppRef) -> str:
    return str(replace(ref, function=""))
