"""Read a file as an upload does."""

from __future__ import annotations

from inferencesh_mcp.flows.local_files import Folders


def content(folders: Folders, *paths: str) -> bytes:
    file = folders.open(*paths)
    try:
        return file.read(99, 0)
    finally:
        file.close()
