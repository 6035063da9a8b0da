"""Files in and out, as a host sees it."""

from __future__ import annotations

import base64
import hashlib
import threading
import tracemalloc
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from inferencesh_mcp.flows.download import MAX_NAME_LENGTH, safe_name
from inferencesh_mcp.flows.file_sources import LONG_TEXT, Bytes, decode_text, from_base64
from tests.conftest import LOCAL, Connect, Upstream, Way
from tests.results import error, payload, run, text_of
from tests.support.faults import Drip
from tests.support.systems import POSIX
from tests.system.faults.hosts import NEAR, over

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_progress_of_a_file_counts_bytes(connect: Connect, upstream: Upstream) -> None:
    """Of as many as the file has, where that is known."""
    updates: list[tuple[float, float | None, str]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        updates.append((progress, total, message or ""))

    async with connect() as client:
        file = payload(await client.call_tool("file_upload", {"base64": base64.b64encode(bytes(40_000)).decode()}))
        upstream.sandbox.faults.add(Drip(size=2_000, every=0.1), method="GET", path="/app/files/**")
        result = await client.call_tool("file_save", {"uris": [file["uri"]]}, progress_callback=hear)

    numbers = [progress for progress, _, _ in updates]
    assert 40_000 == payload(result)["files"][0]["bytes"]
    assert sorted(set(numbers)) == numbers
    assert 40_000 == updates[-1][1] >= updates[-1][0] > 2_000
    assert "saving" in updates[-1][2]


@over(*NEAR)
async def test_a_file_is_uploaded_from_base64(connect: Connect) -> None:
    """Their type is told, or read off their first bytes."""
    async with connect() as client:
        told_type = payload(await client.call_tool("file_upload", {"base64": "aGVsbG8=", "content_type": "text/plain"}))
        png = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
        read_type = payload(await client.call_tool("file_upload", {"base64": png, "filename": "a.png"}))
        broken = await client.call_tool("file_upload", {"base64": "%%%"})
        both = await client.call_tool("file_upload", {"base64": "aGVsbG8=", "source": "data:,x"})

    assert ("text/plain", 5) == (told_type["content_type"], told_type["bytes"])
    assert ("image/png", "a.png") == (read_type["content_type"], read_type["filename"])
    assert "base64 is broken" in text_of(broken)
    assert "not both" in text_of(both)


@over(*NEAR)
async def test_a_large_file_in_a_message_is_decoded_unchanged(connect: Connect, upstream: Upstream) -> None:
    """As base64 in short lines, and as a data URI in either form."""
    content = bytes(range(256)) * 4 * 1024
    encoded = base64.b64encode(content).decode()
    sent = [
        {"base64": "\n".join(encoded[at : at + 4] for at in range(0, len(encoded), 4))},
        {"base64": r"\r\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))},
        {"source": f"data:image/png;base64,{encoded}"},
        {"source": f"data:text/plain,{quote_from_bytes(content)}"},
    ]
    async with connect() as client:
        files = [payload(await client.call_tool("file_upload", arguments)) for arguments in sent]

    stored = [upstream.sandbox.store.by_uri(file["uri"]) for file in files]
    assert [content] * 4 == [b"".join(file.pieces()) for file in stored if file]


@pytest.mark.anyio
async def test_other_work_goes_on_while_a_large_text_is_decoded() -> None:
    threads: list[int] = []

    def decode(text: str) -> Bytes:
        threads.append(threading.get_ident())
        return from_base64(text, "")

    for length in (4, 2 * LONG_TEXT):
        assert length * 3 // 4 == (await decode_text(decode, "A" * length)).size
    assert threading.get_ident() == threads[0] != threads[1]


def test_of_a_long_name_only_the_beginning_is_cleaned() -> None:
    name = "né" * 5_000_000
    tracemalloc.start()
    try:
        safe = safe_name(name, "", "image/png")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert f"{'n-' * (MAX_NAME_LENGTH // 2)}.png" == safe
    assert peak < 1_000_000


@over(*NEAR)
async def test_a_public_file_is_recorded_as_public(connect: Connect) -> None:
    async with connect() as client:
        file = await client.call_tool("file_upload", {"source": "data:text/plain,hello", "public": True})
        listed = payload(await client.call_tool("file_list", {}))["files"]

    assert payload(file)["uri"] in [item["uri"] for item in listed]


@over(*NEAR)
async def test_a_file_is_deleted_by_its_uri_or_its_id(connect: Connect) -> None:
    async with connect() as client:
        first = payload(await client.call_tool("file_upload", {"source": "data:text/plain,a"}))
        second = payload(await client.call_tool("file_upload", {"source": "data:text/plain,b"}))
        await client.call_tool("file_delete", {"file": first["uri"]})
        await client.call_tool("file_delete", {"file": second["file_id"]})
        unknown = await client.call_tool("file_delete", {"file": "https://elsewhere.example/x.png"})
        listed = payload(await client.call_tool("file_list", {}))

    assert [] == listed["files"]
    assert "not_found" == payload(unknown)["error"]["code"]


CONTENT = bytes(range(256))
ENCODED = base64.b64encode(CONTENT).decode()
WRAPPED = base64.encodebytes(CONTENT).decode()


@pytest.mark.finding("F9")
@pytest.mark.parametrize(
    "form",
    [
        WRAPPED,
        WRAPPED.replace("\n", "\r\n"),
        WRAPPED.replace("\n", "\\n"),
        WRAPPED.replace("\n", "\N{NO-BREAK SPACE}\N{LINE SEPARATOR}"),
        f"  {ENCODED}\n",
        ENCODED.rstrip("="),
        base64.urlsafe_b64encode(CONTENT).decode(),
        base64.urlsafe_b64encode(CONTENT).decode().rstrip("="),
        f"data:application/x-thing;base64,{ENCODED}",
        f" data:application/x-thing;base64,{WRAPPED}",
    ],
)
@over(Way("memory", "2026"))
async def test_every_unambiguous_form_of_base64_is_accepted(connect: Connect, form: str) -> None:
    """As the bytes, and as a data URI's."""
    uri = form if form.lstrip().startswith("data:") else f"data:application/x-thing;base64,{form}"
    async with connect() as client:
        files = [
            payload(await client.call_tool("file_upload", {"base64": form})),
            payload(await client.call_tool("file_upload", {"source": uri})),
        ]

    names = {hashlib.sha256(CONTENT).hexdigest()[:12]}
    assert [256, 256] == [file["bytes"] for file in files]
    assert names == {file["filename"].partition(".")[0] for file in files}
    assert "application/x-thing" == files[1]["content_type"]


@pytest.mark.finding("F9")
@pytest.mark.parametrize(
    "form", ["%%%", "aGVsbG8=aGVsbG8=", "aGVsbG8x-", "aGV", "a", "/proc/self/environ", "/dev/stdin"]
)
@over(Way("memory", "2026"))
async def test_cut_or_invalid_base64_is_refused(connect: Connect, form: str) -> None:
    async with connect() as client:
        result = await client.call_tool("file_upload", {"base64": form})

    assert "base64 is broken" in text_of(result)


@POSIX
@pytest.mark.finding("F13")
@over(Way("memory", "2026"))
async def test_a_path_is_accepted_as_people_paste_it(
    connect: Connect, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In quotes, with a shell's backslashes, a leading @, spaces around it, or from the home; as a file of that very name first."""
    monkeypatch.setenv("HOME", str(folder.parent))
    (folder / "my picture (1).txt").write_text("hello")
    (folder / "odd").write_text("without the space")
    (folder / "odd ").write_text("odd")
    path, escaped = f"{folder}/my picture (1).txt", f"{folder}/my\\ picture\\ \\(1\\).txt"
    forms = [f'"{path}"', f"'{path}'", f"`{path}`", f"“{path}”", escaped, f"@{path}", f'@"{path}"', f"  {path}\n", f"'{escaped}'",
             f"file://{path}", f"'file://{path}'", f'"file://{folder}/my%20picture%20(1).txt"',
             "~/allowed/my picture (1).txt", "'~/allowed/my picture (1).txt'", "@~/allowed/my\\ picture\\ (1).txt"]  # fmt: skip
    async with connect() as client:
        files = {form: await client.call_tool("file_upload", {"source": form}) for form in forms}
        exact = payload(await client.call_tool("file_upload", {"source": f"{folder}/odd "}))
        missing = await client.call_tool("file_upload", {"source": f"'{folder}/gone.txt'"})
        ran = await run(client, "sandbox/picture-info", {"image": f'"{folder}/gone.png"'})

    assert [] == [
        form for form, file in files.items() if file.is_error or payload(file)["filename"] != "my picture (1).txt"
    ]
    assert 3 == exact["bytes"]
    assert error(missing)["message"] == f"{folder}/gone.txt does not exist."
    assert error(ran)["message"] == f"{folder}/gone.png does not exist."


@POSIX
@pytest.mark.finding("F13")
@over(Way("memory", "2026"))
async def test_a_path_that_fits_several_files_is_refused(connect: Connect, folder: Path) -> None:
    for name in ("a b.txt", "a\\ b.txt"):
        (folder / name).write_text(name)
    async with connect() as client:
        several = await client.call_tool("file_upload", {"source": f"'{folder}/a\\ b.txt'"})
        exact = payload(await client.call_tool("file_upload", {"source": f"{folder}/a\\ b.txt"}))

    assert "Several files match" in error(several)["message"]
    assert "a\\ b.txt" == exact["filename"]


@pytest.mark.finding("F14")
@pytest.mark.parametrize(
    "path", ["/mnt/user-data/uploads/x.png", "sandbox:/mnt/data/x.png", "/mnt/data/x.png", "'sandbox:/mnt/data/x.png'"]
)
@over(Way("memory", "2026"))
async def test_a_path_of_the_hosts_own_sandbox_gets_its_own_advice(connect: Connect, folder: Path, path: str) -> None:
    """With both ways in: an upload ticket, and an allowed folder."""
    async with connect() as client:
        uploaded = await client.call_tool("file_upload", {"source": path})
        ran = await run(client, "sandbox/picture-info", {"image": path})

    for result in (uploaded, ran):
        assert "the host's own sandbox" in error(result)["message"]
        assert "upload ticket" in error(result)["next"]
        assert str(folder) in error(result)["next"]


@pytest.mark.finding("B14")
@pytest.mark.parametrize("name", ["http", "inf", "https", "INF"])
@over(Way("memory", "2026"))
async def test_a_relative_name_is_not_an_address(connect: Connect, upstream: Upstream, name: str) -> None:
    async with connect() as client:
        uploaded = await client.call_tool("file_upload", {"source": name})
        ran = await run(client, "sandbox/picture-info", {"image": name})

    assert [True] * 2 == [
        "No readable folder has a file named" in error(result)["message"] for result in (uploaded, ran)
    ]
    assert () == upstream.sandbox.ledger.starts
