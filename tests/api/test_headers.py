"""What an answer's headers say, and that no header, however odd, is an error."""

from datetime import UTC, datetime, timedelta

import pytest

from inferencesh_mcp.api.headers import (
    clock_skew,
    content_length,
    is_encoded,
    rate_limit_reset,
    retry_after,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DATED = {"date": "Fri, 02 Jan 2026 03:04:05 GMT"}
DAY = 86_400.0
ODD_DATES = [
    "", "soon", "0", "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 99 Jan 2026 99:04:01 GMT",
    "Fri, 02 Jan 99999999999999999999 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:05 +99999999999999", ",", " , , ", "\udcff\udcfe",
    "Fri, 02 Jan 2026 ٠٣:٠٤:٠٥ GMT", "Fri " * 10_000, "1 1 1 1 1 1", "Fri, 02 Jan 2026 3.4.5", "-" * 70,
]  # fmt: skip


@pytest.mark.finding("B2")
@pytest.mark.parametrize("text", ODD_DATES, ids=range(len(ODD_DATES)))
def test_an_unreadable_date_is_ignored(text):
    """Wherever a date may stand; and the clock is not moved by it."""
    assert clock_skew(text, NOW) in {None, timedelta(0)}
    assert retry_after(DATED | {"retry-after": text}) in {None, 0.0, DAY}
    assert retry_after({"retry-after": "2", "date": text}) == 2.0
    assert rate_limit_reset({"x-ratelimit-reset": "4102444800", "date": text}) == DAY


@pytest.mark.finding("B2")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("Fri, 02 Jan 2026 02:04:05 GMT", -3600.0),
        ("Fri, 02 Jan 2026 03:04:05 -0000", 0.0),  # no zone, which is UTC, and not this machine's
        ("Friday, 02-Jan-26 03:04:15 GMT", 10.0),
        ("Sat, 03 Jan 2026 03:04:05 GMT", DAY),
        ("Sat, 03 Jan 2026 03:04:06 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_a_clock_that_is_off_by_more_than_a_day_is_ignored(text, seconds):
    """An hour off is: what was lost is looked for by it."""
    skew = clock_skew(text, NOW)

    assert seconds == (skew and skew.total_seconds()) or (skew == timedelta(0) and seconds == 0.0)


@pytest.mark.finding("S9")
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None), ("2", 2.0), (" 2 ", 2.0), ("0", 0.0), ("soon", None), ("-1", None), ("1.5", None), ("٢", None), ("2, 3", None),
        ("Fri, 02 Jan 2026 03:04:07 GMT", 2.0), ("Fri, 02 Jan 2026 03:04:07 -0000", 2.0),
        ("Fri, 02 Jan 2026 03:04:01 GMT", 0.0), ("Fri, 99 Jan 2026 99:04:01 GMT", None),
        ("999999999", DAY), ("9" * 4000, DAY), ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
    ],
)  # fmt: skip
def test_retry_after_is_at_most_a_day_and_ignored_if_unreadable(header, seconds):
    """In either of its forms."""
    assert seconds == retry_after(DATED | {"retry-after": header})


@pytest.mark.finding("S9")
def test_a_date_in_retry_after_is_relative_to_the_servers_clock():
    """Their clock is an hour behind ours; they ask for half a minute."""
    headers = {"date": "Fri, 02 Jan 2026 02:04:05 GMT", "retry-after": "Fri, 02 Jan 2026 02:04:35 GMT"}

    assert 30.0 == retry_after(headers)


@pytest.mark.finding("D12")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767323075"}, 30.0),
        ({"x-ratelimit-reset": "1767323075"}, 30.0),
        ({"x-ratelimit-remaining": "0"}, None),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": "1767323075"}, None),  # it is not this limit that was met
        ({"x-ratelimit-remaining": "none", "x-ratelimit-reset": "1767323075"}, 30.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767323000"}, None),  # is over
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, None),  # of 1970
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 15}, None),
        ({"x-ratelimit-remaining": "9" * 4000, "x-ratelimit-reset": "9" * 4000}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1799323075"}, DAY),
    ],
)
def test_the_time_until_the_rate_limit_resets_is_read(headers, seconds):
    """In unix seconds, as the platform tells it; by its own clock."""
    assert seconds == rate_limit_reset(DATED | headers)


@pytest.mark.finding("B2")
@pytest.mark.parametrize(("text", "size"), [("12", 12), (" 12 ", 12), ("", None), ("-1", None), ("1e3", None), ("9" * 16, None), ("١", None)])  # fmt: skip
def test_an_unreadable_length_is_ignored(text, size):
    """Nothing is planned with it."""
    assert size == content_length({"content-length": text})


@pytest.mark.finding("B2")
@pytest.mark.parametrize(("text", "encoded"), [("", False), ("identity", False), (" Identity , ", False), ("gzip", True), ("identity, br", True)])  # fmt: skip
def test_a_body_is_encoded_only_if_a_header_says_so(text, encoded):
    """An empty header names no coding."""
    assert encoded == is_encoded({"content-encoding": text})


def test_a_missing_header_says_nothing():
    """None of them has to be there."""
    values = clock_skew("", NOW), retry_after({}), rate_limit_reset({}), content_length({})

    assert (None, None, None, None) == values
    assert not is_encoded({})
