"""Concurrent calls, and calls whose result an answer can do without."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import anyio

from inferencesh_mcp.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

T = TypeVar("T")
U = TypeVar("U")

PATIENCE = 3.0  # seconds: the most impatient hosts wait 50 to 60 s, and the main call may have taken most of that
CONCURRENT_READS = 8

logger = logging.getLogger(__name__)


@contextmanager
def unwrap_exception_group() -> Generator[None]:
    """Around a task group: raise the error that ended it, as if there were no group.

    For a group that only helps one piece of work along: its callers expect the errors of that work.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first_error(group) from None


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of any depth. The others are cancellations that it caused."""
    error = group.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        # `isinstance` forgets the type of its errors.
        return _first_error(cast("BaseExceptionGroup[BaseException]", error))
    return error


async def both(first: Callable[[], Awaitable[T]], second: Callable[[], Awaitable[U]]) -> tuple[T, U]:
    """The results of two calls that are made at the same time."""
    first_results: list[T] = []
    second_results: list[U] = []

    async def call_second() -> None:
        second_results.append(await second())

    with unwrap_exception_group():
        async with anyio.create_task_group() as group:
            group.start_soon(call_second)
            first_results.append(await first())
    return first_results[0], second_results[0]


async def for_each(items: Iterable[T], call: Callable[[T], Awaitable[None]], most: int = CONCURRENT_READS) -> None:
    """Make a call for each item, at most so many at the same time."""
    limit = anyio.CapacityLimiter(most)

    async def limited(item: T) -> None:
        async with limit:
            await call(item)

    with unwrap_exception_group():
        async with anyio.create_task_group() as group:
            for item in items:
                group.start_soon(limited, item)


async def optional_call(
    call: Awaitable[T], purpose: str, *, reraise: type[InferenceError] | tuple[type[InferenceError], ...] = ()
) -> T | None:
    """Return a call's result, or None if it fails or takes longer than `PATIENCE`. Errors in `reraise` are raised.

    For what an answer only adds, such as a price: it must neither delay nor fail the answer. `purpose` is for the log.
    """
    with anyio.move_on_after(PATIENCE):
        try:
            return await call
        except InferenceError as exc:
            if isinstance(exc, reraise):
                raise
            logger.info("no %s: %s", purpose, exc.code)
            return None
    logger.info("no %s within %.1f s", purpose, PATIENCE)
    return None
