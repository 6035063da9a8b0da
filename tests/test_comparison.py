"""What the README says of the platform's own ways in."""

from __future__ import annotations

from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.finding("D8")
def test_the_comparison_names_the_official_bridge_and_what_the_endpoint_can_do() -> None:
    """By what the platform documents; a person who reads this will have both in front of them."""
    comparison = README.read_text(encoding="utf-8").partition("Compared with others\n")[2].partition("\n## ")[0]

    assert "inference-mcp-bridge" in comparison
    assert "OAuth" in comparison
    assert "MCP Apps" in comparison
    assert "up to 2025-11-25" not in comparison
