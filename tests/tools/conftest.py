"""What the operator is told."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Any:
    """What the operator was told of, at the level that is shown unless another is asked for."""
    caplog.set_level("WARNING", "inferencesh_mcp")
    return lambda: [
        record.getMessage() for record in caplog.records if record.name == "inferencesh_mcp.tools.pinned_registry"
    ]
