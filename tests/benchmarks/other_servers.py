"""What the servers of other platforms take of a conversation, beside ours: `python -m tests.benchmarks.other_servers`.

They are installed from npm and the Python package index, in the versions named here, and started with a made-up key. Each is
asked for its tools, and what there is to run. It prints a table, and writes the same to `other_servers.json`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, MCPError, StdioServerParameters

from inferencesh_mcp import __version__
from tests.evaluation.transcript import PAGE

LATEST = Path(__file__).with_suffix(".json")
START_SECONDS = 60
ANSWER_SECONDS = 30
TOKENIZER, ENCODING = "bpe-openai==0.1.4", "o200k_base"
_COUNT = f"""
import json, sys, bpe_openai
encoding = bpe_openai.get_encoding("{ENCODING}")
print(json.dumps([len(encoding.encode(text)) for text in json.load(sys.stdin)]))
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    name: str
    version: str
    program: str
    """Its place in the folder."""
    key: str
    """The variable of its key."""
    lists: str
    """Its tool that says what there is to run."""
    arguments: dict[str, Any] = field(default_factory=dict)


FROM_NPM = (
    Server(name="replicate-mcp", version="0.9.0", program="node_modules/.bin/mcp-server", key="REPLICATE_API_TOKEN", lists="list_models"),
    Server(name="@llmindset/hf-mcp-server", version="0.4.23", program="node_modules/.bin/hf-mcp-server", key="DEFAULT_HF_TOKEN", lists="hub_repo_search", arguments={"query": "text to image"}),
)  # fmt: skip
FROM_PYTHON = (
    Server(name="elevenlabs-mcp", version="0.12.2", program="python/bin/elevenlabs-mcp", key="ELEVENLABS_API_KEY", lists="list_models"),
    Server(name="fal-mcp-server", version="1.18.0", program="python/bin/fal-mcp", key="FAL_KEY", lists="list_models"),
)  # fmt: skip


def _ours() -> Server:
    program = str(Path(sys.executable).with_name("inferencesh-mcp"))
    return Server(name="inferencesh-mcp", version=__version__, program=program, key="", lists="app_list")


async def main() -> int:
    servers = [_ours(), *FROM_NPM, *FROM_PYTHON]
    day = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        await _install(folder)
        answers = [await _asked(server, folder) for server in servers]
        texts = [text or "" for pair in answers for text in pair]
        tokens = await _tokens(folder, [*texts, *day])
    rows = [
        {
            "name": f"{server.name} {server.version}",
            "tools": len(json.loads(tools)),
            "bytes": len(tools.encode()),
            "tokens": tokens[2 * number],
            "answer": tokens[2 * number + 1] if answer else None,
        }
        for number, (server, (tools, answer)) in enumerate(zip(servers, answers, strict=True))
    ]
    of_day = sorted(tokens[len(texts) :])
    table = {
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "servers": rows,
        "working_day": {"answers": len(of_day), "tokens": sum(of_day), "median": of_day[len(of_day) // 2]},
    }
    LATEST.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(as_markdown(table) + "\n")
    return 0


def as_markdown(table: dict[str, Any]) -> str:
    """The table of the page, of what `main` wrote."""
    ours, *_ = servers = table["servers"]
    rows = [
        f"| {row['name']} | {row['tools']} | {row['bytes']:,} | {row['tokens']:,} | {ours['tokens'] / row['tokens']:.2f} |"
        f" {'no answer' if row['answer'] is None else row['answer']} |"
        for row in servers
    ]
    head = (
        "| server | tools | bytes of tools/list | tokens of tools/list | ratio | tokens of its list of models or apps |"
    )
    day = table["working_day"]
    answers = f"The {day['answers']} answers of our working day (`tests/evaluation/working_day.md`)"
    total = f"{answers} are {day['tokens']:,} tokens in all, {day['median']} in the median."
    when = f"On {table['day']}; the ratio is ours to theirs:"
    return "\n".join([when, "", head, "|---" * 6 + "|", *rows, "", total])


async def _install(folder: str) -> None:
    named = [f"{server.name}@{server.version}" for server in FROM_NPM]
    await anyio.run_process(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *named], cwd=folder)
    await anyio.run_process([sys.executable, "-m", "venv", "--without-pip", f"{folder}/python"])
    pip = [os.environ.get("PYTHON", "python3"), "-m", "pip", "--python", f"{folder}/python/bin/python", "install", "-q"]
    await anyio.run_process([*pip, TOKENIZER, *(f"{server.name}=={server.version}" for server in FROM_PYTHON)])


async def _asked(server: Server, folder: str) -> tuple[str, str | None]:
    """A server's tools as compact JSON, and what it says there is to run; None where it cannot without its platform."""
    environ = {server.key: "made-up"} if server.key else {"INFERENCE_SANDBOX": "true"}
    program = StdioServerParameters(
        command=str(Path(folder, server.program)), env={"PATH": os.environ["PATH"], "HOME": folder, **environ}
    )
    tools = []
    with anyio.fail_after(START_SECONDS + ANSWER_SECONDS):
        async with Client(program, read_timeout_seconds=START_SECONDS) as client:
            page = await client.list_tools()
            tools += page.tools
            while page.next_cursor:
                page = await client.list_tools(cursor=page.next_cursor)
                tools += page.tools
            answer = await _answer(client, server)
    plain = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")), answer


async def _answer(client: Client, server: Server) -> str | None:
    try:
        result = await client.call_tool(server.lists, server.arguments, read_timeout_seconds=ANSWER_SECONDS)
    except MCPError:
        return None
    return None if result.is_error else "\n".join(block.text for block in result.content if block.type == "text")


async def _tokens(folder: str, texts: list[str]) -> list[int]:
    """How many tokens each text is, by one tokenizer for all."""
    counted = await anyio.run_process(
        [f"{folder}/python/bin/python", "-c", _COUNT], input=json.dumps(texts).encode(), stderr=None
    )
    counts: list[int] = json.loads(counted.stdout)
    return counts


if __name__ == "__main__":
    sys.exit(anyio.run(main))
