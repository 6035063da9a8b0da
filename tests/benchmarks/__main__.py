"""Measure everything: `python -m tests.benchmarks [--json]`, about two minutes."""

from __future__ import annotations

import argparse
import sys

import anyio

from tests.benchmarks import chatting, compiling, counting, holding, moving, running, serving, starting
from tests.benchmarks.figures import Figure, as_json, as_table


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    given = arguments.parse_args()
    figures = starting.figures() + compiling.figures() + anyio.run(_others)
    print(as_json(figures) if given.json else as_table(figures))  # noqa: T201 - the report is the product
    return 0


async def _others() -> list[Figure]:
    return [
        *await running.figures(),
        *await holding.figures(),
        *await moving.figures(),
        *await chatting.figures(),
        *await serving.figures(),
        *await counting.figures(),
    ]


if __name__ == "__main__":
    sys.exit(main())
