"""The catalogue and what each app does."""

from __future__ import annotations

import struct
import zlib

import httpx2
import pytest

from inferencesh_sandbox.apps import png
from inferencesh_sandbox.apps.picture_info import measure

pytestmark = pytest.mark.anyio

GIF = b"GIF89a" + struct.pack("<HH", 7, 5) + b"\x00" * 8
JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 5, 7) + b"\x01\x00\x00\x00"
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 \x00\x00\x00\x00\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 7, 5)


async def fetched(uri):
    async with httpx2.AsyncClient() as stranger:
        return (await stranger.get(uri)).content


async def test_every_app_says_that_it_is_the_sandbox(me):
    page = (await me.post("/apps/list", {})).json()

    assert page["total_items"] == 13
    assert all("sandbox" in app["description"] for app in page["items"])


async def test_apps_are_searched_filtered_and_paged(me):
    images = {"filters": [{"field": "category", "operator": "eq", "value": "image"}]}
    first = (await me.post("/apps/list", {**images, "limit": 1})).json()
    second = (await me.post("/apps/list", {**images, "limit": 1, "cursor": first["next_cursor"]})).json()
    found = (await me.post("/apps/list", {"search": {"term": "Thumbnail PICTURE"}})).json()

    assert [app["name"] for app in (*first["items"], *second["items"])] == ["draw", "picture-info"]
    assert (first["has_next"], second["has_next"], second["has_previous"]) == (True, False, True)
    assert [app["name"] for app in found["items"]] == ["picture-info"]


async def test_an_app_is_found_by_name_id_and_version(me):
    app = (await me.get("/apps/sandbox/count")).json()
    versions = (await me.post(f"/apps/{app['id']}/versions/list")).json()["items"]
    older = (await me.get(f"/apps/{app['id']}/versions/{versions[1]['short_id']}")).json()

    assert (await me.get(f"/apps/{app['id']}")).json() == app
    assert app["version"] == versions[0]
    assert older["version"] == versions[1]


async def test_a_file_field_says_so_in_its_schema(me):
    schema = (await me.get("/apps/sandbox/picture-info")).json()["version"]["input_schema"]

    assert schema["properties"]["image"]["format"] == "file"
    assert schema["required"] == ["image"]
    assert schema["title"] == "AppInput"


async def test_an_unknown_app_names_those_like_it(me):
    answer = await me.get("/apps/sandbox/drow")

    assert answer.status_code == 404
    assert "sandbox/draw" in answer.json()["suggestions"]


@pytest.mark.parametrize(
    ("app", "given", "told"),
    [
        ("draw", {"prompt": "x", "width": 100, "height": 50}, {"confidence": "exact", "microcents": 10_000}),
        ("slow", {"seconds": 2}, {"confidence": "range", "min": 0, "max": 2_000_000, "depends_on": ["seconds"]}),
        ("picture-info", {"image": "x"}, {"confidence": "unknown", "depends_on": ["image"]}),
        ("echo", {}, {"confidence": "exact", "microcents": 0}),
    ],
)
async def test_an_estimate_says_how_sure_it_is(me, app, given, told):
    named = (await me.get(f"/apps/sandbox/{app}")).json()["id"]

    estimate = (await me.post(f"/store/apps/{named}/estimate", {"input": given})).json()

    assert told.items() <= estimate.items()
    assert "sandbox" in estimate["pricing_description"]


async def test_echo_gives_back_its_input(me):
    given = {"a": [1, {"b": None}], "ü": "\u2028"}

    assert (await me.run("sandbox/echo", given))["output"] == given


async def test_template_fills_the_places_it_has_strings_for(me):
    given = {"template": "{1}, {2}! {3} {1}", "strings": ["Hello", "World"]}

    assert (await me.run("sandbox/template", given))["output"] == {"result": "Hello, World! {3} Hello"}


async def test_draw_makes_a_real_png_of_the_size_asked(me):
    told = await me.run("sandbox/draw", {"prompt": "a lake", "width": 48, "height": 32})
    picture = png.decode(await fetched(told["output"]["image"]))

    assert (picture.width, picture.height) == (48, 32)
    assert len(set(picture.rows)) > 16
    assert told["output"]["output_meta"]["outputs"][0]["width"] == 48
    assert told["usage_events"][0]["unit"] == "megapixel"
    assert len(told["logs"]) == 8


async def test_a_drawing_depends_on_its_prompt_and_seed_alone(me):
    async def drawn(**given):
        told = await me.run("sandbox/draw", {"width": 32, "height": 32, **given})
        return await fetched(told["output"]["image"])

    assert await drawn(prompt="a", seed=1) == await drawn(prompt="a", seed=1)
    assert await drawn(prompt="a", seed=1) != await drawn(prompt="a", seed=2)
    assert await drawn(prompt="a") != await drawn(prompt="b")


async def test_draw_checks_its_setup(me):
    answer = await me.post("/apps/run", {"app": "sandbox/draw", "input": {"prompt": "x"}, "setup": {"palette": "no"}})

    assert answer.status_code == 400
    assert "setup.palette" in answer.json()["detail"]


@pytest.mark.parametrize("channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
async def test_picture_info_decodes_and_shrinks_a_png(me, channels):
    colour, count = channels
    uri = (await me.upload(_png(200, 100, colour, count)))["uri"]

    output = (await me.run("sandbox/picture-info", {"image": uri}))["output"]
    thumbnail = png.decode(await fetched(output["thumbnail"]))

    assert (output["width"], output["height"], output["format"]) == (200, 100, "png")
    assert (thumbnail.width, thumbnail.height) == (50, 25)
    assert thumbnail.rows[0][:3] == bytes([9, 9, 9])
    assert "note" not in output


@pytest.mark.parametrize(("kind", "body"), [("gif", GIF), ("jpeg", JPEG), ("webp", WEBP)])
async def test_picture_info_reads_the_size_of_others_and_says_that_the_thumbnail_is_none(me, kind, body):
    output = (await me.run("sandbox/picture-info", {"image": (await me.upload(body))["uri"]}))["output"]

    assert (output["format"], output["width"], output["height"], output["bytes"]) == (kind, 7, 5, len(body))
    assert "placeholder" in output["note"]


@pytest.mark.parametrize("body", [b"", b"no picture", png.SIGNATURE, b"\xff\xd8\xff", b"GIF89a", b"RIFF1234WEBPVP8 "])
async def test_what_is_no_picture_fails_clearly(me, body):
    told = await me.run("sandbox/picture-info", {"image": (await me.upload(body))["uri"]})

    assert told["status"] == 11
    assert "picture" in told["error"]


async def test_a_small_png_that_promises_the_world_is_not_decoded(me):
    bomb = png.SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))

    output = (await me.run("sandbox/picture-info", {"image": (await me.upload(bomb))["uri"]}))["output"]

    assert "too large" in output["note"]


async def test_every_filter_of_png_is_undone():
    rows = [bytes([0, 10, 20, 30]), bytes([1, 10, 5, 5]), bytes([2, 1, 1, 1]), bytes([3, 5, 5, 5]), bytes([4, 1, 1, 1])]
    head = struct.pack(">IIBBBBB", 3, 5, 8, 0, 0, 0, 0)
    body = png.SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(b"".join(rows)))

    grays = [row[::3] for row in png.decode(body).rows]

    assert [list(row) for row in grays] == [[10, 20, 30], [10, 15, 20], [11, 16, 21], [10, 18, 24], [11, 19, 25]]


async def test_a_foreign_url_is_not_fetched_and_the_failure_says_why(me):
    told = await me.run("sandbox/picture-info", {"image": "https://example.com/cat.png"})

    assert told["status"] == 11
    assert "no network" in told["error"]


async def test_a_data_uri_is_read(me):
    told = await me.run("sandbox/picture-info", {"image": "data:image/gif;base64,R0lGODlhBwAFAA=="})

    assert (told["output"]["width"], told["output"]["height"]) == (7, 5)


async def test_slow_passes_every_status_and_logs_every_step(me):
    task = await me.begin("sandbox/slow", {"seconds": 3, "steps": 3})
    lines = await me.lines(task["id"])
    last = lines[-1]

    assert [event["status"] for event in last["events"]] == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert [log["content"] for log in last["logs"]] == ["step 1/3", "step 2/3", "step 3/3"]
    assert last["output"] == {"steps": 3, "seconds": 3.0}
    steps = [line["data"]["output"]["steps"] for line in lines if "output" in line.get("fields", ())]
    assert steps == [1, 2, 3]


async def test_slow_fails_at_the_step_it_is_told(me):
    told = await me.run("sandbox/slow", {"seconds": 1, "steps": 4, "fail_at": 3})

    assert (told["status"], told["error"]) == (11, "step 3 of 4 failed, as asked")
    assert len(told["logs"]) == 2


async def test_fail_fails_with_its_message(me):
    told = await me.run("sandbox/fail", {"message": "no luck"})

    assert (told["status"], told["error"], told["output"]) == (11, "no luck", None)


async def test_stream_text_streams_words_and_repeats_the_whole(me):
    task = await me.begin("sandbox/stream-text", {"text": "one two  three", "chunk_ms": 100})
    lines = await me.lines(task["id"])
    deltas = [line["data"] for line in lines if line.get("event") == "delta"]

    assert [(one["seq"], one["delta"]["response"]) for one in deltas] == [(1, "one"), (2, " two"), (3, "  three")]
    assert lines[-1]["output"] == {"response": "one two  three"}


async def test_an_app_that_needs_something_is_refused_with_every_requirement(me):
    answer = await me.post("/apps/run", {"app": "sandbox/needs-secret", "input": {}})

    assert answer.status_code == 412
    told = answer.json()
    assert told["satisfied"] is False
    assert [one["type"] for one in told["errors"]] == ["secret", "credential", "scope"]
    assert told["errors"][2]["action"]["scopes"] == ["sheets.readonly"]


@pytest.mark.parametrize(
    "which", ["image", "audio", "video", "text", "nested", "list", "large_text", "numbers", "unicode", "empty"]
)
async def test_outputs_emits_every_kind(me, which):
    told = await me.run("sandbox/outputs", {"which": which})

    assert told["status"] == 10
    assert bool(told["output"]) is (which != "empty")


async def test_the_sound_is_a_real_wav(me):
    output = (await me.run("sandbox/outputs", {"which": "audio"}))["output"]

    sound = await fetched(output["audio"])

    assert sound.startswith(b"RIFF")
    assert struct.unpack("<I", sound[4:8])[0] == len(sound) - 8


def test_a_size_is_read_from_webps_three_kinds():
    lossless = b"RIFF....WEBPVP8L....\x2f" + ((6) | (4 << 14)).to_bytes(4, "little")
    extended = b"RIFF....WEBPVP8X........" + (6).to_bytes(3, "little") + (4).to_bytes(3, "little")

    assert [measure(body)[1:] for body in (WEBP, lossless, extended)] == [(7, 5)] * 3


def _png(width, height, colour, channels):
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    rows = (b"\x00" + bytes([9]) * width * channels) * height
    return png.SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
