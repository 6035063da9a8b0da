"""Logging: to stderr, a line an event, as text or JSON, and never a secret (threat T-2)."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from inferencesh_mcp.redaction import Redactor, without_secrets

if TYPE_CHECKING:
    from typing import TextIO

    from inferencesh_mcp.settings import Settings

LONGEST = 4096  # characters of one line
# They write whole URLs at INFO, signatures included.
TALKATIVE = ("httpx2", "httpcore2", "uvicorn.access", "asyncio")


def configure(settings: Settings, stream: TextIO) -> None:
    """Send everything that is logged to `stream`. Once a process, before the server is built."""
    handler = logging.StreamHandler(stream)
    redactor = Redactor(settings.credentials)
    handler.setFormatter(_Json(redactor) if settings.log_format == "json" else _Text(redactor))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Text(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(self._redactor.text(super().format(record)))[:LONGEST]


class _Json(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        clean = {name: without_secrets(self._redactor.text(text))[:LONGEST] for name, text in told.items()}
        return json.dumps(clean, ensure_ascii=False)
