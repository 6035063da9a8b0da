"""The end of this server (reliability 4.4): waits end early and nothing new starts; runs that were started go on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator


class Drain:
    """Whether this server is ending, and the waits that its end cuts short."""

    def __init__(self) -> None:
        self.refuses_calls = False
        """Whether new calls are refused. Calls already accepted may still start runs until `start`."""
        self.started = False
        """Whether the server is ending: nothing is started any more, and no call waits."""
        self._waits: set[anyio.CancelScope] = set()

    def start(self) -> None:
        """End every wait, now and from now on. Runs that were started go on; their callers get the ids."""
        self.refuses_calls = self.started = True
        for wait in self._waits:
            wait.cancel()

    @contextmanager
    def deadline(self, seconds: float) -> Generator[anyio.CancelScope]:
        """Cancel the block after `seconds`, or as soon as the drain starts."""
        with anyio.move_on_after(seconds) as wait:
            if self.started:
                wait.cancel()
            self._waits.add(wait)
            try:
                yield wait
            finally:
                self._waits.discard(wait)

    def raise_if_started(self) -> None:
        """Refuse to start anything once the drain has started.

        Raises:
            Unavailable: the server is ending.
        """
        if self.started:
            raise Unavailable(
                message="This server is stopping and starts nothing more.",
                next_step="Call again in a moment: the next server takes it.",
                outcome="not_started",
                retry_safe=True,
                retry_after=1.0,
            )
