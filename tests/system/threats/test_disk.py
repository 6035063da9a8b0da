"""This machine's files, as somebody would like to have them: threats T-12 and T-14, through the tools."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ListRootsResult, Root

from tests.conftest import LOCAL, Connect, Upstream, Way, connected
from tests.results import error, payload, text_of
from tests.system.faults.hosts import over

pytestmark = pytest.mark.anyio
SECRET = "CANARY-of-the-disk"

REFUSED = {
    "../beside.txt": "outside the folders",
    "../allowed-not/private.txt": "outside the folders",
    "../allowed": "outside the folders",
    "below/../../beside.txt": "outside the folders",
    ".env": "hidden",
    ".ssh/config": "hidden",
    "below/.git/config": "hidden",
    "id_rsa": "secret",
    "ID_ED25519.bak": "secret",
    "server.PEM": "secret",
    "credentials": "secret",
    "secrets.json": "secret",
    "wallet.kdbx": "secret",
    "below": "is a folder",
    "gone.txt": "does not exist",
    "nul\0.txt": "The path has invalid characters",
}
if sys.platform == "win32":
    REFUSED |= {"a" * 300: "longer than Windows allows", "CON": "reserves", "a.txt:b": "reserves", ".env.": "hidden"}
else:
    REFUSED |= {
        "a" * 300: "cannot be opened",
        "link.txt": "Links are not followed",
        "through/private.txt": "Links are not followed",
        "pipe": "not a regular file",
    }


@pytest.fixture
def world(tmp_path: Path, folder: Path) -> Path:
    for name in ("allowed-not", "allowed/below/.git", "allowed/.ssh"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "allowed-not/private.txt").write_text(SECRET)
    for name in (
        "../beside.txt",
        "a.txt",
        *(name for name, why in REFUSED.items() if why in {"hidden", "secret"} and not name.endswith(".")),
    ):
        (folder / name).write_text(SECRET)
    if sys.platform != "win32":
        (folder / "link.txt").symlink_to(tmp_path / "allowed-not/private.txt")
        (folder / "through").symlink_to(tmp_path / "allowed-not")
        os.mkfifo(folder / "pipe")
    return tmp_path


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_only_plain_files_of_the_allowed_folder_are_uploaded(
    connect: Connect, upstream: Upstream, world: Path, folder: Path, way: Way
) -> None:
    """As a source and as an app's input, by path and by `file:` URI: refused with the reason, and nothing is sent."""
    async with connect() as client:
        for name, why in REFUSED.items():
            path = f"{folder}/{name}"
            uri = path if path.startswith("/") else f"/{path}"
            for source in (path, f"file://{uri}", f"file://localhost{uri}"):
                result = await client.call_tool("file_upload", {"source": source})
                assert ("file_refused", True) == (error(result)["code"], why in text_of(result)), (
                    name,
                    text_of(result),
                )
            ran = await client.call_tool("app_run", {"app": "sandbox/picture-info", "input": {"image": path}})
            assert ("file_refused", "not_started") == (error(ran)["code"], error(ran)["outcome"]), name
        for source in ("/etc/hostname", "~root/.profile", "~nobody-of-that-name/x", "b/a.txt", "file://elsewhere/a.txt",
                       "file://[/etc/hostname", "file:b/a.txt", "/proc/self/environ", "/dev/zero", *([f"{folder}/\ud800"] if way.transport == "memory" else [])):  # fmt: skip
            result = await client.call_tool("file_upload", {"source": source})
            assert "file_refused" == error(result)["code"], source

    assert not upstream.sandbox.ledger.requests("POST", "/files")
    assert () == upstream.sandbox.ledger.starts


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_text_that_looks_like_a_path_is_sent_as_text(connect: Connect, upstream: Upstream, world: Path) -> None:
    """Only where the app's schema says file is a path a path (I-15)."""
    path = str(world / "allowed/a.txt")
    async with connect() as client:
        echoed = await client.call_tool("app_run", {"app": "sandbox/echo", "input": {"prompt": path, "file": path}})
        drawn = await client.call_tool("app_run", {"app": "sandbox/draw", "input": {"prompt": path}})

    assert {"prompt": path, "file": path} == payload(echoed)["output"]
    assert not drawn.is_error
    assert not upstream.sandbox.ledger.requests("POST", "/files")


Roots = Callable[..., Any]


def opening(*folders: str) -> Roots:
    async def told_when_asked(_context: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=folder) for folder in folders])

    return told_when_asked


@over(Way("memory", "2025"), Way("stdio", "2025"))
async def test_a_hosts_root_allows_its_folder(way: Way, environ: dict[str, str], world: Path) -> None:
    """Where the older protocol offers roots, the person's choice in the host counts; its secrets stay closed."""
    root = world / "a root"
    root.mkdir()
    for name in ("note.txt", ".env"):
        (root / name).write_text(name)
    async with connected(way, environ, list_roots_callback=opening(root.as_uri())) as client:
        uploaded = await client.call_tool("file_upload", {"source": f"'{root / 'note.txt'}'"})
        hidden = await client.call_tool("file_upload", {"source": str(root / ".env")})
        beside = await client.call_tool("file_upload", {"source": str(world / "beside.txt")})

    assert ("note.txt", 8) == (payload(uploaded)["filename"], payload(uploaded)["bytes"])
    assert ["file_refused"] * 2 == [error(hidden)["code"], error(beside)["code"]]


@over(Way("memory", "2025"), Way("stdio", "2025"))
@pytest.mark.parametrize(
    "roots",
    [
        ["file:///"],
        ["file://"],
        ["file:///{home}"],
        ["file:///{home}/"],
        ["file:///{home}/.."],
        ["file:///{world}/allowed/.."],
        ["file:///a%00b"],
        [],
    ],
    ids=lambda roots: " ".join(roots) or "none",
)
async def test_a_root_that_is_too_wide_allows_nothing(
    way: Way, environ: dict[str, str], world: Path, roots: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root of all, a home, whatever holds a home, and what is no folder's name."""
    home = world / "homes/me"
    home.mkdir(parents=True)
    (home / "note.txt").write_text(SECRET)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    uris = [root.replace("file:///{home}", home.as_uri()).replace("file:///{world}", world.as_uri()) for root in roots]
    async with connected(way, environ, list_roots_callback=opening(*uris)) as client:
        result = await client.call_tool("file_upload", {"source": str(home / "note.txt")})

    assert ("file_refused", True) == (error(result)["code"], "outside the folders" in text_of(result))


@over(Way("memory", "2025"), Way("stdio", "2025"))
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the client, which knows better
@pytest.mark.parametrize("root", ["none", "https://elsewhere.example/roots"])
async def test_a_host_that_fails_to_list_its_roots_allows_nothing(
    way: Way, environ: dict[str, str], world: Path, root: str
) -> None:
    async def fails(_context: Any) -> ListRootsResult:
        if root == "none":
            raise RuntimeError("no roots today")
        return ListRootsResult(roots=[Root.model_construct(uri=root)])

    async with connected(way, environ, list_roots_callback=fails) as client:
        outside = await client.call_tool("file_upload", {"source": str(world / "beside.txt")})
        inside = await client.call_tool("file_upload", {"source": str(world / "allowed/a.txt")})

    assert ("file_refused", False) == (error(outside)["code"], inside.is_error)


@over(Way("http", "2025"), Way("http", "2026"))
async def test_a_remote_caller_cannot_name_a_local_file(
    way: Way, environ: dict[str, str], upstream: Upstream, world: Path, folder: Path, opened: list[str]
) -> None:
    """Whatever a path is put into: refused, and the server never so much as opens or makes anything of that name."""
    marked = f"{folder}/a.txt"
    names = [marked, f"file://{marked}", f"file:{marked}", f"FILE://localhost{marked}", f"{folder}/below/../a.txt", "~/a.txt",
             "a.txt", "./a.txt", "\\\\host\\share\\a.txt", "C:\\a.txt", "/proc/self/environ", "/dev/stdin"]  # fmt: skip
    async with connected(way, environ, list_roots_callback=opening(folder.as_uri())) as client:
        await client.call_tool("app_get", {"app": "sandbox/picture-info"})
        opened.clear()
        for name in names:
            results = [
                await client.call_tool("file_upload", {"source": name}),
                await client.call_tool("app_run", {"app": "sandbox/picture-info", "input": {"image": name}}),
                await client.call_tool("app_run_many", {"app": "sandbox/picture-info", "inputs": [{"image": name}]}),
                await client.call_tool("app_run", {"app": "sandbox/picture-info", "input": {"image": name}, "dry_run": True}),
            ]  # fmt: skip
            assert {"file_refused"} == {error(result)["code"] for result in results}, name
            by_base64 = await client.call_tool("file_upload", {"base64": name})
            assert by_base64.is_error, "a path is no base64"

    assert [] == [path for path in opened if str(folder.parent) in path or "/proc/self" in path or "a.txt" in path]
    assert not upstream.sandbox.ledger.requests("POST", "/files")
    assert () == upstream.sandbox.ledger.starts


@over(Way("memory", "2026"))
async def test_the_tripwire_sees_a_local_callers_file(
    connect: Connect, world: Path, folder: Path, opened: list[str]
) -> None:
    """What is opened for a local caller is seen by the same means."""
    async with connect() as client:
        await client.call_tool("file_upload", {"source": f"{folder}/a.txt"})

    assert [path for path in opened if path.endswith("a.txt")]
