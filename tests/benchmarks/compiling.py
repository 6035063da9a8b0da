"""What compiling the schemas of real apps takes, and what it saves every host on every request."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jsonschema

from inferencesh_mcp.schema.tool_schema import compiled_input, compiled_output
from tests.benchmarks.figures import Figure
from tests.schema.real import real_apps
from tests.schema.written import WRITTEN

ROUNDS = 5


def figures() -> list[Figure]:
    inputs = [app["input_schema"] for app in real_apps().values()] or list(WRITTEN.values())
    outputs = [app["output_schema"] for app in real_apps().values()] or list(WRITTEN.values())
    took, checked = [], []
    for _ in range(ROUNDS):
        took.append(_seconds(compiled_input, inputs) + _seconds(compiled_output, outputs))
        checked.append(_seconds(jsonschema.Draft202012Validator.check_schema, inputs + outputs))
    before = [_bytes(schema) for schema in inputs]
    after = [_bytes(compiled_input(schema)) for schema in inputs]
    sizes = [_bytes(compiled_output(schema)) for schema in outputs]
    spread = ", ".join(f"{share}% {sorted(after)[len(after) * share // 100]:,}" for share in (25, 50, 75, 90, 99))
    return [
        Figure(
            name=f"compile {len(inputs)} apps", value=statistics.median(took) * 1000, unit="ms",
            base=statistics.median(checked) * 1000, base_name="jsonschema's check of them", aim=1, by_ratio=True,
        ),
        Figure(
            name="compiled input schema", value=statistics.median(after), unit="B", base=statistics.median(before),
            base_name="the app's own", aim=1200, note=f"bytes of the compiled ones: {spread}",
        ),
        Figure(
            name="compiled output schema", value=statistics.median(sizes), unit="B",
            base=statistics.median([_bytes(schema) for schema in outputs]), base_name="the app's own", aim=400,
        ),
    ]  # fmt: skip


def _seconds(work: Callable[[Any], object], schemas: list[Any]) -> float:
    began = time.process_time()
    for schema in schemas:
        work(schema)
    return time.process_time() - began


def _bytes(schema: Any) -> int:
    return len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())
