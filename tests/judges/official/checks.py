"""Named checks: each runs once, is printed as it ends, and counts."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LIMIT = 20.0
"""Seconds that one check may take where it names no other: a flow that hangs is a flow that fails."""


class Checks:
    """How the checks of this run went."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    async def check(self, name: str, flow: Callable[[], Awaitable[None]], limit: float = LIMIT) -> None:
        try:
            with anyio.fail_after(limit):
                await flow()
        except Exception as exc:  # noqa: BLE001 - whatever a flow raises is its result
            self.failure(name, "".join(traceback.format_exception(exc, limit=-3)))
        else:
            self.success(name)

    def success(self, name: str) -> None:
        self.passed += 1
        print(f"ok - {name}", flush=True)  # noqa: T201 - the report is the product

    def failure(self, name: str, why: str) -> None:
        self.failed += 1
        text = "\n".join(f"  # {line}" for line in why.strip().splitlines())
        print(f"not ok - {name}\n{text}", flush=True)  # noqa: T201

    def count(self, of: str, printed: str) -> None:
        """Count the checks that a program printed, which says so when it ran to its end."""
        lines = printed.splitlines()
        for line in lines:
            if line.startswith("ok - "):
                self.success(line.removeprefix("ok - "))
            elif line.startswith("not ok - "):
                name, _, why = line.removeprefix("not ok - ").partition(" # ")
                self.failure(name, why)
        if not lines or lines[-1] != "# all flows ran":
            self.failure(f"{of}: ran to its end", printed[-2000:])

    def close(self) -> int:
        """Print the closing line and return the exit code."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)  # noqa: T201
        return 1 if self.failed or not self.passed else 0
