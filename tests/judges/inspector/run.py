"""Let the MCP Inspector judge the server, unmodified, in both eras: `python tests/judges/inspector/run.py`.

What `package.json` pins is installed from npm the first time, into `.venv/inspector-node` or the folder that
`INSPECTOR_DIR` names. No install script is run: Node comes as a package that holds nothing but the binary.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "official"))  # its checks are named and counted the same way

from checks import Checks  # noqa: E402
from npm import installed, node  # noqa: E402
from serving import serving  # noqa: E402

from inferencesh_mcp.server import TOOLS  # noqa: E402

ERAS = {"2025": "legacy", "2026": "modern"}
PINS = (
    *(
        f"sandbox/{name}"
        for name in ("draw", "picture-info", "slow", "fail", "stream-text", "template", "count", "llm")
    ),
    *(f"sandbox/memory:{name}" for name in ("set_value", "get_value", "increment", "get_all")),
    *("hero=sandbox/echo", "sandbox/outputs", "sandbox/needs-secret", "sandbox/echo", "sketch=sandbox/draw"),
    *("look=sandbox/picture-info", "sums=sandbox/count@latest", "slowly=sandbox/slow:run"),
)
"""Twenty apps with tools of their own: the sandbox has not so many, but functions and aliases of them."""
SERVER = [sys.executable, "-m", "inferencesh_mcp", "--sandbox", f"--pin={','.join(PINS)}"]
NEEDED = {"app_list", "app_get", "app_run", "task_get", "task_cancel", "draw", "memory_get_value", "hero", "slowly"}
"""What a host must find, whatever else there is."""


OWN = {definition.function.__name__ for definition in TOOLS}


def folder() -> Path:
    return Path(os.environ.get("INSPECTOR_DIR") or HERE.parents[2] / ".venv" / "inspector-node").absolute()


@dataclass(frozen=True)
class Told:
    """How one call of the Inspector ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def inspect(era: str, *arguments: str, server: Sequence[str] = SERVER) -> Told:
    """Have the Inspector start the server, as a host does, or find it; and do one thing with it."""
    launcher = (
        folder()
        / "node_modules"
        / "@modelcontextprotocol"
        / "inspector"
        / "clients"
        / "launcher"
        / "build"
        / "index.js"
    )
    command = [node(folder()), str(launcher), "--cli", *server, "--protocol-era", era, *arguments]
    home = {**os.environ, "HOME": str(folder())}  # it keeps a file of its own there
    done = await anyio.run_process(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=home, check=False)
    return Told(done.returncode, done.stdout.decode(), done.stderr.decode())


async def call(era: str, tool: str, arguments: dict[str, Any], server: Sequence[str] = SERVER) -> dict[str, Any]:
    """Call a tool; returns its whole result."""
    options = ["--tool-name", tool, "--tool-args-json", json.dumps(arguments), "--format", "json"]
    answer = await inspect(era, "--method", "tools/call", *options, server=server)
    assert answer.code == 0, answer.err + answer.out
    return answer.json["result"]


async def lists_tools_that_every_host_accepts(era: str, server: Sequence[str] = SERVER) -> None:
    """`--strict` ends with 6 where a schema would not be understood by some host."""
    answer = await inspect(era, "--method", "tools/list", "--strict", server=server)
    assert answer.code == 0, answer.err
    assert not (errors := re.search(r"\b[1-9]\d* errors?\b", answer.err)), errors
    names = [tool["name"] for tool in answer.json["tools"]]
    assert set(names) >= NEEDED, answer.out
    assert len([name for name in names if name not in OWN]) == len(PINS), names


async def lists_the_same_over_http(era: str) -> None:
    """In a process of its own, to which every request comes as if it were the first."""
    async with serving(SERVER) as url:
        await lists_tools_that_every_host_accepts(era, ["--server-url", url, "--transport", "http"])


async def runs_a_pinned_app(era: str) -> None:
    """Its arguments are the app's own fields, and its answer is that of `app_run`."""
    outcome = (await call(era, "sums", {"step": 3}))["structuredContent"]
    assert (outcome["status"], outcome["app"], outcome["output"]["value"]) == ("completed", "sandbox/count", 3), outcome


async def runs_an_app(era: str) -> None:
    result = await call(era, "app_run", {"app": "sandbox/echo", "input": {"n": 2}})
    outcome = result["structuredContent"]
    assert not result.get("isError"), result
    assert (outcome["status"], outcome["output"]) == ("completed", {"n": 2}), result
    assert outcome["task_id"] in result["content"][0]["text"], result


async def follows_an_mcp_task(era: str) -> None:
    """A call waits for one second here: only as an MCP task is a longer run followed to its end, else it is handed over."""
    impatient = [*SERVER, "--wait-seconds", "1"]
    result = await call(era, "app_run", {"app": "sandbox/slow", "input": {"seconds": 2}}, server=impatient)
    outcome = result["structuredContent"]
    if era == "modern":
        assert (outcome["status"], outcome["output"]["steps"]) == ("completed", 5), result
    else:
        assert outcome["status"] != "completed", result
        assert "task_get" in outcome["next"], result


async def finds_apps(era: str) -> None:
    result = await call(era, "app_list", {"query": "echo"})
    assert "sandbox/echo" in [app["app"] for app in result["structuredContent"]["apps"]], result
    assert "sandbox/echo" in result["content"][0]["text"], result


async def reads_about_an_app(era: str) -> None:
    """By its address: what `app_get` tells, first to read and then as JSON."""
    answer = await inspect(era, "--method", "resources/read", "--uri", "inference://apps/sandbox/echo")
    assert answer.code == 0, answer.err
    text, data = (part["text"] for part in answer.json["contents"])
    assert text.startswith("sandbox/echo: "), text
    assert json.loads(data)["app"] == "sandbox/echo", data


async def says_what_is_wrong(era: str) -> None:
    """A failure is an answer that names what to correct, and not an error of the protocol; the Inspector ends with 5."""
    arguments = json.dumps({"app": "sandbox/draw", "input": {"promt": "a kite"}})
    answer = await inspect(era, "--method", "tools/call", "--tool-name", "app_run", "--tool-args-json", arguments)
    assert answer.code != 0, answer.out
    assert "promt" in answer.out + answer.err, answer


FLOWS: dict[str, Callable[[str], Awaitable[None]]] = {
    "tools/list --strict finds no error in any schema": lists_tools_that_every_host_accepts,
    "tools/list --strict finds none over HTTP": lists_the_same_over_http,
    "tools/call app_run runs sandbox/echo": runs_an_app,
    "tools/call runs a pinned app by its alias": runs_a_pinned_app,
    "tools/call of what lasts is an MCP task in the newer era, and handed over in the older": follows_an_mcp_task,
    "tools/call app_list finds sandbox/echo": finds_apps,
    "resources/read tells of sandbox/echo": reads_about_an_app,
    "tools/call with a wrong input says what is wrong": says_what_is_wrong,
}


async def main() -> int:
    checks = Checks()
    if why_not := await installed(HERE / "package.json", folder()):
        checks.failure("the Inspector can be installed", why_not)
        return checks.close()
    for year, era in ERAS.items():
        for name, flow in FLOWS.items():
            await checks.check(f"{year}: {name}", lambda flow=flow, era=era: flow(era))
    return checks.close()


if __name__ == "__main__":
    sys.exit(anyio.run(main))
