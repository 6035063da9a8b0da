"""The cards of real apps, where they lie beside the checkout: they are not part of the project."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

CATALOGUE = Path(__file__).parents[3] / "shared" / "catalogue"


@cache
def real_apps() -> dict[str, dict[str, Any]]:
    """By the names of their files: `ref`, `input_schema`, `output_schema`, `functions` and more."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted(CATALOGUE.glob("*.json"))}
