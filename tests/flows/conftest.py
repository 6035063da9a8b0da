"""A folder that may be read, one beside it that may not, and one to save in."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferencesh_mcp.flows.local_files import Folders


@pytest.fixture
def world(tmp_path: Path) -> Path:
    for name in ("allowed", "allowed-not", "allowed/below", "saving"):
        (tmp_path / name).mkdir()
    for name in (
        "allowed/a.txt",
        "allowed/below/b.txt",
        "allowed-not/private.txt",
        "allowed/.env",
        "allowed/server.pem",
    ):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def folders(world: Path) -> Folders:
    return Folders(allowed=(world / "allowed",), saving=world / "saving")
