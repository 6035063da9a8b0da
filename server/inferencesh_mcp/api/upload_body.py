"""A file's bytes on their way out: as many as were announced, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_mcp.errors import FileRefused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable


class UploadBody:
    """A file's bytes, held to the size that was announced. FileRefused once they are more or fewer."""

    def __init__(self, content: AsyncIterable[bytes], size: int) -> None:
        self._content, self._left = content, size

    @property
    def is_complete(self) -> bool:
        """Whether every byte was taken."""
        return self._left == 0

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for chunk in self._content:
            if len(chunk) > self._left:
                raise _changed()
            yield chunk
            self._left -= len(chunk)
        if self._left:
            raise _changed()


def _changed() -> FileRefused:
    return FileRefused(message="the file changed while it was being sent", next_step="Call again when it is complete.")
