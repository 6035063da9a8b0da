"""Which operations may be repeated: a table."""

import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api.problem_details import LASTING
from inferencesh_mcp.api.retry import (
    ATTEMPTS,
    Bucket,
    Failure,
    Operation,
    backoff,
    is_done,
    may_repeat,
    nothing_started,
    pause,
)


def failure(status=None, *, sent=True, refused=False, **fields):
    return Failure(error=errors.UpstreamError(message="no", status=status, **fields), sent=sent, refused=refused)


NEVER_SENT = failure(sent=False)
LOST = failure()
THROTTLED = failure(429)
TURNED_AWAY = failure(503, retry_after=1.0, refused=True)
FAILURES = {
    "never sent": NEVER_SENT,
    "lost": LOST,
    "429": THROTTLED,
    "503 turned away": TURNED_AWAY,
    "503 with Retry-After, not the API's": failure(503, retry_after=1.0),
    "503 of the API's, no Retry-After": failure(503, refused=True),
    **{
        str(code): failure(code)
        for code in (200, 301, 307, 400, 401, 402, 403, 404, 409, 410, 412, 422, 500, 501, 502, 503, 504)
    },
}
TRANSIENT = {
    "lost",
    "500",
    "502",
    "503",
    "504",
    "503 with Retry-After, not the API's",
    "503 of the API's, no Retry-After",
}
SAFE = {"never sent", "429", "503 turned away"}
ALLOWED = {
    Operation.READ: SAFE | TRANSIENT,
    Operation.START: SAFE,
    Operation.STOP: SAFE | TRANSIENT,
    Operation.EXTEND: SAFE | TRANSIENT,
    Operation.ANSWER: {"never sent"},
    Operation.PUT: SAFE | TRANSIENT,
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("operation", Operation)
def test_an_operation_is_repeated_only_if_the_table_allows_it(operation, name):
    """Redirects and refusals never; a start only when nothing can have begun."""
    assert (name in ALLOWED[operation]) == may_repeat(operation, FAILURES[name], 1)


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("name", FAILURES)
def test_there_are_three_attempts(operation, name):
    """Whatever happened."""
    assert not may_repeat(operation, FAILURES[name], ATTEMPTS)


def test_a_lost_keepalive_is_sent_once_more():
    """One retry when it may have arrived, two when it has not."""
    assert may_repeat(Operation.EXTEND, LOST, 1)
    assert not may_repeat(Operation.EXTEND, LOST, 2)
    assert may_repeat(Operation.EXTEND, NEVER_SENT, 2)


NOTHING = SAFE | {"301", "307", "400", "401", "402", "403", "404", "409", "410", "412", "422"}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_whether_nothing_was_started(name):
    """Everything else is an unknown outcome."""
    assert (name in NOTHING) == nothing_started(FAILURES[name])


def test_a_lasting_state_of_the_api_is_not_retried():
    """Only if the API itself names it: nothing was started then."""
    [code] = LASTING

    assert not may_repeat(Operation.READ, failure(503, upstream_code=code, refused=True), 1)
    assert may_repeat(Operation.READ, failure(503, upstream_code=code), 1)
    assert nothing_started(failure(503, upstream_code=code, refused=True))


@pytest.mark.parametrize("status", [404, 409, 410, 400, 500])
def test_a_stop_is_done_when_an_earlier_attempt_may_have_done_it(status):
    """Then "not found", "conflict" and "gone" are what success looks like."""
    assert (status in {404, 409, 410}) == is_done(Operation.STOP, failure(status), sent_before=True)
    assert not is_done(Operation.STOP, failure(status), sent_before=False)
    assert not is_done(Operation.READ, failure(status), sent_before=True)


@pytest.mark.parametrize(
    ("failed", "attempt", "chance", "seconds"),
    [
        (LOST, 1, 1.0, 0.05),
        (LOST, 2, 1.0, 0.1),
        (LOST, 1, 0.5, 0.025),
        (LOST, 1, 0.0, 0.0),
        (THROTTLED, 1, 1.0, 1.0),
        (THROTTLED, 2, 1.0, 2.0),
        (TURNED_AWAY, 1, 1.0, 1.0),
        (failure(429, retry_after=7.0), 1, 0.0, 7.0),
    ],
)
def test_pauses_have_full_jitter_and_obey_the_api(failed, attempt, chance, seconds):
    """50 ms doubled after a break, 1 s after a refusal for load, or what Retry-After says."""
    assert seconds == pause(failed, attempt, lambda: chance)


@pytest.mark.finding("S9")
@pytest.mark.parametrize("retry_after", [0.0, 0.001])
@pytest.mark.parametrize("status", [429, 503])
def test_an_api_that_asks_for_no_pause_still_gets_one(status, retry_after):
    """Half a back-off at the least, and the other half is chance, so that callers do not come back in step."""
    failed = failure(status, retry_after=retry_after, refused=True)

    assert [0.5, 1.0] == [pause(failed, 1, lambda chance=chance: chance) for chance in (0.0, 1.0)]
    assert [0.5, 1.5] == [pause(failed, 2, lambda chance=chance: chance) for chance in (0.0, 1.0)]


def test_backoff_ends_at_twenty_seconds():
    """However often it was doubled."""
    assert 20.0 == backoff(9, lambda: 1.0)
    assert 20.0 == backoff(10_000, lambda: 1.0)


def test_the_bucket_runs_empty_and_fills_by_success():
    """35 breaks empty it; a success gives one token back, up to the limit."""
    bucket = Bucket()

    assert 35 == sum(bucket.take(LOST) for _ in range(100))
    assert 2 == sum(bucket.take(THROTTLED) for _ in range(10))
    for _ in range(1000):
        bucket.refill()
    assert 500 == bucket.tokens
