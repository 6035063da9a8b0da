"""A figure, what it is held against, and the tables of them all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LATEST = Path(__file__).with_name("figures.json")
_HEAD = ("figure", "value", "base", "ratio", "aim", "verdict")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value. It is judged by its ratio to the base where `by_ratio` says so, else by itself."""

    name: str
    value: float
    unit: str
    base: float
    base_name: str
    aim: float | None
    """The largest value that is good enough; None where the figure is only told."""
    by_ratio: bool = False
    """Whether `aim` is the largest ratio, rather than the largest value."""
    exact: bool = False
    """Whether the value must be the aim, no more and no less."""
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.value / self.base

    @property
    def met(self) -> bool | None:
        if self.aim is None:
            return None
        judged = round(self.ratio, 2) if self.by_ratio else self.value  # as the table prints it
        return judged == self.aim if self.exact else judged <= self.aim


def as_table(figures: list[Figure]) -> str:
    """The figures as lines for people; the notes follow."""
    rows = [_HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"{figure.name}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], *([""] if notes else []), *notes])


def as_json(figures: list[Figure]) -> str:
    rows = [asdict(figure) | {"ratio": round(figure.ratio, 4), "met": figure.met} for figure in figures]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    taken = {"day": f"{datetime.now(UTC):%Y-%m-%d}", "cores": os.cpu_count(), "memory_gib": round(gib)}
    return json.dumps({**taken, "figures": rows}, indent=1, ensure_ascii=False) + "\n"


def as_markdown(table: dict[str, Any]) -> str:
    """The table of the page, of what `as_json` wrote."""
    known = {field.name for field in fields(Figure)}
    figures = [
        Figure(**{name: value for name, value in figure.items() if name in known}) for figure in table["figures"]
    ]
    rows = [f"| {' | '.join(_row(figure))} |" for figure in figures]
    when = f"On {table['day']}, with {table['cores']} cores and {table['memory_gib']} GiB:"
    head = f"| {' | '.join(_HEAD)} |"
    return "\n".join([when, "", head, "|---" * len(_HEAD) + "|", *rows])


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        figure.name,
        _counted(figure.value, figure.unit),
        f"{_counted(figure.base, figure.unit)} ({figure.base_name})",
        f"{figure.ratio:.2f}",
        _aim(figure),
        {True: "met", False: "missed", None: ""}[figure.met],
    )


def _aim(figure: Figure) -> str:
    if figure.aim is None:
        return ""
    sign = "=" if figure.exact else "≤"
    return f"ratio {sign} {figure.aim:g}" if figure.by_ratio else f"{sign} {_counted(figure.aim, figure.unit)}"


def _counted(value: float, unit: str) -> str:
    return f"{_shown(value)} {unit}".rstrip()


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
