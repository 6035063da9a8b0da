"""Measure everything, about fifteen minutes: prints a table, and writes the same to `figures.json`, from which the page's is made."""

from __future__ import annotations

import sys

import anyio

from tests.benchmarks import (
    chatting,
    compiling,
    counting,
    distance,
    enduring,
    holding,
    moving,
    running,
    serving,
    starting,
)
from tests.benchmarks.figures import LATEST, Figure, as_json, as_table


def main() -> int:
    figures = starting.figures() + compiling.figures() + anyio.run(_others)
    LATEST.write_text(as_json(figures), encoding="utf-8")
    print(as_table(figures))  # noqa: T201 - the report is the product
    return 0


async def _others() -> list[Figure]:
    return [
        *await running.figures(),
        *await distance.figures(),
        *await holding.figures(),
        *await moving.figures(),
        *await chatting.figures(),
        *await serving.figures(),
        *await counting.figures(),
        *await enduring.figures(),
    ]


if __name__ == "__main__":
    sys.exit(main())
