"""Every documented form of an error, and what becomes of it."""

import json

import pytest

from inferencesh_mcp import errors
from inferencesh_mcp.api.problem_details import Unwrapped, error_payload, is_api_error, problem, unwrap
from inferencesh_mcp.errors import Requirement

REQUIREMENTS = [
    {"type": "secret", "key": "OPENAI_API_KEY", "message": "secret OPENAI_API_KEY is missing", "action": {"type": "add_secret"}},
    {"type": "integration", "key": "google", "message": "connect google", "action": {"type": "connect", "provider": "google"}},
    {"type": "scope", "key": "google.sheets", "message": "more scopes needed",
     "action": {"type": "add_scopes", "provider": "google", "provider_name": "Google", "scopes": ["sheets.readonly"]}},
    {"type": "credential", "key": "x"},
]  # fmt: skip
AS_VALUES = (
    Requirement(kind="secret", key="OPENAI_API_KEY", message="secret OPENAI_API_KEY is missing",
                action="Add the secret OPENAI_API_KEY at https://inference.sh."),
    Requirement(kind="integration", key="google", message="connect google", action="Connect google at https://inference.sh."),
    Requirement(kind="scope", key="google.sheets", message="more scopes needed",
                action="Connect Google again at https://inference.sh and grant sheets.readonly."),
    Requirement(kind="credential", key="x", message="credential x is missing"),
)  # fmt: skip


def error_of(status, body, headers=None):
    return problem(status, headers or {}, error_payload(body if isinstance(body, bytes) else json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, "UpstreamError"), (307, "UpstreamError"), (400, "InvalidInput"), (401, "KeyRefused"), (402, "PaymentRequired"),
        (403, "Forbidden"), (404, "NotFound"), (405, "UpstreamError"), (408, "TimedOut"), (409, "Conflict"), (410, "Gone"),
        (413, "InvalidInput"), (418, "UpstreamError"), (422, "InvalidInput"), (429, "RateLimited"), (500, "Unavailable"),
        (502, "Unavailable"), (503, "Unavailable"), (504, "Unavailable"), (412, "UpstreamError"),
    ],
)  # fmt: skip
def test_a_status_is_an_error_of_the_tree(status, kind):
    """With the API's own words, its code and the status."""
    error = error_of(
        status, {"type": "https://api.inference.sh/errors/some_code", "title": "T", "status": status, "detail": "why"}
    )

    assert getattr(errors, kind) is type(error)
    assert (status, "some_code") == (error.status, error.upstream_code)
    assert str(status) in error.message
    assert status < 400 or "why" in error.message


FORMS = {
    "problem": ({"type": "https://x/errors/not_found", "title": "Not Found", "detail": "app not found"}, "app not found", "not_found"),
    "problem without detail": ({"type": "about:blank", "title": "Not Found"}, "Not Found", ""),
    "v1": ({"success": False, "status": 404, "error": {"code": "nf", "message": "gone fishing"}}, "gone fishing", "nf"),
    "oldest": ({"error": {"code": "nf", "message": "gone fishing"}}, "gone fishing", "nf"),
    "problem and error": ({"type": "https://x/a", "detail": "d", "error": {"code": "SESSION_NOT_FOUND", "message": "m"}}, "d", "SESSION_NOT_FOUND"),
    "text": ({"error": "plain"}, "plain", ""),
    "message": ({"message": "plain"}, "plain", ""),
    "field errors": ({"detail": "bad", "errors": [{"field": "a", "message": "is odd"}, "b", 3]}, "bad; a: is odd; b", ""),
    "odd kinds": ({"type": 3, "detail": {}, "error": [], "errors": {}, "meta": []}, "", ""),
}  # fmt: skip


@pytest.mark.parametrize(("body", "text", "code"), FORMS.values(), ids=FORMS)
def test_every_form_is_understood(body, text, code):
    """The words and the code are found wherever they are kept."""
    error = error_of(404, body)

    assert (f"inference.sh answered 404: {text}" if text else "inference.sh answered 404") == error.message
    assert code == error.upstream_code
    assert is_api_error(body) == (("message" not in body and body.get("error") != []) or "type" in body)


@pytest.mark.parametrize(
    "body", [b"", b"<html><h1>Bad gateway</h1>", b"null", b"[1]", b'"x"', b"\xff\xfe", b"{", b"[" * 9999]
)
def test_the_page_of_a_proxy_is_never_shown(body):
    """The status alone is the answer."""
    error = error_of(502, body)

    assert "inference.sh answered 502" == error.message
    assert not is_api_error(error_payload(body))


@pytest.mark.parametrize(
    "body",
    [
        {"satisfied": False, "errors": REQUIREMENTS},
        {"type": "https://x/errors/requirements_not_met", "detail": "no", "errors": REQUIREMENTS},
        {"success": False, "error": {"code": "requirements_not_met", "errors": REQUIREMENTS}},
        {"error": {"code": "requirements_not_met", "meta": {"errors": REQUIREMENTS}}},
        {"success": False, "data": {"errors": REQUIREMENTS}},
        {"meta": {"errors": REQUIREMENTS}},
    ],
)
def test_requirements_are_listed_with_what_to_do(body):
    """Flat or nested."""
    error = error_of(412, body)

    assert AS_VALUES == error.requirements
    assert "OPENAI_API_KEY" in error.message


@pytest.mark.parametrize(
    "errors_", [[], [None, 3], [{"type": 3, "key": None, "action": "x"}], [{"action": {"type": "dance"}}]]
)
def test_odd_requirements_are_no_crash(errors_):
    """As well as can be."""
    error = error_of(412, {"errors": errors_})

    assert isinstance(error, errors.RequirementsNotMet)


def test_suggestions_are_kept():
    """In either place."""
    assert ("a/b", "a/c") == error_of(404, {"detail": "x", "suggestions": ["a/b", 3, "a/c"]}).suggestions
    assert ("a/b",) == error_of(404, {"error": {"message": "x", "suggestions": ["a/b"]}}).suggestions


def test_keys_and_control_characters_are_never_shown():
    """Keys, signatures, control, bidirectional, zero-width and tag characters; and no more than 500 characters."""
    text = (
        "see https://s3.example/f.png?X-Sig=abc#frag and inf_secretkey and Bearer abc.def\x1b[31m\u202e\u200b\U000e0041\x00\n"
        + "x" * 2000
    )
    error = error_of(400, {"detail": text, "error": {"code": "c\u202e" + "d" * 900}})

    assert "https://s3.example/f.png and [key] and [key]" in error.message
    assert not set("\x1b\u202e\u200b\U000e0041\x00\n?") & set(error.message)
    assert len(error.message) <= 500
    assert len(error.upstream_code) <= 64


def test_retry_after_is_read():
    """From its header."""
    assert 7.0 == error_of(429, {}, {"retry-after": "7"}).retry_after


@pytest.mark.parametrize(
    ("value", "inner"),
    [
        ({"id": "t"}, {"id": "t"}),
        ({"data": {"id": "t"}}, {"id": "t"}),
        ({"data": None}, None),
        ({"success": True, "status": 200, "data": [1]}, [1]),
        ({"data": {"id": "t"}, "messages": []}, {"id": "t"}),
        ({"data": {"id": "t"}, "id": "i"}, {"data": {"id": "t"}, "id": "i"}),
        ({"success": False, "id": "i"}, {"success": False, "id": "i"}),
        ([1], [1]),
        (None, None),
    ],
)
def test_a_value_is_unwrapped_from_its_envelope(value, inner):
    """But a thing with a field `data` of its own is not opened."""
    assert Unwrapped(value=inner) == unwrap(value)


def test_warnings_are_collected():
    """Only those that warn."""
    messages = [
        {"level": "warning", "message": "old version"},
        {"level": "info", "message": "hi"},
        {"level": "warning"},
        3,
    ]

    assert ("old version",) == unwrap({"data": 1, "messages": messages}).warnings


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (
            {"success": False, "status": 402, "error": {"code": "payment_required", "message": "m"}},
            "PaymentRequired",
            402,
        ),
        ({"success": False, "status": 200, "error": {"message": "m"}}, "Unavailable", 500),
        ({"success": False}, "Unavailable", 500),
    ],
)
def test_a_200_with_success_false_is_an_error(body, kind, status):
    """Never a half-read task."""
    error = unwrap(body)

    assert getattr(errors, kind) is type(error)
    assert status == error.status
