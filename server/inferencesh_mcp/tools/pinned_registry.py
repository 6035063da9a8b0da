"""The tools of the pinned apps: read from the API or the disk, and refreshed.

On stdio the apps are read with the person's key, in the background, from the first message on. Over HTTP they are read
with the caller's key, within the request that lists the tools. Only public apps become tools there, so that the list
is the same for every caller (T-3).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
from mcp.server.subscriptions import ToolsListChanged

from inferencesh_mcp.errors import InferenceError, KeyMissing, KeyRefused, NotFound, Unavailable
from inferencesh_mcp.flows.app_cache import AppDiskCache
from inferencesh_mcp.flows.concurrency import unwrap_exception_group
from inferencesh_mcp.sanitize import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anyio.abc import TaskGroup
    from mcp.server.subscriptions import SubscriptionBus

    from inferencesh_mcp.api.models import App
    from inferencesh_mcp.api.refs import AppRef
    from inferencesh_mcp.context import Shared
    from inferencesh_mcp.flows import Caller
    from inferencesh_mcp.pins import Pin
    from inferencesh_mcp.tools.pinned import PinnedTool

PATIENCE = 3.0  # seconds that tools/list waits for apps; hosts allow 30 s for the whole start
AT_ONCE = 8  # apps that are read at the same time
REFRESH = 3600.0  # seconds after which a known app is read again
RETRY = 60.0  # seconds until a failed read is repeated; in the background the pause doubles each time

logger = logging.getLogger(__name__)


class PinnedRegistry:
    """Reads the pinned apps and holds their tools."""

    def __init__(self, pins: Sequence[Pin]) -> None:
        self.names = frozenset(pin.name for pin in pins)
        self._pins = pins
        self._apps = list(dict.fromkeys(replace(pin.app, function="") for pin in pins))
        self._tools: dict[str, PinnedTool] = {}
        self._without_tool: set[str] = set()
        self._next_try: dict[AppRef, float] = {}
        """For apps that could not be read: the earliest time at which a request reads them again."""
        self._remote = self._reading_started = self._listed = False
        self._tools_changed, self._first_read = anyio.Event(), anyio.Event()
        self._reading = anyio.Lock()
        self._shared: Shared | None = None

    @property
    def tools(self) -> list[PinnedTool]:
        """The tools that were read, in the order of the pins."""
        return [self._tools[pin.name] for pin in self._pins if pin.name in self._tools]

    def tool(self, name: str) -> PinnedTool | None:
        return self._tools.get(name)

    def unavailable(self, name: str) -> InferenceError:
        """The error for a call of a tool whose app was not read."""
        app = next(pin.app for pin in self._pins if pin.name == name)
        return Unavailable(
            message=f"{app}, the app behind {name}, could not be read.",
            next_step=f'Read it with app_get and run it with app_run(app="{app}").',
            outcome="not_started",
            retry_safe=True,
        )

    def start(self, shared: Shared) -> None:
        """Update the tools from now on whenever an app changes, and notify the hosts."""
        if self._pins:
            self._shared, self._reading_started = shared, False
            shared.app_cache.watch(self._apps, self._app_read, None)
            shared.group.start_soon(self._publish_changes, shared.bus)

    def start_reading(self, caller: Caller) -> None:
        """On stdio, at the first message: start to read the apps in the background, cached ones from the disk."""
        if self._reading_started or self._shared is None:
            return
        self._reading_started = True
        caller.app_cache.watch(self._apps, self._app_read, _disk(self._shared))
        self._shared.group.start_soon(self._keep_reading, caller)

    async def wait(self) -> None:
        """On stdio, before tools/list: wait a moment for the apps. A later one is announced when it was read."""
        with anyio.move_on_after(PATIENCE):
            await self._first_read.wait()
        self._listed = True

    async def read_for(self, caller: Caller) -> None:
        """Over HTTP, before tools/list: read unknown and stale apps with this caller's key."""
        self._remote = True
        with anyio.move_on_after(PATIENCE):
            if self._due(caller):
                async with self._reading:
                    await self._read(caller, self._due(caller), fresh=False)
        self._listed = True

    def _due(self, caller: Caller) -> list[AppRef]:
        now = time.monotonic()
        known = caller.app_cache.knows
        return [app for app in self._apps if not known(caller.principal, app) and self._next_try.get(app, now) <= now]

    async def _keep_reading(self, caller: Caller) -> None:
        due = [app for app in self._apps if not await self._is_fresh(caller, app)]
        if len(self._tools) == len(self._pins):
            self._first_read.set()
        pause = RETRY
        while True:
            await self._read(caller, due, fresh=True)
            self._first_read.set()
            wait, pause = (pause, min(2 * pause, REFRESH)) if self._without_tool else (REFRESH, RETRY)
            await caller.api.sleep(wait)
            due = self._apps if wait == REFRESH else list(self._next_try)

    async def _is_fresh(self, caller: Caller, app: AppRef) -> bool:
        """Whether the app is in the cache, and fresh."""
        cached = await caller.app_cache.recall(caller.principal, app)
        if cached is None:
            return False
        self._app_read(app, cached[1])
        return cached[0] < REFRESH

    async def _read(self, caller: Caller, apps: Iterable[AppRef], *, fresh: bool) -> None:
        limit = anyio.CapacityLimiter(AT_ONCE)
        with unwrap_exception_group():
            async with anyio.create_task_group() as group:
                for app in apps:
                    group.start_soon(self._read_one, caller, app, fresh, limit, group)

    async def _read_one(
        self, caller: Caller, app: AppRef, fresh: bool, limit: anyio.CapacityLimiter, group: TaskGroup
    ) -> None:
        try:
            async with limit:
                await caller.app_cache.app(caller.api, caller.principal, app, fresh=fresh)
        except (KeyMissing, KeyRefused) as exc:
            if self._remote:  # the caller's key is wrong, which says nothing about the app
                group.cancel_scope.cancel()
            else:
                self._app_not_read(app, exc)
        except InferenceError as exc:
            self._app_not_read(app, exc)

    def _app_read(self, app: AppRef, record: App) -> None:
        """Make the tools of an app that was read from the API or the disk."""
        from inferencesh_mcp.tools.pinned import PinnedTool

        self._next_try.pop(app, None)
        for pin in self._pins_of(app):
            if self._remote and record.visibility != "public":
                self._remove_tool(pin, "it is not public")
                continue
            try:
                self._set_tool(pin, PinnedTool.of(pin, record))
            except InferenceError as exc:  # no such function, or one that no tool can run
                self._remove_tool(pin, str(exc))

    def _app_not_read(self, app: AppRef, exc: InferenceError) -> None:
        """Keep the tool of an app that could not be read, unless the app is gone."""
        logger.info("%s could not be read: %s", app, exc.code)
        for pin in self._pins_of(app):
            if pin.name not in self._tools or isinstance(exc, NotFound):
                self._remove_tool(pin, str(exc))

    def _set_tool(self, pin: Pin, tool: PinnedTool) -> None:
        previous = self._tools.get(pin.name)
        self._tools[pin.name] = tool
        self._without_tool.discard(pin.name)
        if previous is None:
            self._changed()
        elif previous.digest != tool.digest:
            logger.warning(
                "The tool %s changed with %s: %s became %s.", pin.name, pin.app, previous.digest, tool.digest
            )
            self._changed()

    def _remove_tool(self, pin: Pin, why: str) -> None:
        self._next_try[replace(pin.app, function="")] = time.monotonic() + RETRY
        if pin.name not in self._without_tool:
            self._without_tool.add(pin.name)
            logger.warning(
                "No tool %s: %s cannot be read (%s). app_run reaches it.", pin.name, pin.app, clean(why, 200)
            )
        if self._tools.pop(pin.name, None):
            self._changed()

    def _pins_of(self, app: AppRef) -> list[Pin]:
        return [pin for pin in self._pins if replace(pin.app, function="") == app]

    def _changed(self) -> None:
        if self._listed:
            self._tools_changed.set()

    async def _publish_changes(self, bus: SubscriptionBus) -> None:
        """Publish that the list of tools has changed, for hosts of both protocol versions."""
        while True:
            await self._tools_changed.wait()
            self._tools_changed = anyio.Event()
            await bus.publish(ToolsListChanged())


def _disk(shared: Shared) -> AppDiskCache | None:
    """The disk cache of apps. The sandbox has none, because its address changes at every start."""
    settings = shared.settings
    if settings.sandbox:
        return None
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    return AppDiskCache(settings.caching_in, origin=settings.proxy_url or settings.base_url, key=key)
