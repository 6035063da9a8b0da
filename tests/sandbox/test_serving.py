"""The sandbox on its port: it comes up, it goes away, and it stays out of its host's business."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import sys

import anyio
import httpx2
import pytest

from inferencesh_sandbox import serving
from inferencesh_sandbox.owners import BoundedStore
from inferencesh_sandbox.wire import Problem
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def test_two_sandboxes_live_side_by_side():
    async with serving(Sandbox()) as one, serving(Sandbox()) as other, httpx2.AsyncClient() as http:
        assert one != other
        assert [(await http.get(f"{url}/healthz")).status_code for url in (one, other)] == [200, 200]


def has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")
async def test_it_serves_the_newer_address_family_too():
    async with serving(Sandbox(), host="::1") as url, httpx2.AsyncClient() as http:
        assert (await http.get(f"{url}/healthz")).status_code == 200


async def test_it_stops_soon_though_a_stream_is_open_and_a_request_is_held(caplog):
    sandbox = Sandbox()
    gate = sandbox.faults.hold("GET", "/me")
    headers = {"authorization": "Bearer inf_me"}

    async with httpx2.AsyncClient(headers=headers, timeout=10) as http, anyio.create_task_group() as group:

        async def hang(url):
            with pytest.raises(httpx2.TransportError):
                await http.get(url)

        with anyio.fail_after(5):
            async with serving(sandbox) as url:
                body = {"app": "sandbox/slow", "input": {"seconds": 3600}}
                task = (await http.post(f"{url}/apps/run", json=body)).json()["data"]
                group.start_soon(hang, f"{url}/tasks/{task['id']}/stream")
                group.start_soon(hang, f"{url}/me")
                await gate.reached.wait()

    assert caplog.messages == []  # uvicorn says so when it has to cancel what would not end


def test_it_ends_in_silence_when_it_is_cancelled(caplog):
    async def cancelled():
        with anyio.CancelScope() as scope:
            async with serving(Sandbox()):
                scope.cancel()
                await anyio.sleep_forever()

    anyio.run(cancelled)  # a task that is left then is cancelled with the loop, and says so

    assert caplog.messages == []


async def test_it_leaves_signals_alone():
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    async with serving(Sandbox()):
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_port_that_is_taken_is_an_error_at_once():
    async with serving(Sandbox()) as url:
        taken = int(url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=f"Errno {errno.EADDRINUSE}]|WinError {errno.EADDRINUSE}]"):
            await serving(Sandbox(), port=taken).__aenter__()


async def test_an_error_inside_comes_out_as_it_is():
    with pytest.raises(KeyError):
        async with serving(Sandbox()):
            raise KeyError


def test_it_imports_nothing_else_of_the_package():
    asked = "import sys, inferencesh_sandbox; print(*[name for name in sys.modules if 'inferencesh_mcp' in name])"

    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()

    assert [] == told


def test_a_full_shelf_lets_the_oldest_go_that_can():
    shelf = BoundedStore[int](2, lambda number: number > 0)
    for number in (-1, 5, 6):
        shelf.put(str(number), number)

    assert list(shelf) == [-1, 6]
    shelf.remove("6")
    shelf.put("-2", -2)
    with pytest.raises(Problem):
        shelf.put("7", 7)
