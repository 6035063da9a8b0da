"""Addresses that must not be fetched, sent to or followed, whoever names them: threats T-8, T-9 and T-10."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from tests.conftest import KEY, LOCAL, WAYS, Connect, Upstream, Way
from tests.results import error, payload, text_of
from tests.support.faults import Status
from tests.system.faults.hosts import over
from tests.system.threats.conftest import Tripwire

pytestmark = pytest.mark.anyio

IN_PROCESS = [way for way in WAYS if way.transport != "stdio"]

# Literal addresses, each in the class of its key; nothing here needs a name server.
LITERAL = {
    "loopback": ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"],
    "decimal, octal, hexadecimal, short": ["2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.1", "0"],
    "wide digits and dots": ["①②⑦.⓪.⓪.①", "127。0。0。1"],
    "RFC 1918": ["10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "3232235777"],
    "link-local, where clouds keep their metadata": ["169.254.169.254", "169.254.170.2", "[fe80::1]", "[fd00:ec2::254]"],
    "carrier-grade NAT": ["100.64.0.1", "100.100.100.200", "100.127.255.254"],
    "unique local, site local": ["[fc00::1]", "[fd12:3456:789a::1]", "[fec0::1]"],
    "IPv4 inside IPv6: mapped, compatible, NAT64, 6to4, Teredo": [
        "[::ffff:127.0.0.1]", "[::ffff:a00:1]", "[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::a00:1]", "[64:ff9b:1::a00:1]",
        "[2002:7f00:1::]", "[2002:a9fe:a9fe::]", "[2001:0:53aa:64c:0:0:f5ff:fffe]",
    ],
    "nobody's, everybody's, tests', kept for later": [
        "0.0.0.0", "[::]", "255.255.255.255", "224.0.0.1", "[ff02::1]", "192.0.2.1", "198.18.0.1", "240.0.0.1",
        "[2001:db8::1]", "[4000::1]", "[100::1]",
    ],
}  # fmt: skip
HOSTS = [host for hosts in LITERAL.values() for host in hosts]

# What is no plain https URL.
SHAPES = [
    "http://example.com/a.png", "HTTP://example.com/", "https://user@example.com/", "https://user:word@example.com/",
    "https://:word@example.com/", "https://example.com:0/", "https://example.com:99999/", "https://example.com:x/",
    "https://", "https:///etc/passwd", "https:example.com", "https:/example.com/", "https://[", "https://[::1", "https://[::1]x/",
    "https://[fe80::1%25eth0]/", "https://[v1.x]/", "https://\u2100.example/", "https://exa mple.com/", "https://example.com\t/",
    "https://\\127.0.0.1/", "https://%31%32%37.0.0.1/", "https://a..b/", "https://" + "a" * 70 + ".example/",
    "https://" + "a." * 200 + "example/", "https://127.0.0.1:\x00/", "https://exämple.invalid:1/\r\nx: y",
]  # fmt: skip


def addresses(tripwire: Tripwire) -> Iterator[str]:
    for scheme in ("http", "https"):
        for host in HOSTS:
            yield f"{scheme}://{host}:{tripwire.port}/latest/meta-data/"
    yield f"http://user:word@127.0.0.1:{tripwire.port}/"
    yield from SHAPES


async def test_a_private_address_is_never_fetched(connect: Connect, upstream: Upstream, tripwire: Tripwire) -> None:
    """Whatever the class of the address and however it is written: refused, with nothing asked of anybody."""
    async with connect() as client:
        failures = {url: error(await client.call_tool("file_upload", {"source": url})) for url in addresses(tripwire)}

    assert {} == {url: failure for url, failure in failures.items() if failure["code"] != "file_refused"}
    fetched = [url for url, failure in failures.items() if "could not be fetched" in failure["message"]]
    assert [] == fetched, "refused before anything was tried"
    assert [] == tripwire.touched
    assert () == upstream.sandbox.ledger.requests()


@pytest.mark.parametrize("way", IN_PROCESS, indirect=True, ids=str)
async def test_a_host_name_is_judged_by_its_addresses(
    connect: Connect, upstream: Upstream, tripwire: Tripwire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata services, names that lead inside, and a name of which one address does: none of them is connected to."""
    names = {
        "metadata.google.internal": ["169.254.169.254"],
        "instance-data": ["169.254.169.254"],
        "127.0.0.1.nip.io": ["127.0.0.1"],
        "both.example": ["93.184.216.34", "127.0.0.1"],
        "six.example": ["2606:4700::1111", "::ffff:10.0.0.1"],
        "scoped.example": ["fe80::1%eth0"],
    }

    async def resolve(host: str, port: int) -> list[Any]:
        return [(2, 1, 6, "", (address, port)) for address in names[host]]

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    async with connect() as client:
        failures = {
            name: error(await client.call_tool("file_upload", {"source": f"https://{name}:{tripwire.port}/x"}))
            for name in names
        }

    assert {"file_refused"} == {failure["code"] for failure in failures.values()}
    assert all("not a public address" in failure["message"] for failure in failures.values())
    assert [] == tripwire.touched
    assert () == upstream.sandbox.ledger.requests()


async def test_an_address_in_an_input_is_sent_to_the_platform_unread(
    connect: Connect, upstream: Upstream, tripwire: Tripwire
) -> None:
    """It goes on as it came, unread: the platform is outside, and sees nothing of this network."""
    url = f"http://127.0.0.1:{tripwire.port}/a.png"
    odd = "https://[fe80::1"  # no URL at all, and no reason to break
    async with connect() as client:
        results = [
            await client.call_tool("app_run", {"app": "sandbox/picture-info", "input": {"image": item}})
            for item in (url, odd)
        ]

    assert ["task_failed", "task_failed"] == [error(result)["code"] for result in results]
    assert [] == tripwire.touched
    assert not upstream.sandbox.ledger.requests("POST", "/files")


def record(upload_url: str) -> Status:
    file = {"id": "f1", "uri": "https://files.example/f1.txt", "upload_url": upload_url, "content_type": "text/plain"}
    return Status(code=200, body=json.dumps([file]))


async def test_no_file_is_uploaded_to_a_private_address(
    connect: Connect, upstream: Upstream, tripwire: Tripwire
) -> None:
    """Even when the platform itself hands the address out; and no app runs with a file that was not sent."""
    hostile = [*addresses(tripwire), "file:///etc/passwd", "ftp://example.com/"]
    async with connect() as client:
        failures: dict[str, Any] = {}
        for url in hostile:
            upstream.sandbox.faults.add(record(url), method="POST", path="/files")
            failures[url] = error(await client.call_tool("file_upload", {"source": "data:,x"}))
        upstream.sandbox.faults.add(record(hostile[0]), method="POST", path="/files")
        arguments = {"app": "sandbox/picture-info", "input": {"image": "data:image/png;base64,AAAA"}}
        ran = error(await client.call_tool("app_run", arguments))

    wrong = {url: failure["code"] for url, failure in failures.items() if failure["code"] != "file_refused"}
    assert {} == wrong
    assert ("file_refused", "not_started") == (ran["code"], ran["outcome"])
    assert [] == tripwire.touched
    assert () == upstream.sandbox.ledger.starts
    assert not upstream.sandbox.ledger.requests("PUT")


async def test_an_upload_ticket_holds_only_an_https_address(connect: Connect, upstream: Upstream) -> None:
    """Its curl line is meant to be run: what a shell or curl would read otherwise is refused."""
    hostile = [
        "'; rm -rf ~; '", "$(id)'", "https://x/'$(id)'", "https://x/\nid", "https://x/ -o /etc/passwd", "https://x/\\", 'https://x/"', "https://x/`id`", "https://x/$a", "--config=/tmp/x",
        "-o/tmp/x", "file:///etc/passwd", "ftp://x/y", "scp://x/y", "https://x/" + "a" * 9000,
    ]  # fmt: skip
    async with connect() as client:
        codes = {}
        upstream.sandbox.faults.add(record("https://["), method="POST", path="/files")
        no_address = await client.call_tool("file_upload", {"filename": "a.txt"})
        for url in hostile:
            upstream.sandbox.faults.add(record(url), method="POST", path="/files")
            codes[url] = error(await client.call_tool("file_upload", {"filename": "a.txt"}))["code"]

    assert {"upstream_error"} == set(codes.values()), codes
    assert "The address expires soon" in text_of(no_address)


HOSTILE_OUTPUTS = [
    "https://[/a.png", "https://[::1/a.png", "https://\u2100/a.png", "http://169.254.169.254/a.png", "https://user:word@x/a.png",
    "https://127.0.0.1:{port}/a.png", "http://127.0.0.1:{port}/a.png", "inf://x/a.png", "https://x:99999/a.png", "file:///etc/passwd.png",
    "javascript:alert(1)//a.png", "https://x/%00%2e%2e%2fa.png", "https://x/\u202egnp.exe.png", "https://" + "x" * 1900 + "/a.png",
]  # fmt: skip


async def test_a_run_survives_hostile_addresses_in_its_output(
    connect: Connect, upstream: Upstream, tripwire: Tripwire
) -> None:
    """An app may return anything as an address: the paid run is still answered, and none of them is fetched."""
    outputs = [url.replace("{port}", str(tripwire.port)) for url in HOSTILE_OUTPUTS]
    async with connect() as client:
        results = [await run_echo(client, {"image": url, "file": {"uri": url}}) for url in outputs]

    statuses = {url: payload(result).get("status") for url, result in zip(outputs, results, strict=True)}
    assert {"completed"} == set(statuses.values()), statuses
    assert not [result for result in results if any(part.type == "image" for part in result.content)]
    assert [] == tripwire.touched
    assert len(outputs) == len(upstream.sandbox.ledger.starts)


@pytest.mark.parametrize("way", LOCAL, indirect=True, ids=str)
async def test_no_file_is_saved_from_a_hostile_address(connect: Connect, tripwire: Tripwire, folder: Path) -> None:
    """Neither by its address nor as a task's output; a typed answer each time."""
    outputs = [url.replace("{port}", str(tripwire.port)) for url in HOSTILE_OUTPUTS if not url.startswith("https://x/")]
    async with connect() as client:
        by_address = [await client.call_tool("file_save", {"uris": [url]}) for url in outputs]
        ran = await run_echo(client, {"image": f"http://127.0.0.1:{tripwire.port}/a.png"})
        of_task = await client.call_tool("file_save", {"task_ids": [payload(ran)["task_id"]]})

    assert {"file_refused"} == {error(result)["code"] for result in [*by_address, of_task]}
    assert [] == tripwire.touched
    assert [] == list(folder.iterdir())


async def run_echo(client: Client, input_: dict[str, Any]) -> CallToolResult:
    return await client.call_tool("app_run", {"app": "sandbox/echo", "input": input_})


REDIRECTS = (301, 302, 303, 307, 308)


@pytest.fixture(params=["same host", "another host"])
def elsewhere(request: pytest.FixtureRequest, upstream: Upstream, tripwire: Tripwire) -> str:
    return f"{upstream.url}/me" if request.param == "same host" else f"http://127.0.0.1:{tripwire.port}/me"


@over(Way("memory", "2026"), Way("stdio", "2025"), Way("http", "2026"))
async def test_no_call_follows_a_redirect(
    connect: Connect, upstream: Upstream, tripwire: Tripwire, elsewhere: str
) -> None:
    """A redirect is an error: neither the key nor the body goes anywhere else, and nothing is asked twice."""
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "/apps/list": ("app_list", {}),
        "/apps/run": ("app_run", {"app": "sandbox/echo", "input": {}}),
        "/tasks/abc": ("task_get", {"task_id": "abc"}),
        "/tasks/abc/cancel": ("task_cancel", {"task_id": "abc"}),
        "/sessions/abc": ("session_end", {"session_id": "abc"}),
        "/files": ("file_upload", {"source": "data:,x"}),
    }
    async with connect() as client:
        for code in REDIRECTS:
            for path, (tool, arguments) in calls.items():
                upstream.sandbox.faults.add(Status(code=code, headers={"location": elsewhere}), path=path)
                before = len(upstream.sandbox.ledger.requests(path=path))
                result = await client.call_tool(tool, arguments)
                assert "upstream_error" == error(result)["code"], (code, path)
                assert 1 == len(upstream.sandbox.ledger.requests(path=path)) - before
                assert str(tripwire.port) not in text_of(result)

    assert () == upstream.sandbox.ledger.requests(path="/me") == upstream.sandbox.ledger.starts
    assert [] == tripwire.touched


@over(Way("memory", "2026"), Way("stdio", "2025"), Way("http", "2026"))
async def test_files_and_streams_follow_no_redirect_to_another_host(
    connect: Connect, upstream: Upstream, tripwire: Tripwire, elsewhere: str
) -> None:
    """Bytes are fetched only from where they might be anyway, and sent nowhere; a stream's is read as a break."""
    faults, ledger = upstream.sandbox.faults, upstream.sandbox.ledger
    async with connect() as client:
        stored = payload(await client.call_tool("file_upload", {"source": "data:,hello"}))
        for code in REDIRECTS:
            redirect_answer = Status(code=code, headers={"location": elsewhere})
            faults.add(redirect_answer, method="GET", path="/app/files/**")
            fetched = await client.call_tool("file_upload", {"source": stored["uri"]})
            faults.add(redirect_answer, method="PUT")
            uploaded = await client.call_tool("file_upload", {"source": "data:,hello"})
            faults.add(redirect_answer, path="/tasks/*/stream")
            ran = await run_echo(client, {"n": code})

            assert ["file_refused", "upstream_error"] == [error(fetched)["code"], error(uploaded)["code"]]
            assert {"n": code} == payload(ran)["output"]

    assert {""} >= {entry.caller for entry in ledger.requests(path="/me")}, "a download's redirect takes no key along"
    assert {"GET"} >= {entry.method for entry in ledger.requests(path="/me")}
    assert [] == tripwire.touched


@pytest.mark.finding("B14")
@over(Way("memory", "2026"))
async def test_a_file_is_fetched_through_a_few_redirects(
    connect: Connect, upstream: Upstream, tripwire: Tripwire
) -> None:
    """Short links and storage redirect. Each address is held to the same rules as the first, and none sees the key."""
    faults, ledger = upstream.sandbox.faults, upstream.sandbox.ledger

    def redirect(start: str, target: str, code: int = 302) -> None:
        redirect_answer = Status(code=code, headers={"location": target})
        faults.add(redirect_answer, method="GET", path=f"/app/files/{start}", times=-1)

    async with connect() as client:
        stored = payload(await client.call_tool("file_upload", {"source": "data:text/plain,hello"}))
        for number, code in enumerate(REDIRECTS):
            redirect(f"s/{number}", f"{number + 1}" if number < 4 else stored["uri"], code)
        redirect("s/again", "0")
        redirect("s/round", "round")
        for name, target in {"lan": "https://10.0.0.1/x", "plain": "http://example.com/x", "other": f"http://127.0.0.1:{tripwire.port}/",
                             "file": "file:///etc/hostname", "odd": "http://[x"}.items():  # fmt: skip
            redirect(f"s/{name}", target)
        fetched = await client.call_tool("file_upload", {"source": f"{upstream.url}/app/files/s/0"})
        refused = {
            name: await client.call_tool("file_upload", {"source": f"{upstream.url}/app/files/s/{name}"})
            for name in ("again", "round", "lan", "plain", "other", "file", "odd")
        }

    assert (False, 5) == (fetched.is_error, payload(fetched)["bytes"])
    assert dict.fromkeys(refused, "file_refused") == {name: error(result)["code"] for name, result in refused.items()}
    assert "redirects more than 5 times" in text_of(refused["round"])
    assert [] == tripwire.touched
    assert {""} == {entry.caller for entry in ledger.requests("GET", "/app/files/**")}


async def test_a_file_is_moved_without_the_key(connect: Connect, upstream: Upstream) -> None:
    """Whoever keeps the bytes never sees it, and needs none."""
    async with connect() as client:
        stored = payload(await client.call_tool("file_upload", {"source": "data:,hello"}))
        await client.call_tool("file_upload", {"source": stored["uri"]})
        drawn = await client.call_tool("app_run", {"app": "sandbox/draw", "input": {"prompt": "x"}})

    moved = [*upstream.sandbox.ledger.requests("PUT"), *upstream.sandbox.ledger.requests("GET", "/app/files/**")]
    assert 2 + 2 + 1 <= len(moved)
    assert {""} == {entry.caller for entry in moved}
    assert KEY not in drawn.model_dump_json()


@pytest.mark.fault("X-48")
@over(Way("memory", "2026"), Way("http", "2026"))
async def test_a_name_is_connected_to_at_the_address_that_was_checked(
    connect: Connect, tripwire: Tripwire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name's first answer is public, every later one leads here: the connection goes to the first, by its number."""
    answers = iter(["93.184.216.34"])
    lookups: list[str] = []
    reached: list[str] = []

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        lookups.append(host)
        return [(2, 1, 6, "", (next(answers, "127.0.0.1"), port))]

    loop = type(asyncio.get_running_loop())
    connects = loop.sock_connect

    async def reach(self: Any, sock: Any, address: Any) -> Any:
        if address[0] == "127.0.0.1":
            return await connects(self, sock, address)
        reached.append(address[0])
        raise OSError("nobody leaves this machine")

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    async with connect() as client:
        monkeypatch.setattr(loop, "sock_connect", reach)
        result = await client.call_tool("file_upload", {"source": f"https://turns.example:{tripwire.port}/x"})

    assert error(result)["code"]
    assert ["turns.example"] == lookups[:1]
    assert {"93.184.216.34"} == set(reached)
    assert [] == tripwire.touched
