"""Reads the headers of an answer. A header that cannot be parsed is ignored and never an error: the request may have taken
effect, and its id is in the body. Pure: no I/O.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DATE_LENGTH = 64
"""Characters of a date that are looked at: the longest form of RFC 9110 has 36."""
MAX_SKEW = timedelta(days=1)
"""A server clock that is further off is ignored."""
MAX_WAIT_SECONDS = 86_400.0
"""Seconds. A longer wait is shortened to a day: no caller plans for more."""
MAX_NUMBER_LENGTH = 15
"""Digits that are looked at: more than any size or time has."""


def clock_skew(date: str, now: datetime) -> timedelta | None:
    """How far the clock of whoever sent this `Date` is ahead of `now`; None if that is not known."""
    moment = _date(date)
    if moment is None or abs(moment - now) > MAX_SKEW:
        return None
    return moment - now


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait, from 0 to a day; None if it does not ask.

    A date is compared with the `Date` of the same answer: both are by one clock, which may be wrong.
    """
    text = headers.get("retry-after", "").strip()
    if _is_number(text):
        return min(float(text[: MAX_NUMBER_LENGTH + 1]), MAX_WAIT_SECONDS)
    moment = _date(text)
    return None if moment is None else _seconds_until(moment, headers)


def rate_limit_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until the rate limit resets, if no request is left (`X-RateLimit-*`, in Unix seconds)."""
    remaining, reset = (headers.get(f"x-ratelimit-{name}", "").strip() for name in ("remaining", "reset"))
    if not (_is_number(reset) and len(reset) <= MAX_NUMBER_LENGTH) or (
        _is_number(remaining) and int(remaining[:9]) > 0
    ):
        return None
    try:
        moment = datetime.fromtimestamp(int(reset), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    # A past time is no hint; a number of seconds would be a time of 1970.
    return _seconds_until(moment, headers) or None


def content_length(headers: Mapping[str, str]) -> int | None:
    """Bytes of the body, if the answer says so."""
    text = headers.get("content-length", "").strip()
    return int(text) if _is_number(text) and len(text) <= MAX_NUMBER_LENGTH else None


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the body is compressed, or encoded in another way."""
    codings = {coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")}
    return bool(codings - {"", "identity"})


def _seconds_until(moment: datetime, headers: Mapping[str, str]) -> float:
    server_time = _date(headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (moment - server_time).total_seconds()), MAX_WAIT_SECONDS)


def _date(text: str) -> datetime | None:
    """An HTTP date, in UTC even if it names no zone."""
    try:
        moment = parsedate_to_datetime(text[:MAX_DATE_LENGTH])
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
