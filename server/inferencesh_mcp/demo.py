"""`inferencesh-mcp demo`: an MCP client runs this server with the sandbox, a picture in and a picture out."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import anyio
from mcp import Client, StdioServerParameters
from mcp_types import ElicitResult

from inferencesh_mcp.errors import UpstreamError
from inferencesh_mcp.sanitize import clean

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ElicitRequestParams

BAR_WIDTH = 24  # characters
READING_SECONDS = 1.0


def show(to: str | None, out: TextIO, *, width: int | None) -> int:
    """Run the demo; `width` is the terminal's, or None where lines cannot be drawn over. The last line names the picture."""
    folder = Path(to or tempfile.mkdtemp(prefix="inference-demo-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    anyio.run(_show, folder, _Screen(out, width))
    return 0


async def _show(folder: Path, screen: _Screen) -> None:
    screen.line("Starting the server as a host does: inferencesh-mcp --sandbox, over stdio")
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "inferencesh_mcp", "--sandbox", "--save-dir", str(folder), "--log-level", "ERROR"],
    )
    async with Client(server, elicitation_callback=screen.approve) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        screen.line(f"It offers {', '.join(tools)}")
        draw_result = await _run(
            client, screen, "sandbox/draw", {"prompt": "a lighthouse at dusk", "width": 640, "height": 400}
        )
        picture = await _save(client, screen, draw_result)
        screen.line(f"Now a picture from disk goes in: {picture}")
        info_result = await _run(client, screen, "sandbox/picture-info", {"image": str(picture)})
        info = _structured(info_result)["output"]
        screen.line(f"It is a {info['format']} of {info['width']} x {info['height']}, {info['bytes']} bytes")
        await _save(client, screen, info_result)
        screen.line("Giving a job to an agent that must ask before it uses a tool")
        job = {"message": "Draw a lighthouse", "agent": "sandbox/approver"}
        screen.checked(await client.call_tool("agent_chat", job, progress_callback=screen.progress))
    screen.line("All of this ran in the sandbox inside the server. Nothing was sent anywhere or cost anything.")
    screen.line(str(picture))


async def _run(client: Client, screen: _Screen, app: str, app_input: dict[str, Any]) -> CallToolResult:
    screen.line(f"Running {app}")
    arguments = {"app": app, "input": app_input}
    return screen.checked(await client.call_tool("app_run", arguments, progress_callback=screen.progress))


async def _save(client: Client, screen: _Screen, run_result: CallToolResult) -> Path:
    task_id = _structured(run_result)["task_id"]
    saved = screen.checked(await client.call_tool("file_save", {"task_ids": [task_id]}))
    return Path(_structured(saved)["files"][0]["path"])


def _structured(result: CallToolResult) -> dict[str, Any]:
    return cast("dict[str, Any]", result.structured_content)


class _Screen:
    """Output for a person: progress is a moving bar on a terminal, and lines elsewhere."""

    def __init__(self, out: TextIO, width: int | None) -> None:
        self._out = out
        self._width = width

    def line(self, text: str) -> None:
        self._clear()
        self._out.write(text + "\n")
        self._out.flush()

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002
        """Show a progress notification. The bar moves instead of filling up, because the total is unknown."""
        if self._width is None:
            self.line(f"  {message}")
            return
        self._clear()
        at = int(progress * 10) % BAR_WIDTH
        bar = "".join("█" if (place - at) % BAR_WIDTH < 4 else "░" for place in range(BAR_WIDTH))
        self._out.write(clean(f"  {bar} {message}", self._width - 1))
        self._out.flush()

    async def approve(self, context: Any, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG002
        """Show the approval that an agent asks for, wait, and approve it."""
        for line in f"A person is asked: {params.message}".splitlines():
            self.line(f"  {line}")
        await anyio.sleep(READING_SECONDS)
        self.line("  The person approves")
        return ElicitResult(action="accept", content={"decision": "approve"})

    def checked(self, result: CallToolResult) -> CallToolResult:
        """Show a result as the model reads it.

        Raises:
            UpstreamError: the call failed.
        """
        text = next((block.text for block in result.content if block.type == "text"), "")
        if result.is_error:
            raise UpstreamError(message=f"the demo failed: {text}", next_step="Run `inferencesh-mcp doctor`.")
        for line in text.splitlines():
            self.line(f"  {line}")
        return result

    def _clear(self) -> None:
        if self._width is not None:
            self._out.write("\r\x1b[2K")
