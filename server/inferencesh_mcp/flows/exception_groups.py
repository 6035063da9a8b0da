"""Task groups whose errors come out as they went in."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def unwrap_exception_group() -> Generator[None]:
    """Around a task group: raise the one error that ended it by itself, as if there were no group.

    For a group that only helps one piece of work along: whoever calls that work expects its own errors.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        raise first(group) from None


def first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of any depth: the others are what it ended."""
    error = group.exceptions[0]
    return first(cast("BaseExceptionGroup[BaseException]", error)) if isinstance(error, BaseExceptionGroup) else error
