"""Files inside inputs: at exactly the places of the schema, whatever form they are value in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.errors import FileRefused
from inferencesh_mcp.flows.local_files import Folders
from inferencesh_mcp.flows.upload import MAX_OPEN, Uploads
from inferencesh_mcp.schema.file_fields import file_places
from inferencesh_sandbox import serving
from tests.schema.real import real_apps
from tests.schema.test_file_fields import at, every_file
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
async def test_every_form_of_file_in_every_real_app_is_uploaded_and_nothing_else(
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
            value = template
            for place in places:
                value = placed(value, place, form)
            before = len(sandbox.ledger.requests("POST", "/files"))

            with Uploads(api, folders, lambda _: None) as uploads:
                sent = await uploads.upload(value, await uploads.check(schema, value))

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


async def test_a_file_that_an_input_names_twice_is_uploaded_once(upstream: tuple[Sandbox, Api], tmp_path: Path) -> None:
    sandbox, api = upstream
    (tmp_path / "a.txt").write_text("x")
    schema = {
        "type": "object",
        "properties": {"files": {"type": "array", "items": {"type": "string", "format": "file"}}},
    }
    value = {"files": [str(tmp_path / "a.txt")] * 3}

    with Uploads(api, Folders(allowed=(tmp_path,), saving=tmp_path), lambda _: None) as uploads:
        sent = await uploads.upload(value, await uploads.check(schema, value))

    assert 1 == len(set(sent["files"])) == len(sandbox.ledger.requests("POST", "/files"))
    assert value == {"files": [str(tmp_path / "a.txt")] * 3}, "what the caller gave is not changed"


async def test_more_files_than_stay_open_are_all_uploaded(upstream: tuple[Sandbox, Api], tmp_path: Path) -> None:
    sandbox, api = upstream
    paths = [tmp_path / f"{number}.txt" for number in range(MAX_OPEN + 2)]
    for path in paths:
        path.write_text(path.name)
    schema = {"type": "array", "items": {"type": "string", "format": "file"}}
    value = list(map(str, paths))

    with Uploads(api, Folders(allowed=(tmp_path,), saving=tmp_path), lambda _: None) as uploads:
        sent = await uploads.upload(value, await uploads.check(schema, value))

    assert len(paths) == len(set(sent)) == len(sandbox.ledger.requests("POST", "/files"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the open files of this process cannot be listed")
async def test_files_that_were_checked_are_closed_when_their_run_does_not_start(
    upstream: tuple[Sandbox, Api], tmp_path: Path
) -> None:
    _, api = upstream
    (tmp_path / "a.txt").write_text("x")
    schema = {"type": "array", "items": {"type": "string", "format": "file"}}

    with (
        pytest.raises(FileRefused, match="does not exist"),
        Uploads(api, Folders(allowed=(tmp_path,), saving=tmp_path), lambda _: None) as uploads,
    ):
        await uploads.check(schema, [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])

    names = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert str(tmp_path / "a.txt") not in names


async def test_a_file_that_changes_between_its_check_and_its_upload_is_refused(
    upstream: tuple[Sandbox, Api], tmp_path: Path
) -> None:
    sandbox, api = upstream
    path = tmp_path / "a.txt"
    path.write_text("x")
    schema = {"type": "array", "items": {"type": "string", "format": "file"}}

    with Uploads(api, Folders(allowed=(tmp_path,), saving=tmp_path), lambda _: None) as uploads:
        places = await uploads.check(schema, [str(path)])
        path.write_text("something else")
        with pytest.raises(FileRefused, match="changed"):
            await uploads.upload([str(path)], places)

    assert [] == [request for request in sandbox.ledger.requests("PUT") if request.status == 200], "no file was stored"
