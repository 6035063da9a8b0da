"""The last resort of a process that is to end."""

from __future__ import annotations

import os
import threading


def exit_within(seconds: float) -> None:
    """End the process in time, whatever hangs (I-23): stdout may be blocked, the platform silent."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
