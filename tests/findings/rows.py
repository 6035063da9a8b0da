"""What outsiders found wrong with the first version, one sentence each, and which tests keep it right.

A test names its findings with a marker: `@pytest.mark.finding("S3", "B5")`. `make generate` writes the table `README.md`
beside this file from those markers, and `test_findings.py` holds it to them.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]

ROWS: dict[str, str] = {
    # Found by reading the code.
    "B1": "the text of an unexpected exception reached the model",
    "B2": "an odd Date header lost a paid run, or stopped the process for every caller",
    "B3": "the server did not start where HOME is unset or may not be entered",
    "B4": "doctor ended in a traceback on a folder that it may not enter",
    "B5": "app_get waited 60 s for a price",
    "B6": "four readers of one schema disagreed: a file's path went upstream as text, a schema was given up whole",
    "B7": "a file that every input of a batch uses was uploaded once for each",
    "B8": "HTTP offered what always refuses, and instructions named tools that are not offered",
    "B9": "a picture by URL reached an agent as a file without a name or a type",
    "B10": "errors of a dry run did not say that nothing was started",
    "B11": "Windows was promised and not supported (see the findings W)",
    "B12": "an INFERENCE_ variable that is no setting stopped the start",
    "B13": "options did not work on the command they belong to",
    "B14": "smaller faults: names taken for secrets, relative paths taken for addresses, sizes refused too late, dead addresses",
    # Differences from the newest facts of the platform.
    "D1": "a pinned older version of an app lost its schema, its functions and its needs",
    "D2": "a pinned older version of an agent lost its prompt and tools, where it was read",
    "D3": "the end of an agent's run was not read from its events",
    "D4": "requirements were checked with a wrong body, and by nobody",
    "D5": "an agent's own MCP input request could not be answered",
    "D6": "always-allow sent a tool's name and not one of the platform's options",
    "D7": "an alias that pins a function was checked against another function's schema",
    "D8": "the comparison with the platform's own endpoint was out of date",
    "D9": "error codes of the platform had no next step of their own",
    "D10": "categories and statuses of the newest types were missing",
    "D11": "fields were sent that the newest types do not have",
    "D12": "the rate limit's headers were not read",
    # Reports from people and hosts.
    "F1": "an enum held an empty text: Gemini refused every request",
    "F2": "additionalProperties was true in our own tools: google-genai failed",
    "F3": "a type was a list: AutoGen and Semantic Kernel took no tool",
    "F4": "arguments had no description that stands alone",
    "F5": "schemas that could be strict were not",
    "F6": "null for an optional argument was refused",
    "F7": "fields that hosts are known to inject were refused",
    "F8": "an empty text for an object, a list or a number was refused; a list of JSON texts too",
    "F9": "base64 with line breaks, or with a data: prefix, was refused",
    "F10": "accept with an empty form was told to the agent as a rejection",
    "F11": "a progress token of null failed the whole call",
    "F12": "a name that differs from the file's in spaces or normal form alone was not found",
    "F13": "a path in quotes, with escapes, with a leading @ or spaces around it was refused",
    "F14": "a path in the host's own sandbox was answered with the wrong advice",
    "F15": "content that older protocol versions do not know was sent to them",
    "F16": "initialize after server/discover on one connection was refused",
    "F17": "on stdio a BOM, a batch, text that is no JSON or a long line was never answered",
    "F18": "POST /mcp/ was not found",
    "F19": "Accept: text/event-stream alone was refused",
    "F20": "refusals over HTTP were not JSON with a reason",
    "F21": "pages of this machine got no CORS headers",
    "F22": "SIGHUP left a run going, without a line in the log",
    "F23": "proxy variables were ignored",
    "F24": "a certificate that is not trusted was reported as a network fault",
    "F25": "install did not carry SSL_CERT_FILE and proxies along",
    "F26": "an INFERENCE_ variable of another program stopped start, doctor and install",
    "F27": "a placeholder that a host did not fill in was taken for a key over HTTP",
    "F28": "OAuth metadata without scopes listed an empty array",
    "F29": "odd but valid protocol messages got errors without a code or a field",
    "F30": "installing again with another key kept the old one",
    "F31": "uninstall left a copy of the key on disk",
    "F32": "install twice and uninstall left a file and a backup with the key",
    "F33": "doctor failed on healthy entries of hosts",
    "F34": "doctor said ready although pins were wrong",
    "F35": "Gemini CLI's folder trust was not mentioned",
    "F36": "http --sandbox and install --sandbox were no options",
    # Attacks.
    "S1": "redaction knew a prefix and not the key in use",
    "S2": "a second signal stopped the clean-up",
    "S3": "one small call of misspelt names blocked the process for a minute",
    "S4": "strangers could exhaust memory before anything was checked",
    "S5": "one caller could adopt and cancel another's paid run",
    "S6": "app authors could forge the server's own lines",
    "S7": "a private app was served from memory after its key was refused",
    "S8": "replays of one answer at the same time sent it several times",
    "S9": "odd Retry-After values caused retries without a pause, or unbounded advice",
    "S10": "settings and links gave access outside the allowed folders",
    "S11": "the state of a stream grew without a bound",
    "S12": "a run was lost when its caller left at the wrong moment, or its input could not be read back",
    "S13": "outputs were altered silently",
    "S14": "smaller faults: stderr not drained, places of subscriptions, previews, mass saving, OAuth keys, framing, deny-list",
    # Trials with capable models that knew nothing but the tools.
    "M1": "nothing said what a run was charged",
    "M2": "the price of an app was not that of the input that was to run",
    "M3": "the shape of a client tool had to be guessed",
    "M6": "an answer did not say that an approval was given, nor by whom",
    "M7": "a host that cannot ask was not told where the person decides, and the sandbox had no page",
    "M8": "tasks that are alive and chats could not be listed, and status words differed",
    "M9": "what a running task made so far looked like its result; reading a cancelled task was an error; elapsed time began anew",
    "M10": "a long output took 16,000 tokens, with two sizes, and its parts were raw JSON of an unknown number",
    "M12": "agent_list did not say what an agent does and needs, and a chat did not know its agent",
    "M15": "times were absolute, for readers without a clock",
    "M16": "metering stood in outputs, addresses stood twice, and links were named by ids",
    "M17": "a batch was numbered from 0, its progress stood still, and no input named its files",
    "M18": "a list of tasks told neither function nor duration nor charge",
    "M21": "a refused number was not told the nearest that is allowed",
    "M19": "answers listed internal tools and repeated what was said before",
}


def marked(path: Path, marker: str = "finding") -> Iterator[tuple[str, str]]:
    """The rows that a marker of a file's tests names: (row, name of the test)."""
    tree = ast.parse(path.read_bytes())
    of_module = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "pytestmark" for name in node.targets)
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
            continue
        for mark in [*node.decorator_list, *of_module]:
            for call in ast.walk(mark):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == marker:
                    yield from ((ast.literal_eval(argument), node.name) for argument in call.args)


@cache
def findings_with_tests() -> dict[str, list[str]]:
    """Finding -> `file::test`, sorted."""
    tests = defaultdict[str, set[str]](set)
    for path in TESTS.rglob("*.py"):
        for finding, name in marked(path):
            tests[finding].add(f"{path.relative_to(TESTS).as_posix()}::{name}")
    return {finding: sorted(names) for finding, names in tests.items()}


def table() -> str:
    """The page `README.md`, as it should be."""
    tests = findings_with_tests()
    lines = [
        f"| {row} | {sentence} | {'<br>'.join(f'`{name}`' for name in tests.get(row, []))} |"
        for row, sentence in ROWS.items()
    ]
    return "\n".join(
        [
            "# What outsiders found, and the tests that keep it right",
            "",
            "Made by `make generate` from the markers `@pytest.mark.finding(…)`. What each row says is what was wrong.",
            "",
            "| finding | what was wrong | tests |",
            "| --- | --- | --- |",
            *lines,
            "",
        ]
    )
