"""Whatever is posted is answered as what it is, and the next caller never notices (A-1, X-43)."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.web.asking import ERAS, LEGACY, MODERN, Face, envelope

pytestmark = pytest.mark.anyio

DEEP = b"[" * 100_000 + b"]" * 100_000
ODD: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"{",
    "a number": b"1",
    "null": b"null",
    "a batch": b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
    "deep": DEEP,
    "deep params": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + DEEP + b"}",
    "a long number": b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"tools/list"}',
    "an endless id": b'{"jsonrpc":"2.0","id":"' + b"x" * 100_000 + b'","method":"tools/list"}',
    "an id that is none": b'{"jsonrpc":"2.0","id":NaN,"method":"tools/list"}',
    "an id of null": b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}',
    "an id that is a list": b'{"jsonrpc":"2.0","id":[1],"method":"tools/list"}',
    "not UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}',
    "UTF-16": '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'.encode("utf-16"),
    "NUL": b'{"jsonrpc":"2.0","id":1,"method":"tools\x00list"}',
    "half a surrogate": b'{"jsonrpc":"2.0","id":"\\ud800","method":"tools/call","params":{"name":"\\udfff"}}',
    "params that are none": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1]}',
    "no method": b'{"jsonrpc":"2.0","id":1}',
    "an answer": b'{"jsonrpc":"2.0","id":1,"result":{}}',
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("message", ODD.values(), ids=ODD)
async def test_an_odd_message_is_answered_and_started_nothing(
    faces: dict[str, Face], era: str, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    face = faces["caller"]
    headers, _ = envelope("tools/list", era)
    before = len(face.asked())

    response = await face.http.post(f"{face.url}/mcp", headers=headers | face.headers, content=message)

    assert response.status_code < 500, response.text
    assert [] == face.asked()[before:]
    assert (await face.ask("tools/list", era)).status_code == 200
    assert "Exception in ASGI application" not in caplog.text


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"content-type": "text/plain"}, 400),
        ({"content-type": "application/x-www-form-urlencoded"}, 400),
        ({"accept": "text/html"}, 406),
        ({"mcp-method": "tools/call"}, 400),
        ({"mcp-protocol-version": "1999-01-01"}, 400),
    ],
    ids=str,
)
async def test_heads_that_do_not_fit_their_message_are_refused(
    faces: dict[str, Face], changed: dict[str, str], status: int
) -> None:
    """No form of a web page can be a message, and no head can say another thing than what is acted on."""
    face = faces["caller"]
    headers, message = envelope("tools/list", MODERN)

    response = await face.http.post(f"{face.url}/mcp", headers=headers | face.headers | changed, content=message)

    assert status == response.status_code


async def test_a_storm_of_broken_envelopes_breaks_nothing(
    faces: dict[str, Face], caplog: pytest.LogCaptureFixture
) -> None:
    """A-1: mutated at random, from one seed; a good request after each hundred is answered."""
    face, chance = faces["caller"], random.Random(20261125)
    junk: list[Any] = [
        None,
        [],
        {},
        "",
        -1,
        1e308,
        True,
        "tools/call",
        {"name": {}},
        ["x"] * 50,
        "\u0000",
        {"_meta": 7},
    ]

    for number in range(1, 601):
        era = chance.choice([MODERN, LEGACY])
        headers, good = envelope(chance.choice(["tools/list", "initialize", "server/discover", "ping"]), era)
        told = json.loads(good)
        for _ in range(chance.randint(1, 3)):
            place = chance.choice([told, told.get("params") if isinstance(told.get("params"), dict) else told])
            name = chance.choice([*place, "extra"])
            if chance.random() < 0.3:
                place.pop(name, None)
            else:
                place[name] = chance.choice(junk)
        body = bytearray(json.dumps(told).encode())
        if chance.random() < 0.3:
            body[chance.randrange(len(body))] = chance.randrange(256)
        response = await face.http.post(f"{face.url}/mcp", headers=headers | face.headers, content=bytes(body))
        assert response.status_code < 500, (bytes(body), response.text)
        if number % 100 == 0:
            assert (await face.call("app_list"))["apps"]

    assert "Exception in ASGI application" not in caplog.text
