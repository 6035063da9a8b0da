"""Limits and list changes that replicas share through Redis.

Redis is optional at run time. While it is away, each replica applies its own limits, logs it once, and no call waits or
fails. Redis holds only hashes of callers and random names of places and agreements, all of which expire.

Changes of one caller's task or chat are not shared: the replica of each subscriber watches them upstream.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp.server.subscriptions import InMemorySubscriptionBus, PromptsListChanged, ResourcesListChanged, ToolsListChanged

from inferencesh_mcp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.subscriptions import ServerEvent
    from pydantic import SecretStr

REDIS_TIMEOUT = 0.5  # seconds: a run waits for the answer before it starts
RETRY_PAUSE = 5.0  # seconds without requests after Redis did not answer
LEASE_SECONDS = 60  # seconds until an unrenewed place is free again: a replica that dies returns none
RENEW_INTERVAL = 20.0  # seconds
CHANNEL = "inferencesh:changed"
CHANGES: dict[str, ServerEvent] = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
}

# Uses the clock of Redis, because those of replicas differ. Expired leases are not counted.
TAKE = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
# Also adds places that Redis lost in a restart.
RENEW = """
local now = tonumber(redis.call('TIME')[1])
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[place]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

# The first use returns 1.
USE = """
local uses = redis.call('INCR', KEYS[1])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return uses
"""

logger = logging.getLogger(__name__)


class RedisLimits:
    """One replica's connection to the other replicas."""

    def __init__(self, url: SecretStr) -> None:
        """Opens no connection until one is needed.

        Raises:
            SettingsError: the extra for Redis is not installed.
        """
        try:
            from redis import asyncio, exceptions
        except ImportError as exc:
            raise SettingsError(message="INFERENCE_REDIS_URL needs the extra: install inferencesh-mcp[redis].") from exc
        limits: dict[str, Any] = {
            "socket_timeout": REDIS_TIMEOUT,
            "socket_connect_timeout": REDIS_TIMEOUT,
            "timeout": REDIS_TIMEOUT,
        }
        pool = cast("Any", asyncio.BlockingConnectionPool).from_url(
            url.get_secret_value(), max_connections=16, retry=None, **limits
        )
        self._redis: Any = asyncio.Redis(connection_pool=pool)
        self._failures = (exceptions.RedisError, OSError, TimeoutError)
        self._name = secrets.token_hex(8)
        self._places: dict[str, set[str]] = {}
        self._returned: dict[str, set[str]] = {}
        self._changed: set[str] = set()
        self._pending = anyio.Event()
        self._retry_at = 0.0
        self.bus = SharedBus(self._share)

    async def take(self, principal: str, most: int) -> str | None:
        """Take one of a caller's places; None if all are taken. While Redis is away, places are free."""
        place = f"{self._name}:{secrets.token_hex(8)}"
        if await self._query(self._redis.eval, TAKE, 1, _key(principal), place, most, LEASE_SECONDS) == 0:
            return None
        self._places.setdefault(principal, set()).add(place)
        return place

    def give_back(self, principal: str, place: str) -> None:
        """Return a place. Redis is updated in the background."""
        _remove(self._places, principal, place)
        self._returned.setdefault(principal, set()).add(place)
        self._pending.set()

    async def use_once(self, name: str, seconds: float) -> bool:
        """Whether no replica has used this name within `seconds`. While Redis is away, each replica decides alone."""
        uses = await self._query(self._redis.eval, USE, 1, f"inferencesh:used:{name}", int(seconds))
        return uses in {None, 1}

    async def run(self) -> None:
        """Listen, send changes and renew places until cancelled."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen)
                group.start_soon(self._renew)
                await self._send_changes()
        finally:
            with anyio.move_on_after(REDIS_TIMEOUT, shield=True):
                await self._redis.aclose(close_connection_pool=True)

    def _share(self, event: ServerEvent) -> None:
        self._changed |= {name for name, known in CHANGES.items() if known == event}
        self._pending.set()

    async def _send_changes(self) -> None:
        while True:
            await self._pending.wait()
            self._pending = anyio.Event()
            returned, self._returned = self._returned, {}
            changed, self._changed = self._changed, set()
            for principal, places in returned.items():
                await self._query(self._redis.zrem, _key(principal), *places)
            for name in changed:
                message = json.dumps({"by": self._name, "changed": name})
                await self._query(self._redis.publish, CHANNEL, message)

    async def _renew(self) -> None:
        while True:
            await anyio.sleep(RENEW_INTERVAL)
            for principal, places in list(self._places.items()):
                leases = list(places)
                await self._query(self._redis.eval, RENEW, 1, _key(principal), LEASE_SECONDS, *leases)
                # A place that was returned meanwhile may have been renewed afterwards.
                if returned := set(leases) - self._places.get(principal, set()):
                    self._returned.setdefault(principal, set()).update(returned)
                    self._pending.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    while True:
                        if message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=None):
                            await self._receive(message["data"])
            except self._failures as exc:
                self._log_away(exc)
            await anyio.sleep(RETRY_PAUSE)

    async def _receive(self, data: bytes) -> None:
        try:
            message = json.loads(data)
            event = CHANGES[message["changed"]] if message["by"] != self._name else None
        except (ValueError, LookupError, TypeError):
            return  # of another version or program
        if event is not None:
            await self.bus.receive(event)

    async def _query(self, command: Callable[..., Any], *arguments: object) -> Any:
        """The result of a command; None if Redis does not answer, or did not a moment ago."""
        if time.monotonic() < self._retry_at:
            return None
        try:
            with anyio.fail_after(2 * REDIS_TIMEOUT):
                answer = await command(*arguments)
        except self._failures as exc:
            self._log_away(exc)
            return None
        if self._retry_at:
            self._retry_at = 0.0
            logger.warning("Redis is back: limits hold for all replicas together")
        return answer

    def _log_away(self, exc: BaseException) -> None:
        """Log it once, without the address, which may contain a password."""
        if not self._retry_at:
            logger.warning("Redis is away (%s): until it is back, limits hold for each replica", type(exc).__name__)
        self._retry_at = time.monotonic() + RETRY_PAUSE


class SharedBus(InMemorySubscriptionBus):
    """Delivers changes to subscribers here, and shares list changes with the other replicas."""

    def __init__(self, share: Callable[[ServerEvent], None]) -> None:
        super().__init__()
        self._share = share

    async def publish(self, event: ServerEvent) -> None:
        self._share(event)
        await super().publish(event)

    async def receive(self, event: ServerEvent) -> None:
        """Deliver a change from another replica."""
        await super().publish(event)


def _key(principal: str) -> str:
    return f"inferencesh:live:{principal}"


def _remove(places: dict[str, set[str]], principal: str, place: str) -> None:
    leases = places.get(principal, set())
    leases.discard(place)
    if not leases:
        places.pop(principal, None)
