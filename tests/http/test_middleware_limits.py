"""What strangers may cost: any made-up key passes the door of `caller`, and none of them stops the others (S4, S14)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketStream

from inferencesh_mcp.api.json import MAX_IN_A_MESSAGE
from inferencesh_mcp.flows import subscription_watches
from inferencesh_mcp.http import app as http
from inferencesh_sandbox import serving
from tests.conftest import until
from tests.http.asking import ERAS, LEGACY, MODERN, Face, envelope, facing, message_of
from tests.http.conftest import THEIRS
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio

BODY = 20_000
TIGHT = 50_000  # bytes that one address may hold here, and twice that all


@pytest.fixture
async def tight(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Face]:
    """A server whose room for bodies is that of a few."""
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 2 * TIGHT)
    sandbox = Sandbox()
    environ = {"INFERENCE_MAX_BODY_BYTES": str(BODY)}
    async with (
        serving(sandbox) as url,
        facing(environ | {"INFERENCE_BASE_URL": url}, sandbox, {"authorization": f"Bearer {THEIRS}"}) as face,
    ):
        yield face


@asynccontextmanager
async def held(face: Face, size: int, address: str, key: str) -> AsyncIterator[SocketStream]:
    """A request of which all but the last byte was sent, from one of this machine's addresses."""
    headers, _ = envelope("tools/list", LEGACY)
    lines = [f"{name}: {value}\r\n" for name, value in (headers | {"authorization": f"Bearer {key}"}).items()]
    head = f"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size + 1}\r\n{''.join(lines)}\r\n"
    async with await anyio.connect_tcp("127.0.0.1", face.port, local_host=address) as stream:
        await stream.send(head.encode() + b" " * size)
        yield stream


async def answered(stream: SocketStream) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the answer on a connection."""
    heard = b""
    with anyio.fail_after(10):
        while b"\r\n\r\n" not in heard or not heard.endswith(b"}"):
            heard += await stream.receive()
    head, _, body = heard.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), json.loads(body)


@pytest.mark.finding("S4")
async def test_bodies_of_one_address_share_a_budget_across_keys(tight: Face) -> None:
    """Who is over it is told when to come again; others are served, and so is the address once it holds less."""
    async with AsyncExitStack() as stack:
        for number in range(TIGHT // BODY):
            await stack.enter_async_context(held(tight, BODY - 2, "127.0.0.2", f"inf_made_up_{number}"))
        over = await stack.enter_async_context(held(tight, BODY - 2, "127.0.0.2", "inf_made_up_more"))
        status, headers, told = await answered(over)
        other = await tight.ask("tools/list")

    assert (429, "1", "rate_limited") == (status, headers["retry-after"], told["error"]["data"]["code"])
    assert 200 == other.status_code
    await until(lambda: tight.open() == 0)
    async with held(tight, BODY - 2, "127.0.0.2", "inf_made_up_last") as again:
        await again.send(b" ")
        assert 400 == (await answered(again))[0]  # blanks are no message: it was read to its end


@pytest.mark.finding("S4")
async def test_all_bodies_together_have_a_budget(tight: Face) -> None:
    async with AsyncExitStack() as stack:
        for number in range(2 * TIGHT // BODY):
            address = f"127.0.0.{10 + number // 2}"
            await stack.enter_async_context(held(tight, BODY - 2, address, "inf_made_up"))
        over = await stack.enter_async_context(held(tight, BODY - 2, "127.0.0.99", "inf_made_up"))
        status, headers, told = await answered(over)
        health = await tight.http.get(f"{tight.url}/healthz")

    assert (503, "5", "unavailable") == (status, headers["retry-after"], told["error"]["data"]["code"])
    assert 200 == health.status_code


@pytest.mark.finding("S4")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tiny", [b"[]", b"{}", b"0", b'""'], ids=["lists", "objects", "numbers", "texts"])
async def test_a_message_of_tiny_values_is_refused_before_it_is_parsed(
    faces: dict[str, Face], era: str, tiny: bytes
) -> None:
    face = faces["caller"]
    headers, message = envelope("tools/list", era)
    many = b",".join([tiny] * (MAX_IN_A_MESSAGE + 1))
    message = message.replace(b'"params": {', b'"params": {"x": [' + many + b"], ")

    response = await face.http.post(f"{face.url}/mcp", headers=headers | face.headers, content=message)

    assert (413, "invalid_input") == (response.status_code, response.json()["error"]["data"]["code"])


@pytest.mark.finding("S4")
async def test_commas_and_brackets_in_a_text_are_not_counted_as_values(faces: dict[str, Face]) -> None:
    text = '[{",\\"' * MAX_IN_A_MESSAGE
    told = await faces["caller"].call("app_run", app="sandbox/echo", input={"text": text})

    assert "completed" == told["status"]


@pytest.mark.finding("S14")
@pytest.mark.parametrize("path", ["/mcp", "/healthz"])
async def test_a_request_with_two_lengths_is_refused_and_disconnected(faces: dict[str, Face], path: str) -> None:
    """A proxy may go by the other one, and take what is behind for a request of its own."""
    face = faces["caller"]
    request = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {THEIRS}\r\ncontent-length: 5\r\n"
        "transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    )
    heard = b""
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", face.port) as stream:
            await stream.send(request.encode())
            try:
                while True:
                    heard += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    assert heard.startswith(b"HTTP/1.1 400")
    assert 1 == heard.count(b"HTTP/1.1 ")


@pytest.mark.finding("S14")
async def test_invented_keys_of_one_address_cannot_take_every_subscription(
    faces: dict[str, Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_watches, "MAX_PER_ADDRESS", 3)
    face = faces["caller"]
    headers, message = envelope("subscriptions/listen", MODERN, number="x", notifications={"toolsListChanged": True})
    refused: list[Any] = []

    async def listen(key: str) -> None:
        sent = headers | {"authorization": f"Bearer {key}"}
        async with face.http.stream("POST", f"{face.url}/mcp", headers=sent, content=message) as response:
            if response.headers["content-type"].startswith("application/json"):
                await response.aread()
                refused.append(message_of(response))
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(listen, f"inf_made_up_{number}")
        await until(lambda: refused)
        group.cancel_scope.cancel()

    assert 1 == len(refused)
    assert "3 from one address" in refused[0]["error"]["message"]


@pytest.mark.finding("F18")
@pytest.mark.parametrize("era", ERAS)
async def test_a_trailing_slash_is_accepted(face: Face, era: str) -> None:
    headers, message = envelope("tools/list", era)

    response = await face.http.post(f"{face.url}/mcp/", headers=headers | face.headers, content=message)

    assert 200 == response.status_code
    assert message_of(response)["result"]["tools"]


@pytest.mark.finding("F19")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/event-stream;q=0.9", "text/*", None])
async def test_an_accept_header_with_streams_or_anything_is_served(
    faces: dict[str, Face], era: str, accept: str | None
) -> None:
    face = faces["caller"]
    headers, message = envelope("tools/list", era)
    del headers["accept"]
    sent = headers | face.headers | ({"accept": accept} if accept else {})
    request = face.http.build_request("POST", f"{face.url}/mcp", headers=sent, content=message)
    if accept is None:
        del request.headers["accept"]

    response = await face.http.send(request)

    assert 200 == response.status_code
    assert message_of(response)["result"]["tools"]


@pytest.mark.finding("F20")
@pytest.mark.parametrize("era", ERAS)
async def test_an_accept_header_without_streams_is_refused_with_advice(faces: dict[str, Face], era: str) -> None:
    face = faces["caller"]
    headers, message = envelope("tools/list", era)
    sent = headers | face.headers | {"accept": "application/json"}

    response = await face.http.post(f"{face.url}/mcp", headers=sent, content=message)

    assert 406 == response.status_code
    assert "text/event-stream" in response.json()["error"]["message"]


@pytest.mark.finding("F20")
@pytest.mark.parametrize(
    "path",
    ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp", "/authorize", "/token",
     "/.well-known/oauth-authorization-server/mcp", "/.well-known/openid-configuration", "/register"],
)  # fmt: skip
async def test_a_host_that_looks_for_a_sign_in_is_told_that_a_key_is_missing(faces: dict[str, Face], path: str) -> None:
    """In the form of an OAuth error: the official clients show its description to the person."""
    face = faces["caller"]
    for method in ("GET", "POST"):
        response = await face.http.request(method, f"{face.url}{path}")

        assert (404, "application/json") == (response.status_code, response.headers["content-type"])
        assert "invalid_request" == response.json()["error"]
        assert response.json()["error_description"].startswith("No inference.sh key was sent.")


@pytest.mark.finding("F20")
async def test_an_invalid_http_request_gets_a_json_error(face: Face) -> None:
    async with await anyio.connect_tcp("127.0.0.1", face.port) as stream:
        await stream.send(b"HELO mcp\r\n\r\n")
        status, _, told = await answered(stream)

    assert (400, "invalid_call") == (status, told["error"]["data"]["code"])


@pytest.mark.finding("F20")
async def test_refusals_by_name_and_origin_and_method_are_json(face: Face) -> None:
    for refused in (
        await face.http.get(f"{face.url}/healthz", headers={"host": "evil.example"}),
        await face.http.get(f"{face.url}/mcp", headers={"origin": "https://evil.example"}),
        await face.http.post(f"{face.url}/healthz"),
        await face.http.get(f"{face.url}/mcp", headers=face.headers),
        await face.http.get(f"{face.url}/metrics"),
    ):
        told = refused.json()
        assert refused.status_code in {403, 404, 405, 421}
        assert told.get("error_description") or told["error"]["message"]


@pytest.mark.finding("F27")
@pytest.mark.parametrize(
    "left", ["${INFERENCE_API_KEY}", "$INFERENCE_API_KEY", "{{api_key}}", "${{ secrets.KEY }}", "{INFERENCE_API_KEY}",
             "%INFERENCE_API_KEY%", "<your-api-key>", "YOUR_KEY", "YOUR_API_KEY_HERE", "${input:inference-key}"]
)  # fmt: skip
async def test_a_placeholder_is_refused_and_named(face: Face, left: str) -> None:
    before = len(face.asked())

    response = await face.ask("tools/call", name="app_list", arguments={}, headers={"authorization": f"Bearer {left}"})

    assert (401, []) == (response.status_code, face.asked()[before:])
    assert left in response.json()["error"]["message"]


@pytest.mark.finding("F27")
async def test_a_key_between_brackets_is_refused_and_not_quoted(face: Face) -> None:
    response = await face.ask(headers={"authorization": f"Bearer {{{THEIRS}}}"})

    assert 401 == response.status_code
    assert THEIRS not in response.text + str(response.headers)


@pytest.mark.finding("F28")
async def test_metadata_without_scopes_leaves_them_out() -> None:
    sandbox = Sandbox()
    environ = {"INFERENCE_HTTP_AUTH": "oauth", "INFERENCE_OAUTH_ISSUER": "https://issuer.example", "INFERENCE_API_KEY": THEIRS,
               "INFERENCE_OAUTH_RESOURCE": "https://mcp.example.com/mcp"}  # fmt: skip
    async with serving(sandbox) as url, facing(environ | {"INFERENCE_BASE_URL": url}, sandbox, {}) as face:
        told = (await face.http.get(f"{face.url}/.well-known/oauth-protected-resource/mcp")).json()

    assert ["https://issuer.example"] == told["authorization_servers"]
    assert "scopes_supported" not in told
