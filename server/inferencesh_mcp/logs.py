"""Logging to stderr: one line per event, as text or JSON, without secrets (T-2)."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from inferencesh_mcp.redaction import Redactor, without_secrets

if TYPE_CHECKING:
    from typing import TextIO

    from inferencesh_mcp.settings import Settings

MAX_LINE_LENGTH = 4096  # characters of the message of one line
MAX_QUEUED_LINES = 2_000  # lines that wait for stderr to be read: 8 MB at most
RESERVED_FOR_WARNINGS = 500  # more lines for warnings and errors: they name the runs that go on
FLUSH_SECONDS = 1.0  # for the last lines at the end of the process, where nobody may read them
# At INFO these log whole URLs with their signatures.
NOISY_LOGGERS = ("httpx2", "httpcore2", "uvicorn.access", "asyncio")


def configure(settings: Settings, stream: TextIO | None) -> None:
    """Send all logging to `stream`. Call it once per process, before the server is built.

    `stream` is None if the host closed stderr.
    """
    handler = BackgroundHandler(stream) if stream else logging.NullHandler()
    redactor = Redactor(settings.credentials)
    handler.setFormatter(_Json(redactor) if settings.log_format == "json" else _Text(redactor))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


class BackgroundHandler(logging.Handler):
    """Writes lines in a thread of its own: a host that does not read stderr must not stop the server.

    While nobody reads, the newest lines are dropped and counted, those below WARNING first.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        # Not through the stream: its lock would be held by a thread that may be blocked forever.
        self._fd = stream.fileno()
        self._lines = queue.SimpleQueue[str | threading.Event]()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        room = MAX_QUEUED_LINES if record.levelno < logging.WARNING else MAX_QUEUED_LINES + RESERVED_FOR_WARNINGS
        if self._lines.qsize() >= room:
            self._dropped += 1
            return
        if self._dropped:
            self._lines.put(self.format(_dropped(self._dropped)))
            self._dropped = 0
        try:
            self._lines.put(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)

    def flush(self) -> None:
        """Wait until what was logged is written, but not long."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(FLUSH_SECONDS)

    def _write(self) -> None:
        while True:
            match self._lines.get():
                case str() as line:
                    with suppress(OSError):  # stderr is closed
                        _write_all(self._fd, f"{line}\n".encode(errors="replace"))
                case written:
                    written.set()


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


def _dropped(count: int) -> logging.LogRecord:
    message = "%d log lines were dropped, because nobody read stderr"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (count,), None)


class _Text(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(self._redactor.text(super().format(record)))[:MAX_LINE_LENGTH]


class _Json(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        clean = {name: without_secrets(self._redactor.text(text))[:MAX_LINE_LENGTH] for name, text in entry.items()}
        return json.dumps(clean, ensure_ascii=False)
