"""Find the known name that a misspelt one may mean. Pure.

`difflib` takes the square of the length, so names are few and short here: a search takes 40 ms at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_NAMES = 200  # compared with one name; real apps have fewer fields
LONGEST_NAME = 48  # characters; longer names are rarely typed


def nearest_name(given: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The known name most similar to `given`; None if none is similar, or `given` is too long."""
    if len(given) > LONGEST_NAME:
        return None
    import difflib  # only needed for a misspelt name: the server starts without it

    candidates = [name for name in known if len(name) <= LONGEST_NAME][:MOST_NAMES]
    return next(iter(difflib.get_close_matches(given, candidates, n=1, cutoff=likeness)), None)
