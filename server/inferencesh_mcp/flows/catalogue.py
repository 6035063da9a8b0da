"""Apps that were asked for lately, so that a run costs no look-up (one POST, one stream, one GET)."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferencesh_mcp.api import Api
    from inferencesh_mcp.api.models import App
    from inferencesh_mcp.api.refs import AppRef

FRESH = 300.0  # seconds: an app's new version is noticed after that, or at once when an input no longer fits
MOST = 256  # apps; a schema is a few tens of kB at the most


class Catalogue:
    """A bounded memory of apps. What one key may see is told to another only where the app is public (I-8)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._apps: OrderedDict[tuple[str, str], tuple[float, App]] = OrderedDict()

    async def app(self, api: Api, principal: str, ref: AppRef, *, fresh: bool = False) -> App:
        """Return the app `ref` names, from memory unless `fresh` is asked for."""
        named = str(replace(ref, function=""))
        for owner in ("", principal):
            known = self._apps.get((owner, named))
            if known and not fresh and self._clock() - known[0] < FRESH:
                return known[1]
        found = await api.app(ref)
        self._apps["" if found.visibility == "public" else principal, named] = (self._clock(), found)
        while len(self._apps) > MOST:
            self._apps.popitem(last=False)
        return found

    def name(self, principal: str, app_id: str) -> str:
        """What the app with this id is called, as far as that is remembered; else the id, as the API's lists tell it."""
        known = (app for (owner, _), (_, app) in self._apps.items() if owner in {"", principal})
        return next((app.ref for app in known if app.id == app_id), app_id)
