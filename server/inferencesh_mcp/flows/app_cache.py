"""Apps that were asked for lately, so that a run costs no look-up (one POST, one stream, one GET)."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import Forbidden, KeyRefused, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from inferencesh_mcp.api import Api
    from inferencesh_mcp.api.models import App
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.flows.disk_cache import AppDiskCache

FRESH = 300.0  # seconds: an app's new version is noticed after that, or at once when an input no longer fits
MOST = 256  # apps
LARGEST = 256 * 1024  # bytes of one as JSON: a schema is a few tens of kB, and a larger app is asked for each time


class AppCache:
    """A bounded memory of apps. What one key may see is told to another only where the app is public (I-8)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._apps: OrderedDict[tuple[str, str], tuple[float, App]] = OrderedDict()
        self._kept: AppDiskCache | None = None
        self._watched: frozenset[str] = frozenset()
        self._hear: Callable[[AppRef, App], None] = lambda _ref, _app: None

    def watch(self, refs: Collection[AppRef], hear: Callable[[AppRef, App], None], kept: AppDiskCache | None) -> None:
        """Say it whenever the API tells of one of these apps, whoever asked; and keep what it told, where there is a disk."""
        self._watched, self._hear, self._kept = frozenset(map(_named, refs)), hear, kept

    async def app(self, api: Api, principal: str, ref: AppRef, *, fresh: bool = False) -> App:
        """Return the app `ref` names, from memory unless `fresh` is asked for."""
        known = self._known(principal, _named(ref))
        if known and not fresh and self.knows(principal, ref):
            return known[1]
        try:
            found = await api.app(ref)
        except (NotFound, Forbidden, KeyRefused) as exc:
            await self._forget(principal, _named(ref), gone=isinstance(exc, NotFound))
            raise
        self._remember(principal, _named(ref), self._clock(), found)
        if _named(ref) in self._watched:
            self._hear(replace(ref, function=""), found)
            if self._kept:
                await self._kept.write(_named(ref), found)
        return found

    def knows(self, principal: str, ref: AppRef) -> bool:
        """Whether the app is remembered, and well enough for a run."""
        known = self._known(principal, _named(ref))
        return known is not None and self._clock() - known[0] < FRESH

    async def recall(self, principal: str, ref: AppRef) -> tuple[float, App] | None:
        """The app as it was told of last, and how many seconds ago; None where the API would have to be asked."""
        known = self._known(principal, _named(ref))
        if known:
            return self._clock() - known[0], known[1]
        found = await self._kept.read(_named(ref)) if self._kept else None
        if found:
            self._remember(principal, _named(ref), self._clock() - found[0], found[1])
        return found

    def name(self, principal: str, app_id: str) -> str:
        """What the app with this id is called, as far as that is remembered; else the id, as the API's lists tell it."""
        known = (app for (owner, _), (_, app) in self._apps.items() if owner in {"", principal})
        return next((app.ref for app in known if app.id == app_id), app_id)

    def forget_private(self, principal: str) -> None:
        """Forget what only this caller may see: the API knows their key no longer."""
        for owner, named in [known for known in self._apps if known[0] == principal]:
            del self._apps[owner, named]

    async def _forget(self, principal: str, named: str, *, gone: bool) -> None:
        """Forget an app that this key may not read, or no longer. What is `gone` may be so for everybody: each has to ask again."""
        self._apps.pop((principal, named), None)
        if gone:
            self._apps.pop(("", named), None)
        if gone and self._kept and named in self._watched:
            await self._kept.forget(named)

    def _known(self, principal: str, named: str) -> tuple[float, App] | None:
        return self._apps.get(("", named)) or self._apps.get((principal, named))

    def _remember(self, principal: str, named: str, when: float, app: App) -> None:
        for owner in ("", principal):  # what was public yesterday may be so no longer
            self._apps.pop((owner, named), None)
        if len(app.model_dump_json()) > LARGEST:
            return
        self._apps["" if app.visibility == "public" else principal, named] = (when, app)
        while len(self._apps) > MOST:
            self._apps.popitem(last=False)


def _named(ref: AppRef) -> str:
    return str(replace(ref, function=""))
