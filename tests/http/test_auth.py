"""Who comes in, and whose key goes on: the modes of INFERENCE_HTTP_AUTH, which never mix and never fall back (T-1, A-12, A-13)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from inferencesh_mcp.http import tokens
from inferencesh_sandbox.ids import fingerprint
from tests.http.asking import ERAS, LEGACY, MODERN, Face, envelope
from tests.http.conftest import OPERATOR, THEIRS
from tests.http_auth_modes import RESOURCE, TOKEN, LocalIssuer

pytestmark = pytest.mark.anyio

ELSEWHERE = jwt.encode(
    {"iss": "https://elsewhere.example", "sub": "eve", "aud": RESOURCE, "exp": time.time() + 60},
    generate_private_key(SECP256R1()), "ES256",
)  # fmt: skip
# The headers of requests that nobody may get anywhere with, in any mode.
REFUSED: dict[str, Any] = {
    "none": {},
    "empty": {"authorization": "Bearer"},
    "basic": {"authorization": f"Basic {THEIRS}"},
    "with a space": {"authorization": f"Bearer {THEIRS} more"},
    "not ascii": {"authorization": f"Bearer {THEIRS}é".encode()},
    "long": {"authorization": f"Bearer inf_{'x' * 600}"},
    "somebody's JWT": {"authorization": f"Bearer {ELSEWHERE}"},
    "JWT of no algorithm": {"authorization": f"Bearer {jwt.encode({'sub': 'eve'}, None, algorithm='none')}"},
    "GitHub's": {"authorization": "Bearer ghp_0123456789abcdefghij0123456789abcdef"},
    "OpenAI's": {"authorization": "Bearer sk-proj-0123456789abcdef"},
    "Slack's": {"authorization": "Bearer xoxb-0123-4567-abcdef"},
    "another gateway's": {"authorization": f"Bearer {tokens.mint()}"},
    "two that differ": {"authorization": f"Bearer {THEIRS}", "x-inference-api-key": "inf_another"},
    "two lines that differ": [("authorization", f"Bearer {THEIRS}"), ("authorization", f"Bearer {TOKEN}")],
    "two keys that differ": [("x-inference-api-key", THEIRS), ("x-inference-api-key", "inf_another")],
    "a cookie": {"cookie": f"authorization=Bearer {THEIRS}; key={THEIRS}"},
}  # fmt: skip


@pytest.mark.parametrize("era", ERAS)
async def test_a_valid_credential_is_admitted_with_its_key(face: Face, mode: str, era: str) -> None:
    before = len(face.asked())

    answer = await face.call("app_list", era)

    assert answer["apps"]
    wanted = THEIRS if mode == "caller" else OPERATOR
    assert {fingerprint(wanted)} == set(face.asked()[before:])


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
async def test_any_other_credential_is_refused(face: Face, mode: str, headers: Any) -> None:
    """401 before anything goes upstream, with whichever key: a missing one never becomes the operator's."""
    before = len(face.asked())

    response = await face.ask("tools/call", name="app_list", arguments={}, headers=headers)

    assert (401, []) == (response.status_code, face.asked()[before:])
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert ("resource_metadata" in response.headers["www-authenticate"]) == (mode == "oauth")
    told = response.json()["error"]
    assert "not_started" == told["data"]["outcome"]
    assert not any(secret in response.text for secret in (THEIRS, OPERATOR, TOKEN, ELSEWHERE, "ghp_", "sk-", "xox"))


@pytest.mark.parametrize("other", ["caller", "tokens", "oauth"])
async def test_a_credential_of_one_mode_is_refused_in_the_others(
    faces: dict[str, Face], face: Face, mode: str, other: str
) -> None:
    before = len(face.asked())

    response = await face.ask(headers=faces[other].headers)

    assert (200 if other == mode else 401) == response.status_code
    assert [] == face.asked()[before:]


async def test_a_callers_key_is_read_from_either_header(faces: dict[str, Face]) -> None:
    face = faces["caller"]
    before = len(face.asked())

    own = await face.ask("tools/call", name="app_list", arguments={}, headers={"X-Inference-Api-Key": THEIRS})
    both = await face.ask("tools/call", name="app_list", arguments={}, headers=face.headers | {"X-Inference-Api-Key": THEIRS})  # fmt: skip

    assert (200, 200) == (own.status_code, both.status_code)
    assert {fingerprint(THEIRS)} == set(face.asked()[before:])


@pytest.mark.parametrize("other", ["tokens", "oauth"])
async def test_a_key_beside_an_operators_token_is_refused_rather_than_ignored(
    faces: dict[str, Face], other: str
) -> None:
    face = faces[other]
    before = len(face.asked())

    response = await face.ask(headers=face.headers | {"X-Inference-Api-Key": THEIRS})

    assert (401, []) == (response.status_code, face.asked()[before:])


@pytest.mark.parametrize(
    "path",
    ["/", "/MCP", "/mcp/x", "/mcp%2fx", "//mcp", "/sse", "/messages", "/authorize", "/token", "/register", "/revoke",
     "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/.well-known/oauth-protected-resource",
     "/docs", "/openapi.json", "/metrics", "/readyz/x"],
)  # fmt: skip
async def test_no_other_path_is_served(face: Face, path: str) -> None:
    """A-12, A-13: nobody has to guess which routes are guarded; the others are not there, whoever asks."""
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        response = await face.http.request(method, f"{face.url}{path}", headers=face.headers)

        assert (method, 404) == (method, response.status_code)
        assert method == "HEAD" or response.json()["error_description"]


async def test_without_credentials_every_method_of_mcp_is_refused(face: Face) -> None:
    before = len(face.asked())
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        response = await face.http.request(method, f"{face.url}/mcp")

        assert (method, 401) == (method, response.status_code)
    assert [] == face.asked()[before:]


async def test_there_is_no_websocket(face: Face) -> None:
    """A-6: an upgrade is not heard; what is left is a request as any other, with a door before it."""
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
               "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-protocol": "mcp"}  # fmt: skip
    for path in ("/mcp", "/ws", "/"):
        nobody = await face.http.get(f"{face.url}{path}", headers=upgrade)
        somebody = await face.http.get(f"{face.url}{path}", headers=upgrade | face.headers)

        assert ((401, 405) if path == "/mcp" else (404, 404)) == (nobody.status_code, somebody.status_code)


@pytest.mark.parametrize("era", ERAS)
async def test_messages_are_sent_by_post_alone(face: Face, era: str) -> None:
    """Without sessions nothing would ever come on a stream of the older protocol's: none is held open."""
    headers, _ = envelope("tools/list", era)
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        response = await face.http.request(method, f"{face.url}/mcp", headers=headers | face.headers)

        assert (method, 405, "POST") == (method, response.status_code, response.headers["allow"])


@pytest.mark.finding("S14")
async def test_a_get_with_the_id_of_a_session_is_not_held_open(face: Face) -> None:
    """There are no sessions, whatever id it names."""
    headers, _ = envelope("", LEGACY)
    with anyio.fail_after(5):
        response = await face.http.get(f"{face.url}/mcp", headers=headers | face.headers | {"mcp-session-id": "any"})

    assert 405 == response.status_code


async def test_no_credential_is_written_down_anywhere(
    face: Face, mode: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """T-2: at the lowest level, by any logger, unredacted: neither whom we let in nor whom we do not, nor the operator's."""
    caplog.set_level("DEBUG")
    credential = face.headers["authorization"].removeprefix("Bearer ")
    ghost = "inf_ghost_CANARY_1f"
    async with httpx2.AsyncClient(timeout=30) as http:
        face = replace(face, http=http)
        for era in ERAS:
            await face.call("app_run", era, app="sandbox/echo", input={})
            await face.call("app_run", era, app="sandbox/fail", input={"message": "no"})
            await face.ask("tools/call", era, name="none", arguments={}, headers=face.headers)
            await face.ask(
                "tools/list", era, headers=[("authorization", f"Bearer {ghost}"), ("x-inference-api-key", THEIRS)]
            )

    out, err = capfd.readouterr()
    assert not any(secret in caplog.text + out + err for secret in (credential, ghost, THEIRS, OPERATOR))


@pytest.mark.parametrize("page", ["/healthz", "/readyz"])
async def test_the_health_pages_reveal_nothing_and_are_read_only(face: Face, page: str) -> None:
    read = await face.http.get(f"{face.url}{page}")
    written = await face.http.post(f"{face.url}{page}")

    assert (200, "ok", 405) == (read.status_code, read.text, written.status_code)


async def test_only_oauth_mode_serves_metadata(face: Face, mode: str, issuer: LocalIssuer) -> None:
    """A key is no MCP access token, and a gateway's own is none of an issuer: only one mode claims to be a resource."""
    response = await face.http.get(f"{face.url}/.well-known/oauth-protected-resource/mcp")

    if mode != "oauth":
        assert 404 == response.status_code
        return
    told = response.json()
    assert (RESOURCE, [issuer.url], ["inference"]) == (told["resource"], told["authorization_servers"], told["scopes_supported"])  # fmt: skip


@pytest.mark.finding("S14")
@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://other.example.com/mcp"},
        {"aud": f"{RESOURCE}/evil"},
        {"aud": ["https://other.example.com"]},
        {"iss": "https://elsewhere.example"},
        {"exp": int(time.time()) - 3600},
        {"nbf": int(time.time()) + 3600},
        {"lacks": "exp"},
        {"lacks": "aud"},
        {"lacks": "sub"},
        {"sub": ""},
        {"headers": {"typ": "id+jwt"}},
        {"headers": {"typ": "logout+jwt"}},
        {"nonce": "of a sign-in"},
        {"typ": "ID"},
        {"token_use": "id"},
        {"headers": {"kid": "of nobody"}},
        {"headers": {"kid": "shared"}},
        {"headers": {"kid": "of nobody", "jku": "http://127.0.0.1:9/jwks"}},
    ],
    ids=[
        "aud",
        "aud that begins alike",
        "aud in a list",
        "iss",
        "over",
        "not yet",
        "no exp",
        "no aud",
        "no sub",
        "empty sub",
        "typ of an ID token",
        "typ of a logout token",
        "an ID token's nonce",
        "Keycloak's ID token",
        "Cognito's ID token",
        "no such key",
        "a shared secret",
        "a key elsewhere",
    ],
)
async def test_a_token_must_be_the_issuers_for_this_server_and_not_expired(
    faces: dict[str, Face], issuer: LocalIssuer, changed: dict[str, Any]
) -> None:
    face = faces["oauth"]
    before = len(face.asked())
    token = issuer.token(**changed)

    response = await face.ask("tools/call", name="app_list", arguments={}, headers={"authorization": f"Bearer {token}"})

    assert (401, []) == (response.status_code, face.asked()[before:])
    challenge = response.headers["www-authenticate"]
    assert 'error="invalid_token"' in challenge
    assert 'resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"' in challenge


@pytest.mark.finding("S14")
@pytest.mark.parametrize("kind", ["at+jwt", "application/at+jwt", "JWT", None])
async def test_an_access_token_type_is_admitted(faces: dict[str, Face], issuer: LocalIssuer, kind: str | None) -> None:
    token = issuer.token(headers={"typ": kind})

    response = await faces["oauth"].ask(headers={"authorization": f"Bearer {token}"})

    assert 200 == response.status_code


async def test_a_token_signed_with_a_public_key_is_refused(faces: dict[str, Face], issuer: LocalIssuer) -> None:
    """An HMAC with what is public for a key is the classic way in."""
    claims = {"iss": issuer.url, "sub": "eve", "aud": RESOURCE, "exp": int(time.time()) + 60, "scope": "inference"}
    forged = jwt.encode(claims, "c2VjcmV0" * 8, "HS256", headers={"kid": issuer.kid})

    response = await faces["oauth"].ask(headers={"authorization": f"Bearer {forged}"})

    assert 401 == response.status_code


async def test_a_missing_scope_is_named(faces: dict[str, Face], issuer: LocalIssuer) -> None:
    face = faces["oauth"]

    response = await face.ask(headers={"authorization": f"Bearer {issuer.token(scope='openid')}"})
    listed = await face.ask(headers={"authorization": f"Bearer {issuer.token(lacks='scope', scp=['inference'])}"})

    assert (403, 200) == (response.status_code, listed.status_code)
    assert 'error="insufficient_scope", scope="inference"' in response.headers["www-authenticate"]


async def test_a_request_without_a_token_gets_the_metadata_address(faces: dict[str, Face]) -> None:
    """RFC 6750 3.1."""
    response = await faces["oauth"].ask(headers={})

    assert "error" not in response.headers["www-authenticate"]


@pytest.mark.parametrize("era", [MODERN, LEGACY])
async def test_a_key_that_inference_sh_refuses_is_an_error_result(faces: dict[str, Face], era: str) -> None:
    """Whether it is a key, only inference.sh knows: what looks like one is asked about, once, and with nothing else."""
    face = faces["caller"]

    answer = await face.call("app_list", era, headers={"authorization": "Bearer nokey"})

    assert "key_refused" == answer["error"]["code"]
