"""Calls for what an answer says beside the matter itself: they never keep it waiting, and never fail it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import anyio

from inferencesh_mcp.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

PATIENCE = 3.0  # seconds: the shortest hosts wait 50 to 60 s, and the matter itself may have taken most of that

logger = logging.getLogger(__name__)


async def optional_call(
    call: Awaitable[T], what: str, *, but: type[InferenceError] | tuple[type[InferenceError], ...] = ()
) -> T | None:
    """What a call comes to; None where it fails, except by `but`, or does not come in time. `what` is for the log."""
    with anyio.move_on_after(PATIENCE):
        try:
            return await call
        except InferenceError as exc:
            if isinstance(exc, but):
                raise
            logger.info("no %s: %s", what, exc.code)
            return None
    logger.info("no %s within %.1f s", what, PATIENCE)
    return None
