"""How the process ends: which signals end it, with which exit code, and within which time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from contextlib import suppress
from typing import NoReturn

import anyio

# What terminals, shells, supervisors and containers end a process with. Windows has SIGBREAK, and no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))

logger = logging.getLogger(__name__)


class Shutdown:
    """The end of the process: what began it, and how long it may take. Whatever begins it first counts, and later signals
    change nothing.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds` is the most that it may take."""
        self.exit_code = 0
        """128 plus the number of the signal that began it, as shells report it; 0 where none did."""
        self._seconds = seconds
        self._has_begun = False
        self._requested = anyio.Event()

    def watch_signals(self) -> None:
        """Handle the signals from now on, until the process is gone. Call it in the main thread, in the event loop.

        `loop.add_signal_handler` does not exist on Windows, and forgets its handlers when the loop closes.
        """
        loop = asyncio.get_running_loop()

        def handle(number: int, _: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: the shutdown is nearly over
                loop.call_soon_threadsafe(self._request, signal.Signals(number))

        for number in SIGNALS:
            if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, handle)

    async def requested(self) -> None:
        """Wait for a signal to begin it."""
        await self._requested.wait()

    def begin(self) -> None:
        """From now on the process ends in time, whatever hangs (I-23): stdout may be blocked, the platform silent."""
        if not self._has_begun:
            self._has_begun = True
            timer = threading.Timer(self._seconds, os._exit, (self.exit_code,))
            timer.daemon = True
            timer.start()

    def _request(self, number: signal.Signals) -> None:
        if self._has_begun:
            logger.info("%s ignored: the shutdown is under way", number.name)
            return
        logger.info("%s received, shutting down", number.name)
        self.exit_code = 128 + number
        self.begin()
        self._requested.set()


def exit_now(code: int) -> NoReturn:
    """End the process without waiting for its threads: one may be blocked forever, on stdin or stdout."""
    logging.shutdown()
    os._exit(code)
