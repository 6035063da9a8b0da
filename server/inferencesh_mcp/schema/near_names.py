"""The known name that a misspelt one was meant to be. Pure.

`difflib` compares each letter with each: what it is given here is few and short, so that a search takes 40 ms at the most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_NAMES = 200  # that one name is compared with: the first ones; real apps have fewer fields
LONGEST_NAME = 48  # characters: longer ones are seldom typed, and take the square of the time


def nearest_name(given: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The known name that is most like `given`; None when none is, or the name is too long to compare."""
    if len(given) > LONGEST_NAME:
        return None
    import difflib  # for whoever spelt something wrong: a start does not need it

    compared = [name for name in known if len(name) <= LONGEST_NAME][:MOST_NAMES]
    return next(iter(difflib.get_close_matches(given, compared, n=1, cutoff=likeness)), None)
