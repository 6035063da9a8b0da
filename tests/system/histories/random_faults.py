"""The network on a bad day: of a hundred requests, and of a hundred connections, five meet one of X-1 to X-16."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import anyio

from tests.support.faults import (
    Delay,
    Drop,
    EndAtOnce,
    Fault,
    Faults,
    FinAfter,
    Garble,
    Gate,
    HideTasks,
    RstAfter,
    Stall,
    Status,
    Swallow,
    Twice,
)
from tests.system.faults.proxy import Act, Proxy, proxying

SHARE = 0.05
PAGE = Status(code=502, headers={"content-type": "text/html"}, body="<html><h1>502 Bad Gateway</h1>nginx</html>")
BUSY = Status(code=429, headers={"retry-after": "2"})

Kind = tuple[Fault, ...]
"""Faults that come together."""
ANY: list[Kind] = [
    (Drop(),), (PAGE,), (BUSY,), (Status(code=500),), (Status(code=503, headers={"retry-after": "1"}),),
    (Delay(seconds=3),), (Stall(),),
]  # fmt: skip
READING: list[Kind] = [(RstAfter(bytes=0),), (RstAfter(bytes=40),), (FinAfter(bytes=40, cut=True),)]
CHANGING: list[Kind] = [(Swallow(),), (Swallow(),)]
"""Of what changes something: it is done, and the reply is lost."""
STARTING: list[Kind] = [*CHANGING, (Swallow(), Twice()), (EndAtOnce(),)]
STREAMING: list[Kind] = [
    *((RstAfter(lines=lines),) for lines in (0, 1, 3)),
    *((FinAfter(lines=lines),) for lines in (0, 1, 3)),
    (Stall(lines=1),),
    *((Garble(form=form, at=1),) for form in ("bad", "truncated", "crlf", "bom", "blank", "duplicate", "stale")),
    (Garble(form="text", at=1, text='{"status": "levitating", "more": [1, 2]}'),),
    (Garble(form="giant", at=1, size=5 * 1024 * 1024),),
]
ACTS = [
    Act(request_bytes=0), Act(request_bytes=300), Act(response_bytes=0), Act(response_bytes=60), Act(response_bytes=700), Act(response_bytes=700, resets=False),
    Act(silent=True), Act(instead=b"HTTP/1.0 200 OK\r\n\r\n\0\xff"), Act(piece=64, every=0.05),
    Act(replaces=b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops"),
]  # fmt: skip


def kinds(method: str, path: str) -> list[Kind]:
    """What may happen to this request, beside the worst that may happen to any."""
    if path.endswith("/stream"):
        return STREAMING
    if path == "/tasks/list":
        return [(HideTasks(),)]
    if path in {"/apps/run", "/agents/run"}:
        return STARTING
    return READING if method == "GET" else CHANGING


@dataclass
class Weather(Faults):
    """The sandbox's faults, some of them drawn by chance."""

    chance: Random
    share: float = SHARE
    hangs: bool = True
    """For whoever turns the clock: some of it never ends, and two tasks of one request are of one moment."""
    met: list[str] = field(default_factory=list)
    """What was met so far, for the report of a history that failed."""

    def __post_init__(self) -> None:
        super().__init__()

    def taken_by(self, method: str, path: str, headers: Mapping[str, str]) -> list[Fault | Gate]:
        rules = super().taken_by(method, path, headers)
        if self.chance.random() >= self.share:
            return rules
        drawn = self.chance.choice(self.chance.choice([ANY, kinds(method, path)]))
        if not self.hangs and any(isinstance(item, Stall | Twice) for item in drawn):
            return rules
        self.met.append(f"{method} {path}: {', '.join(map(repr, drawn))}")
        if drawn == (BUSY,) and self.chance.random() < 0.5:  # and so it stays for a while
            self.add(BUSY, method=method, path=path, times=4)
        return [*rules, *drawn]


class Acts(deque[Act]):
    """What the proxy's connections are in for: one after another, without end."""

    def __init__(self, weather: Weather) -> None:
        super().__init__()
        self._weather = weather

    def __bool__(self) -> bool:
        return True

    def popleft(self) -> Act:
        if self._weather.chance.random() >= self._weather.share:
            return Act()
        act = self._weather.chance.choice(ACTS)
        if not self._weather.hangs and act.silent:
            return Act()
        self._weather.met.append(f"a connection: {act}")
        return act


@asynccontextmanager
async def blowing(weather: Weather, url: str) -> AsyncIterator[Proxy]:
    """This weather between a server and its sandbox; now and then nothing passes at all (X-1, X-2)."""
    async with proxying(url) as proxy, anyio.create_task_group() as group:
        proxy.script = Acts(weather)
        if weather.hangs:
            group.start_soon(_outages, weather, proxy)
        yield proxy
        group.cancel_scope.cancel()


async def _outages(weather: Weather, proxy: Proxy) -> None:
    while True:
        await anyio.sleep(weather.chance.uniform(1, 200))
        refuses = weather.chance.random() < 0.5
        proxy.shut() if refuses else proxy.fill()
        weather.met.append("connections are refused" if refuses else "connections hang")
        await anyio.sleep(weather.chance.choice([0.02, 1, 40]))
        await proxy.open()
