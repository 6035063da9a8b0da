"""A file's bytes on their way out: as many as were announced, and none of them waited for too long."""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from inferencesh_mcp.errors import FileRefused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

STALL_SECONDS = 30.0
"""Until the other side takes the next piece of a file."""


class Counted:
    """A file's bytes on their way out, held to the size that was announced.

    The library asks for them in a task of its own and shows its own error for ours: so what failed is kept here.
    """

    def __init__(self, content: AsyncIterable[bytes], size: int) -> None:
        self._content, self._left = content, size
        self._sending: AsyncGenerator[bytes] | None = None
        self.failed: Exception | None = None
        self.taking = anyio.CancelScope()
        """Its deadline moves on with every piece that is taken."""

    @property
    def is_complete(self) -> bool:
        return self._left == 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._sending = self._taken()
        return self._sending

    async def aclose(self) -> None:
        """Close what was being read: the library cancels whom it let read it, and does not wait."""
        await anyio.lowlevel.cancel_shielded_checkpoint()
        if self._sending:
            await self._sending.aclose()

    async def _taken(self) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    self.taking.deadline = anyio.current_time() + STALL_SECONDS
                    yield piece
        except Exception as exc:
            self.failed = exc
            raise
        self.taking.deadline = math.inf  # from here on the answer is waited for

    async def _pieces(self) -> AsyncGenerator[bytes]:
        async for chunk in self._content:
            if len(chunk) > self._left:
                raise _changed()
            yield chunk
            self._left -= len(chunk)
        if not self.is_complete:
            raise _changed()


def _changed() -> FileRefused:
    return FileRefused(message="the file changed while it was being sent", next_step="Call again when it is complete.")
