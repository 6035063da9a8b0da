"""The end of this server, announced once (reliability 4.4): waits end as if their time were over, nothing new is started."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from inferencesh_mcp.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator


class Stopping:
    """Whether this server is about to end, and the waits that its calls are in now."""

    def __init__(self) -> None:
        self.announced = False
        """Nobody is let in any more; whoever is in may still start what they came for."""
        self.begun = False
        self._waits: set[anyio.CancelScope] = set()

    def begin(self) -> None:
        """End every wait, now and from now on. Runs that were started go on; who waited is told their ids."""
        self.announced = self.begun = True
        for wait in self._waits:
            wait.cancel()

    @contextmanager
    def waiting(self, seconds: float) -> Generator[anyio.CancelScope]:
        """A block that is left after so many seconds, or once the server is about to end."""
        with anyio.move_on_after(seconds) as wait:
            if self.begun:
                wait.cancel()
            self._waits.add(wait)
            try:
                yield wait
            finally:
                self._waits.discard(wait)

    def check(self) -> None:
        """Refuse what would only now be started.

        Raises:
            Unavailable: the server is about to end.
        """
        if self.begun:
            raise Unavailable(
                message="This server is stopping, and starts nothing any more.",
                next_step="Call again in a moment: the next server takes it.",
                outcome="not_started",
                retry_safe=True,
                retry_after=1.0,
            )
