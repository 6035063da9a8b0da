"""What replicas tell each other, through Redis: how many runs each caller has live, and that a list has changed.

It is a help and never a condition. While Redis is away, every replica goes by what it knows itself, says so once, and no
call waits, fails or is lost for it. What is in Redis are hashes of callers and random names of places; each expires.

A change of one caller's task or chat is not told: whoever listens for it has their replica watch it upstream already.
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

PATIENCE = 0.5  # seconds for an answer: a run waits for one before it starts
PAUSE = 5.0  # seconds in which Redis is not asked again once it did not answer
LEASE = 60  # seconds that a place is held for without its replica saying so again: one that dies gives back no place
RENEWED = 20.0  # seconds
CHANNEL = "inferencesh:changed"
CHANGES: dict[str, ServerEvent] = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
}

# By the clock of Redis: those of replicas differ. Those whose lease is over are counted no more.
TAKE = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
# Also those that Redis has forgotten, as it does when it is started anew.
RENEW = """
local now = tonumber(redis.call('TIME')[1])
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[place]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

logger = logging.getLogger(__name__)


class Replicas:
    """What one replica has to do with the others."""

    def __init__(self, url: SecretStr) -> None:
        """Nothing is opened before it is needed.

        Raises:
            SettingsError: the extra that speaks with Redis is not installed.
        """
        try:
            from redis import asyncio, exceptions
        except ImportError as exc:
            raise SettingsError(message="INFERENCE_REDIS_URL needs the extra: install inferencesh-mcp[redis].") from exc
        limits: dict[str, Any] = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "timeout": PATIENCE}
        pool = cast("Any", asyncio.BlockingConnectionPool).from_url(
            url.get_secret_value(), max_connections=16, retry=None, **limits
        )
        self._redis: Any = asyncio.Redis(connection_pool=pool)
        self._failures = (exceptions.RedisError, OSError, TimeoutError)
        self._name = secrets.token_hex(8)
        self._held: dict[str, set[str]] = {}
        self._over: dict[str, set[str]] = {}
        self._changed: set[str] = set()
        self._news = anyio.Event()
        self._asked_again_at = 0.0
        self.bus = Bus(self._tell)

    async def take(self, principal: str, most: int) -> str | None:
        """The name of a place among all that a caller may have; None where all are taken. Unknown counts as free."""
        place = f"{self._name}:{secrets.token_hex(8)}"
        if await self._ask(lambda: self._redis.eval(TAKE, 1, _key(principal), place, most, LEASE)) == 0:
            return None
        self._held.setdefault(principal, set()).add(place)
        return place

    def give_back(self, principal: str, place: str) -> None:
        """Redis is told in the background: nobody waits for it."""
        _take_out(self._held, principal, place)
        self._over.setdefault(principal, set()).add(place)
        self._news.set()

    async def run(self) -> None:
        """Hear the others, tell them, and hold what is held; until it is cancelled."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._hear)
                group.start_soon(self._renew)
                await self._say()
        finally:
            with anyio.move_on_after(PATIENCE, shield=True):
                await self._redis.aclose(close_connection_pool=True)

    def _tell(self, event: ServerEvent) -> None:
        self._changed |= {name for name, known in CHANGES.items() if known == event}
        self._news.set()

    async def _say(self) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            over, self._over = self._over, {}
            changed, self._changed = self._changed, set()
            for principal, places in over.items():
                await self._ask(lambda: self._redis.zrem(_key(principal), *places))  # noqa: B023 - awaited in its turn
            for name in changed:
                told = json.dumps({"by": self._name, "changed": name})
                await self._ask(lambda: self._redis.publish(CHANNEL, told))  # noqa: B023 - the same

    async def _renew(self) -> None:
        while True:
            await anyio.sleep(RENEWED)
            for principal, places in list(self._held.items()):
                held = list(places)
                await self._ask(lambda: self._redis.eval(RENEW, 1, _key(principal), LEASE, *held))  # noqa: B023 - the same
                # What was given back meanwhile may have been renewed after it was taken out.
                if over := set(held) - self._held.get(principal, set()):
                    self._over.setdefault(principal, set()).update(over)
                    self._news.set()

    async def _hear(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as others:
                    await others.subscribe(CHANNEL)
                    while True:
                        if message := await others.get_message(ignore_subscribe_messages=True, timeout=None):
                            await self._heard(message["data"])
            except self._failures as exc:
                self._away(exc)
            await anyio.sleep(PAUSE)

    async def _heard(self, data: bytes) -> None:
        try:
            told = json.loads(data)
            event = CHANGES[told["changed"]] if told["by"] != self._name else None
        except (ValueError, LookupError, TypeError):
            return  # of another version, or of somebody else
        if event is not None:
            await self.bus.hear(event)

    async def _ask(self, question: Callable[[], Any]) -> Any:
        """Its answer; None where there is none, or where there was none a moment ago."""
        if time.monotonic() < self._asked_again_at:
            return None
        try:
            with anyio.fail_after(2 * PATIENCE):
                answer = await question()
        except self._failures as exc:
            self._away(exc)
            return None
        if self._asked_again_at:
            self._asked_again_at = 0.0
            logger.warning("Redis is back: limits hold for all replicas together")
        return answer

    def _away(self, exc: BaseException) -> None:
        """Say it once; the address, which may have a password in it, is not said."""
        if not self._asked_again_at:
            logger.warning("Redis is away (%s): until it is back, limits hold for each replica", type(exc).__name__)
        self._asked_again_at = time.monotonic() + PAUSE


class Bus(InMemorySubscriptionBus):
    """What changed, for whoever listens here; what concerns everybody is told to the other replicas too."""

    def __init__(self, tell: Callable[[ServerEvent], None]) -> None:
        super().__init__()
        self._tell = tell

    async def publish(self, event: ServerEvent) -> None:
        self._tell(event)
        await super().publish(event)

    async def hear(self, event: ServerEvent) -> None:
        """Pass on what another replica told."""
        await super().publish(event)


def _key(principal: str) -> str:
    return f"inferencesh:live:{principal}"


def _take_out(places: dict[str, set[str]], principal: str, place: str) -> None:
    held = places.get(principal, set())
    held.discard(place)
    if not held:
        places.pop(principal, None)
