"""Times, sizes and amounts of money in words. Whoever reads them has no clock: how long from now, and when. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from inferencesh_mcp.errors import InvalidInput
from inferencesh_mcp.sanitize import clean, label, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferencesh_mcp.api.models import Estimate

MICROCENTS = 100_000_000  # in one US dollar
MAX_FIELDS = 10  # that a price is said to depend on
_SPAN = re.compile(r"(\d{1,6}) ?(s|min|m|h|d)")
_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400}


def span(seconds: float) -> str:
    """A duration in words: `1.2 s`, `75 s`, `3 min 5 s`, `2 h 5 min`, `3 days`."""
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7_200:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if whole < 172_800:
        hours, minutes = divmod(whole // 60, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{whole // 86_400} days"


def moment(when: datetime, now: datetime) -> str:
    """A time from now and by the clock: `in 60 s (13:38:21 UTC)`, `5 min ago (13:32:21 UTC)`."""
    when, now = when.astimezone(UTC), now.astimezone(UTC)
    seconds = (when - now).total_seconds()
    clock = f"{when:%H:%M:%S} UTC" if abs(seconds) < 43_200 else f"{when:%Y-%m-%d %H:%M} UTC"
    return f"in {span(seconds)} ({clock})" if seconds > 0 else f"{span(abs(seconds))} ago ({clock})"


def parse_time(text: str, now: datetime, *, name: str, ahead: bool) -> datetime:
    """A time that a caller named: a span from now, such as `2h`, `ahead` or back, or a date in ISO 8601.

    Raises:
        InvalidInput: it is neither, or beyond the years 1 to 9999.
    """
    try:
        if match := _SPAN.fullmatch(text.strip()):
            distance = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
            return now + distance if ahead else now - distance
        when = datetime.fromisoformat(text.strip())
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        wrong = "too far away" if isinstance(exc, OverflowError) else "neither a span nor a date"
        raise InvalidInput(
            message=f"'{name}' is {wrong}: {quoted(text, 40)}.",
            next_step='Write "30m", "24h", "7d", or a date such as 2026-11-28T14:00:00Z.',
            outcome="not_started",
            retry_safe=True,
        ) from exc


def size(byte_count: int) -> str:
    """Format a number of bytes: `812 B`, `1.4 MB`."""
    if byte_count < 1000:
        return f"{byte_count} B"
    for unit, scale in (("kB", 1e3), ("MB", 1e6)):
        if byte_count < scale * 1000:
            return f"{byte_count / scale:.1f} {unit}"
    return f"{byte_count / 1e9:.1f} GB"


def usd(microcents: float) -> str:
    """An amount of money: `$0.05`, `$0.000123`, `$12.30`."""
    dollars, _, fraction = f"{microcents / MICROCENTS:,.8f}".rstrip("0").partition(".")
    return f"${dollars}.{fraction:0<2}"


def price(estimate: Estimate | None) -> str:
    """What a run costs: `$0.05`, `$0.01 to $0.05`, `at most $0.05; depends on seconds`, or that it is not known."""
    bounds = estimate.bounds if estimate else None
    if estimate is None or bounds is None:
        note = clean(estimate.pricing_description, 300) if estimate else ""
        return f"not known for this input. {quoted(note, 300)}" if note else "not known for this input"
    least, most = bounds
    amount = _range(least, most)
    fields = [label(name) for name in estimate.depends_on[:MAX_FIELDS]]
    more = len(estimate.depends_on) - len(fields)
    fields += [f"{more} more"] if more else []
    return f"{amount}; depends on {', '.join(fields)}" if fields else amount


def total_price(estimates: Sequence[Estimate | None]) -> str:
    """What several runs cost together; empty without any."""
    bounds = [pair for estimate in estimates if estimate and (pair := estimate.bounds)]
    unknown = len(estimates) - len(bounds)
    least, most = (sum(pair[side] for pair in bounds) for side in (0, 1))
    if not bounds:
        return "not known" if unknown else ""
    return _range(least, most) + (f", not counting {unknown} not known" if unknown else "")


def _range(least: float, most: float) -> str:
    if least == most:
        return usd(most)
    return f"{usd(least)} to {usd(most)}" if least else f"at most {usd(most)}"


def charge_text(charge: int | None) -> str:
    """What an ended run was charged, or that the platform does not say yet."""
    return "not known yet" if charge is None else usd(charge)


def charged_text(charges: Sequence[int | None]) -> str:
    """What ended runs were charged together, and for how many that is not known."""
    known = [charge for charge in charges if charge is not None]
    if not known:
        return "not known yet"
    unknown = len(charges) - len(known)
    return f"{usd(sum(known))} in all" + (f", not counting {unknown} not known yet" if unknown else "")
