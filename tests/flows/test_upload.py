"""Files inside inputs: at exactly the places of the schema, whatever form they are given in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.flows.local_files import Folders
from inferencesh_mcp.flows.upload import upload_all
from inferencesh_mcp.schema.file_fields import file_places
from inferencesh_sandbox import serving
from tests.flows.test_places import at, every_file
from tests.schema.real import real_apps
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio
DATA_URI = "data:text/plain;base64,aGVsbG8="
URL = "https://example.com/picture.png"


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Sandbox, Api]]:
    sandbox = Sandbox()
    async with serving(sandbox) as url:
        transport = Transport(url)
        yield sandbox, Api(transport, "inf_test")
        await transport.aclose()


def placed(value: Any, place: tuple[Any, ...], reference: str) -> Any:
    """The same value with another reference at one place."""
    if not place:
        return reference
    copy = value.copy()
    copy[place[0]] = placed(copy[place[0]], place[1:], reference)
    return copy


@pytest.mark.skipif(not real_apps(), reason="the schemas of real apps are not part of the project")
async def test_every_real_app_accepts_each_form_of_file_and_nothing_else(
    upstream: tuple[Sandbox, Api], tmp_path: Path
) -> None:
    """A path, a file URI and a data URI are uploaded, a URL is passed on; strings that happen to be paths stay strings."""
    sandbox, api = upstream
    local = tmp_path / "a b.txt"
    local.write_text("hello")
    folders = Folders(allowed=(tmp_path,), saving=tmp_path)
    apps = 0
    for name, app in real_apps().items():
        schema = app["input_schema"]
        template = every_file(schema, schema)
        places = file_places(schema, template)
        apps += bool(places)
        for form in (str(local), local.as_uri(), DATA_URI, URL):
            given = template
            for place in places:
                given = placed(given, place, form)
            before = len(sandbox.ledger.requests("POST", "/files"))

            sent = await upload_all(api, folders, schema, given, lambda _: None)

            taken = {at(sent, place) for place in places}
            uploads = len(sandbox.ledger.requests("POST", "/files")) - before
            if form == URL:
                assert (0, {URL} if places else set()) == (uploads, taken), name
            else:
                assert (bool(places), len(taken)) == (uploads == 1, int(bool(places))), name
                assert all(uri.startswith("http://127.0.0.1:") for uri in taken), name
            untouched = sent
            for place in places:
                untouched = placed(untouched, place, "FILE")
            assert template == untouched, name
    assert apps > 50


async def test_a_file_used_twice_is_uploaded_once(upstream: tuple[Sandbox, Api], tmp_path: Path) -> None:
    sandbox, api = upstream
    (tmp_path / "a.txt").write_text("x")
    schema = {
        "type": "object",
        "properties": {"files": {"type": "array", "items": {"type": "string", "format": "file"}}},
    }
    given = {"files": [str(tmp_path / "a.txt")] * 3}

    sent = await upload_all(api, Folders(allowed=(tmp_path,), saving=tmp_path), schema, given, lambda _: None)

    assert 1 == len(set(sent["files"])) == len(sandbox.ledger.requests("POST", "/files"))
    assert given == {"files": [str(tmp_path / "a.txt")] * 3}, "what the caller gave is not changed"
