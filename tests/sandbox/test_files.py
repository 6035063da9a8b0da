"""Records, signed uploads and downloads."""

from __future__ import annotations

import tracemalloc

import httpx2
import pytest

from inferencesh_sandbox.files import IN_MEMORY, SIGNED_FOR

pytestmark = pytest.mark.anyio


async def recorded(me, **record):
    return (await me.post("/files", {"files": [{"filename": "a.png", **record}]})).json()[0]


async def put(url, body=b"x", **headers):
    async with httpx2.AsyncClient() as stranger:
        return await stranger.put(url, content=body, headers=headers)


async def test_bytes_go_in_by_the_signed_url_and_come_out_at_the_uri(me):
    file = await me.upload(b"\x00\xff" * 1000, content_type="image/png", path="p", public=True)

    async with httpx2.AsyncClient() as stranger:
        answer = await stranger.get(file["uri"])
    known = (await me.get(f"/files/{file['id']}")).json()

    assert answer.content == b"\x00\xff" * 1000
    assert answer.headers["content-type"] == "image/png"
    assert file["uri"].endswith(".png")
    assert (known["size"], known["path"], known["visibility"]) == (2000, "p", "public")


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "text/plain"])
async def test_an_upload_may_name_any_type_or_none(me, content_type):
    file = await recorded(me)

    assert (await put(file["upload_url"], **{"content-type": content_type})).status_code == 200


async def test_a_second_upload_replaces_the_first(me):
    file = await me.upload(b"the first, which is longer")

    await put(file["upload_url"], b"second")

    assert (await me.http.get(file["uri"])).content == b"second"


async def test_a_signed_url_expires_by_the_clock(me, clock):
    file = await recorded(me)

    clock.advance(SIGNED_FOR.total_seconds() - 1)
    assert (await put(file["upload_url"])).status_code == 200
    clock.advance(2)
    answer = await put(file["upload_url"])

    assert answer.status_code == 403
    assert "expired" in answer.json()["detail"]


@pytest.mark.parametrize(
    "spoil", [("signature=", "signature=0"), ("expires=", "expires=9"), ("signature=", "signature=é")]
)
async def test_a_url_that_was_tampered_with_opens_nothing(me, spoil):
    file = await recorded(me)

    assert (await put(file["upload_url"].replace(*spoil, 1))).status_code == 403


async def test_one_files_signature_does_not_open_another(me):
    one, other = await recorded(me), await recorded(me)

    assert (await put(one["upload_url"].replace(one["id"], other["id"]))).status_code == 403


async def test_a_record_without_bytes_has_nothing_to_download(me):
    file = await recorded(me)

    assert (await me.http.get(file["uri"])).status_code == 404
    assert "never uploaded" in (await me.run("sandbox/picture-info", {"image": file["uri"]}))["error"]


async def test_a_public_file_may_be_read_by_another_keys_run(me, caller):
    file = await me.upload(b"GIF89a\x07\x00\x05\x00\x00\x00\x00", public=True)

    async with caller("inf_other") as other:
        assert (await other.run("sandbox/picture-info", {"image": file["uri"]}))["output"]["width"] == 7


async def test_a_tasks_files_have_roles(me):
    file = await me.upload(b"GIF89a\x07\x00\x05\x00\x00\x00\x00")
    told = await me.run("sandbox/picture-info", {"image": file["uri"]})

    both = (await me.get(f"/tasks/{told['id']}/files")).json()
    out = (await me.get(f"/tasks/{told['id']}/files?role=output")).json()

    assert [(one["role"], one["uri"]) for one in both] == [
        ("input", file["uri"]),
        ("output", told["output"]["thumbnail"]),
    ]
    assert out == both[1:]


async def test_files_are_listed_and_deleted(me):
    file = await me.upload(b"x")

    assert [one["id"] for one in (await me.post("/files/list")).json()["items"]] == [file["id"]]
    assert (await me.http.delete(f"/files/{file['id']}")).status_code == 204
    assert (await me.get(f"/files/{file['id']}")).status_code == 404
    assert (await put(file["upload_url"])).status_code == 404


async def test_a_record_tells_the_size_it_was_asked_for_until_the_bytes_are_there(me):
    file = await recorded(me, size=70)
    await put(file["upload_url"], b"abc")

    assert file["size"] == 70
    assert (await me.get(f"/files/{file['id']}")).json()["size"] == 3


@pytest.mark.parametrize("body", [{"files": [{"size": "x"}]}, {}, {"files": []}, {"files": ["a.png"]}, {"files": {}}])
async def test_a_request_for_no_file_is_refused(me, body):
    assert (await me.post("/files", body)).status_code == 400


@pytest.mark.timeout(60)
async def test_a_large_file_passes_both_ways_in_bounded_memory(me):
    """Twice what is kept in memory: the rest is on disk, and no copy of the whole is ever made."""
    size, piece = 2 * IN_MEMORY, b"0123456789abcdef" * 65536

    async def sent():
        for _ in range(size // len(piece)):
            yield piece

    tracemalloc.start()
    try:
        file = await recorded(me)
        await put(file["upload_url"], sent())
        received = 0
        async with me.http.stream("GET", file["uri"]) as answer:
            async for part in answer.aiter_bytes():
                received += len(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert received == size
    assert peak < 2.5 * IN_MEMORY
