"""The limits that keep one caller, one app or one answer of the API from stopping the others: the table in SECURITY.md.

`make generate` writes it from the constants below; `test_limits.py` fails where it is stale.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from inferencesh_mcp.settings import FIELDS

SECURITY = Path(__file__).parent.parent / "SECURITY.md"
_START, _END = "<!-- limits -->", "<!-- /limits -->"

BYTES, PLAIN, SECONDS = "bytes", "", "s"
ROWS: tuple[tuple[str, str, str], ...] = (
    ("One message over HTTP", "INFERENCE_MAX_BODY_BYTES", BYTES),
    ("All messages over HTTP that are read or worked on; half of it from one address or one known caller", "http.app:MAX_BODY_BYTES", BYTES),
    ("One message over stdio", "stdio_messages:MAX_LINE_BYTES", BYTES),
    ("Values in one message", "api.json:MAX_IN_A_MESSAGE", PLAIN),
    ("Open requests of one caller over HTTP", "INFERENCE_MAX_STREAMS", PLAIN),
    ("Open requests of all callers", "http.app:MAX_STREAMS", PLAIN),
    ("Connections from one address", "INFERENCE_MAX_CONNECTIONS", PLAIN),
    ("Subscriptions of one caller", "flows.subscription_watches:MAX_PER_CALLER", PLAIN),
    ("Subscriptions from one address whose callers bring their own keys", "flows.subscription_watches:MAX_PER_ADDRESS", PLAIN),
    ("Subscriptions in all", "flows.subscription_watches:MAX_TOTAL", PLAIN),
    ("Live runs of one caller", "INFERENCE_MAX_CONCURRENT_RUNS", PLAIN),
    ("Live runs in one process", "INFERENCE_MAX_RUNS_IN_ALL", PLAIN),
    ("One answer of the API", "api.responses:MAX_BODY_BYTES", BYTES),
    ("One answer of the API that is an error", "api.responses:MAX_ERROR_BODY_BYTES", BYTES),
    ("Answers over 1 MiB that are read at a time, starts of runs apart", "api.transport:MAX_LARGE_ANSWERS", PLAIN),
    ("Values in one answer, or one line of a stream", "api.json:MAX_VALUES", PLAIN),
    ("Depth of one answer, or one line of a stream", "api.json:MAX_DEPTH", PLAIN),
    ("One line of a stream", "api.json:MAX_LINE_BYTES", BYTES),
    ("All lines over 64 KiB of one stream", "api.json:MAX_LARGE_LINES_BYTES", BYTES),
    ("Text that grows piece by piece, of a run or a message", "api.stream:MAX_TEXT_LENGTH", "characters"),
    ("Streams open at a time", "api.transport:MAX_STREAMS", PLAIN),
    ("Messages of one chat that is followed", "api.chat_state:MAX_MESSAGES", PLAIN),
    ("The same, in characters", "api.chat_state:MAX_KEPT", "characters"),
    ("Outputs that a batch holds for its answer", "flows.batch:MAX_KEPT", "characters"),
    ("Apps that are remembered", "flows.app_cache:MAX_APPS", PLAIN),
    ("One app that is remembered", "flows.app_cache:MAX_APP_BYTES", BYTES),
    ("Weight of a schema that inputs are checked against: an item of a list weighs 1, an object 40", "schema.bounded_validator:HEAVIEST", PLAIN),
    ("Rules checked for one input; the app checks the rest", "schema.bounded_validator:MAX_STEPS", PLAIN),
    ("Rules checked for all inputs of one call", "schema.bounded_validator:MAX_STEPS_OF_A_CALL", PLAIN),
    ("Mistakes looked for in one input", "schema.bounded_validator:MAX_ERRORS", PLAIN),
    ("Parts of a schema read to find an input's files", "schema.file_fields:MAX_READ", PLAIN),
    ("Misspelt names of one call that are compared with known ones", "schema.bounded_validator:MAX_SEARCHES", PLAIN),
    ("Names that one is compared with", "schema.describe:MAX_NAMES", PLAIN),
    ("A name that is compared", "schema.describe:MAX_NAME_LENGTH", "characters"),
    ("A picture that is fetched for a preview", "tools.preview:MAX_DOWNLOAD_BYTES", BYTES),
    ("A picture that is made smaller", "tools.preview:MAX_PIXELS", "pixels"),
    ("Previews that are kept, each of at most 100 kB", "context:MAX_PREVIEWS", PLAIN),
    ("What an answer says beside the matter: prices, sessions, previews", "flows.concurrency:PATIENCE", SECONDS),
    ("Keys of one OAuth issuer", "http.oauth:MAX_KEYS", PLAIN),
)  # fmt: skip


def table() -> str:
    rows = [f"| {title} | {_shown(_value(where), unit)} | `{where}` |" for title, where, unit in ROWS]
    return "\n".join(["| what | the most | where it is set |", "|---|---|---|", *rows])


def with_table(text: str) -> str:
    before, _, rest = text.partition(_START)
    _, _, after = rest.partition(_END)
    return f"{before}{_START}\n{table()}\n{_END}{after}"


def _value(where: str) -> Any:
    if where.startswith("INFERENCE_"):
        return FIELDS[where.removeprefix("INFERENCE_").lower()].default
    module, _, name = where.partition(":")
    return getattr(import_module(f"inferencesh_mcp.{module}"), name)


def _shown(value: float, unit: str) -> str:
    if unit == BYTES:
        return f"{value // 2**20} MiB" if value >= 2**20 else f"{value // 2**10} KiB"
    return f"{value:,.10g} {unit}".strip()
