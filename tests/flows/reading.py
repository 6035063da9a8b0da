"""Read a file as an upload does."""

from __future__ import annotations

import os

from inferencesh_mcp.flows.file_system import read_at
from inferencesh_mcp.flows.local_files import Folders


def content(folders: Folders, *paths: str) -> bytes:
    descriptor, _ = folders.open(*paths)
    try:
        return read_at(descriptor, 99, 0)
    finally:
        os.close(descriptor)
