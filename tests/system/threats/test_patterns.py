"""A text cannot pin the processor: every pattern and every parser of ours, on 64 KiB made to do so (A-19).

What is allowed is CPU time of this process, by the pace of the machine: several times what is needed, and far under what a
pattern that tries every way takes, which is seconds, or for ever.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from starlette.datastructures import Headers

from inferencesh_mcp import pins, redaction, sanitize
from inferencesh_mcp.api import chat_models, enums, headers, problem_details, refs, transport, url_policy
from inferencesh_mcp.api import json as api_json
from inferencesh_mcp.api.agent_config import AgentConfigInput
from inferencesh_mcp.api.widgets import widget_form, widget_text
from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.flows import download, file_sources, output_files, upload
from inferencesh_mcp.hosts import jsonc, toml
from inferencesh_mcp.http.app import authenticator_for
from inferencesh_mcp.http.refusal import Refused
from inferencesh_mcp.resources.templates import TEMPLATES
from inferencesh_mcp.schema.file_fields import file_places
from inferencesh_mcp.schema.tool_schema import compiled_input, compiled_output
from inferencesh_mcp.schema.validate import check
from inferencesh_mcp.settings import Settings
from inferencesh_mcp.tool_prefix import ToolPrefix
from inferencesh_mcp.tools import app_description, truncate
from inferencesh_sandbox import app_process, chitchat, ledger, middleware
from inferencesh_sandbox import fake_arguments as acting
from inferencesh_sandbox.apps import png
from tests.system.threats.source import calls, module_of, trees

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no timer of CPU time")
LONG = 64 * 1024


def _pace() -> float:
    """Seconds of CPU that this machine takes for half a million steps of plain Python."""
    taken: list[float] = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(500_000):
            pass
        taken.append(time.process_time() - began)
    return min(taken)


PACE = _pace()
MOST = 100 * PACE
"""A second on a usual machine, three times what the worst takes. What pins the processor takes minutes on any."""
MAX_OF_A_FILE = 3 * MOST
"""The same for what a person gives their own server or host, which nobody else can write, and which is read once."""


@contextmanager
def quickly(title: str, most: float = MOST) -> Iterator[None]:
    """Break off what takes too long, wherever it is: a pattern is interrupted too."""

    def over(*_: object) -> None:
        raise AssertionError(f"{title} took more than {most:.1f} s of CPU")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def long(piece: str, tail: str = "") -> str:
    return piece * (LONG // len(piece)) + tail


WAYS = {"match", "fullmatch", "search", "sub", "split", "findall", "finditer"}


@dataclass(frozen=True)
class Written:
    """A pattern of the product, and how a text is held against it."""

    pattern: str | None
    """None where it is put together when it is used."""
    ways: tuple[str, ...]
    """The methods with which a text is held against it; `fullmatch` where it is handed to what does."""


def written() -> dict[str, Written]:
    """Every pattern of the product by where it stands."""
    patterns: dict[str, Written] = {}
    for path, tree in trees().items():
        named = dict(calls(tree))
        if not any(name.startswith("re.") for name in named):
            continue
        constants = dict(vars(importlib.import_module(module_of(path))))
        for name, call in calls(tree):
            if name not in {f"re.{item}" for item in ("compile", *WAYS)}:
                continue
            try:
                source = eval(compile(ast.Expression(call.args[0]), "", "eval"), constants)
            except NameError:
                source = None
            used = {
                item.partition(".")[2] for item in named if not item.startswith("re.") and _is(constants, item, source)
            }
            methods = used if name == "re.compile" else {name.removeprefix("re.")}
            patterns[f"{module_of(path)}:{call.lineno}"] = Written(source, tuple(methods) or ("fullmatch",))
    return patterns


def _is(constants: dict[str, Any], called: str, pattern: str | None) -> bool:
    constant = constants.get(called.partition(".")[0])
    return isinstance(constant, re.Pattern) and constant.pattern == pattern


WRITTEN = written()
MADE_IN_USE = {
    "inferencesh_mcp.tool_prefix",
    *(f"inferencesh_sandbox.{name}" for name in ("ledger", "fake_arguments", "agents.llm", "agents.desk")),
}
"""The first three are among the parsers below; what the agents look for are plain words."""
SPOKEN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "often": {"type": "integer"},
        "really": {"type": "boolean"},
        "kind": {"enum": ["name", "kind"]},
        "more": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "often", "really", "kind", "more"],
}


def hostile_to(pattern: str) -> Iterator[str]:
    """Texts that bring a pattern to what it repeats, repeat it, and fail at the end."""
    spoken = re.sub(r"\\[a-zA-Z]|\(\?P?[a-z<>:]+", " ", pattern)
    begun = {*re.findall(r"[A-Za-z]{2,}[:/]*", spoken), "http://", "/*", "{", "["}
    marks = set(re.findall(r"[^\w\s]", spoken))
    pieces = sorted({*begun, *marks, "a", "1", " ", "\t", "é", "a.", "-_", "] ", "/**/", "\r", '\\"'})
    for piece in pieces:
        yield long(piece, "\0")
        yield long(piece, "!\n")
        yield long(piece + " ", "\0")
        yield long(piece + "a", "\0")
    for start in begun:
        for piece in (*marks, "a", " ", "é"):
            yield start + long(piece, "\0")
            yield long(start + piece, "\0")


@pytest.mark.timing
@pytest.mark.parametrize("place", [place for place, its_pattern in WRITTEN.items() if its_pattern.pattern is not None])
def test_no_pattern_is_slow(place: str) -> None:
    """However the text goes on."""
    its_pattern = WRITTEN[place]
    pattern = re.compile(str(its_pattern.pattern))
    for text in hostile_to(pattern.pattern):
        with quickly(f"{pattern.pattern!r} on {text[:40]!r}…"):
            for way in its_pattern.ways:
                # finditer is lazy, and sub is the same walk
                pattern.sub("", text) if way in {"sub", "finditer"} else getattr(pattern, way)(text)


def test_every_pattern_is_tried() -> None:
    """One that is put together when it is used is tried by what uses it."""
    made = {place.partition(":")[0] for place, pattern in WRITTEN.items() if pattern.pattern is None}

    assert made == MADE_IN_USE
    assert len(WRITTEN) > 45


OPENING = [
    long(piece) for piece in ("[", "{", '{"a":', '[{"a":[', "(", "<", '"', "\\", '"\\', "\ud800", "-", "9", "1e", "0.")
]
SIGNS = [long(piece, "\0") for piece in ("a", " ", "\t", "\n", "\r\n", "%", "%2", "%ff", "%%", ",", ";", ";a=b", "=", "@", ":", "/", "//", "../", ".", "-",
         "a.", "a/", "a:", "a@", "é", "\u202e", "\U000e0041", "٣", "http://", "https://x?", "inf_", "Bearer ", "bearer\t", "data:", "//x@", "${", "remember ", " is ",
         "name:", 'name="', "“", "«", "(at ", "# ", "[a]", "[a]\n", "a='", "/*", "/**/", "/* */ ", "// ", ", //", "}]")]  # fmt: skip
WRAPPED = [before + text + after for before, after, text in (
    ("data:", ",x", long("a")), ("data:a/b", ",", long(";a=b")), ("data:a/b;base64,", "", long("%")), ("data:,", "", long("%4")),
    ("https://", "/", long("a.")), ("https://[", "]", long("1:")), ("https://x/?", "", long("a&")), ("https://x:", "/", long("9")),
    ('{"a": 1', "}", long("/**/")), ('{"a": 1, "b": 2', "x}", long("/**/")), ('{"a": 1 ', "", long(" /*")), ("[", "]", long("1,")), ('"', '"', long("\\u0061")),
    ("a/b", "", long("@")), ("a/b:", "", long(":")), ("remember", "", long(" ")), ("remember a", "b", long(" ")), ("a = ", "", long("[")),
    ("Bearer", "", long("\t")), ("Mon, ", " GMT", long("1")), ("2026-01-01T", "Z", long("0")),
)]  # fmt: skip
TEXTS = [*OPENING, *SIGNS, *WRAPPED]

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}},
                          "image": {"type": "string", "format": "file"}, "kind": {"enum": ["one", "two"]}}, "required": ["a"]}  # fmt: skip


def settings_with(text: str) -> None:
    for name in ("BASE_URL", "PIN", "ALLOWED_HOSTS", "HTTP_TOKENS", text):
        with suppress(InferenceError):
            Settings.from_environ({f"INFERENCE_{name}": text})


def lines_of(text: str) -> None:
    raw, lines = text.encode(errors="replace"), api_json.NdjsonReader()
    for start in range(0, len(raw), 1000):
        lines.feed(raw[start : start + 1000])
    lines.end()


def door_for(text: str) -> Any:
    headers = Headers(raw=[(b"authorization", f"Bearer {text}".encode()), (b"x-inference-api-key", text.encode())])
    anyio.run(authenticator_for(Settings.from_environ({})).admit, headers)


def source(text: str) -> None:
    anyio.run(file_sources.open_source, text, None).close()


PARSERS: dict[str, Callable[[str], Any]] = {
    "one line": lambda text: sanitize.clean(text, 100),
    "without secrets": redaction.without_secrets,
    "status": enums.status_word,
    "media type": enums.is_media_type,
    "key": transport.Key,
    "JSON": lambda text: api_json.parse(text.encode(errors="replace")),
    "JSON inside": chat_models.unpacked,
    "lines": lines_of,
    "app": refs.AppRef.parse,
    "agent": refs.agent_reference,
    "segment": refs.segment,
    "pins": pins.parsed,
    "base URL": lambda text: url_policy.base_url(text, "X"),
    "file's host": lambda text: url_policy.file_host(text, loopback=True),
    "address": lambda text: url_policy.is_allowed(text, loopback=True),
    "path": url_policy.path_of,
    "retry-after": lambda text: headers.retry_after({"retry-after": text}),
    "expiry": upload.expiry,
    "problem": lambda text: problem_details.problem(400, {"retry-after": text}, {"detail": text, "code": text, "type": text}),
    "problem's body": lambda text: problem_details.error_payload(text.encode(errors="replace")),
    "source": source,
    "base64": lambda text: file_sources.from_base64(text, ""),
    "name on disk": lambda text: (download.safe_name("", text, text), download.safe_name(text, f"https://x/{text}", "image/png")),
    "content type": lambda text: file_sources.content_type_of(text, text.encode(errors="replace")),
    "files in an output": lambda text: output_files.output_files({text: [text, {"uri": text}]}),
    "input": lambda text: check(SCHEMA, {"a": 1, "kind": text, text: text}),
    "input as text": lambda text: check(SCHEMA, {"a": text, "b": text}),
    "places of files": lambda text: file_places(SCHEMA, {"image": text, text: text}),
    "cut to fit": lambda text: truncate.fit({text: [text] * 3}),
    "parts": truncate.split_parts,
    "names of tools": ToolPrefix("inf_", ["app_run", "task_get", "account"]).advice,
    "schema": lambda text: compiled_input({"type": "object", "properties": {text: {"description": text, "enum": [text]}}}),
    "schema of an output": lambda text: compiled_output({"type": "object", "title": text, "description": text}),
    "fields": lambda text: app_description.fields({"properties": {text: {"description": text, "default": text, "$ref": text}}}),
    "agent's tool": lambda text: AgentConfigInput.parse({"tools": [{"type": text, "name": text}]}),
    "agent's configuration": lambda text: AgentConfigInput.parse({"name": text, "tools": [{"type": text}]}),
    "settings": settings_with,
    "credential": door_for,
    "resource": lambda text: [template.match(f"inference://{text}") for template in TEMPLATES] + [template.match(text) for template in TEMPLATES],
    "JSON of a host": lambda text: jsonc.parse(text, comments=True),
    "edit of a host's JSON": lambda text: jsonc.put(text, ("mcpServers", "inference"), {}, comments=True),
    "TOML of a host": lambda text: text[0] == "0" or toml.parse(text),  # 0.0.0.0…: the standard library is slow of itself
    "edit of a host's TOML": lambda text: toml.put(text, ("mcp_servers", "inference"), {}),
    "sandbox: small talk": chitchat.reply,
    "sandbox: arguments": lambda text: acting.make_arguments(SPOKEN, text),
    "sandbox: path": lambda text: (middleware.normalize(text), ledger.matches(text, "/tasks/*/**/stream")),
    "sandbox: data URI": app_process.decode_data_uri,
    "sandbox: picture": lambda text: png.decode(b"\x89PNG\r\n\x1a\n" + text.encode(errors="replace")),
}  # fmt: skip
READ_ONCE = {"settings", "JSON of a host", "edit of a host's JSON", "TOML of a host", "edit of a host's TOML"}
REFUSALS = (InferenceError, ValueError, Refused, KeyError)
"""How a parser may end; what is no error of ours is a ValueError, which whoever calls it expects."""


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_reads_or_refuses_a_word(name: str) -> None:
    """So that the table stays true where nothing is timed."""
    with suppress(*REFUSALS):
        PARSERS[name]("word")


@pytest.mark.timing
@pytest.mark.parametrize("name", PARSERS)
def test_no_parser_is_slow(name: str) -> None:
    """Sixty-four kibibytes of anything are read, or refused, in an instant."""
    for text in TEXTS:
        with quickly(f"{name} of {text[:40]!r}…", MAX_OF_A_FILE if name in READ_ONCE else MOST), suppress(*REFUSALS):
            PARSERS[name](text)


def _deep_surface(depth: int) -> dict[str, Any]:
    """Nested by names, not by brackets: no limit of JSON's finds it."""
    components = [{"id": f"c{at}", "component": "Column", "children": [f"c{at + 1}"]} for at in range(depth)]
    return {"components": [{"id": "root", "component": "Column", "children": ["c0"]}, *components]}


def _buttons(count: int) -> dict[str, Any]:
    return {
        "children": [{"type": "button", "label": str(at), "onClickAction": {"type": f"t{at}"}} for at in range(count)]
    }


WIDGETS: dict[str, dict[str, Any]] = {
    "nested by name": _deep_surface(1_200),
    "buttons": _buttons(1_000),
    "fields": {"children": [{"type": "input", "name": f"f{at}"} for at in range(1_500)]},
    "choices": {"children": [{"type": "select", "name": "a", "options": [str(at) for at in range(8_000)]}]},
    "texts": {"children": [{"type": "text", "value": f"line {at}"} for at in range(1_500)]},
    "text": {"children": [{"type": "text", "value": long("a ")}]},
    "JSON inside": {"json": long("[") + long("]")},
    "a path": {"components": [{"id": "root", "component": "Text", "text": {"path": long("a/")}}], "dataModel": long("{")},
    "round": {"components": [{"id": "root", "component": "Column", "children": ["root", "a"]}, {"id": "a", "component": "Card", "child": "root"}]},
    "nested": {"children": json.loads('[{"children":' * 30 + "[]" + "}]" * 30)},
}  # fmt: skip


@pytest.mark.timing
@pytest.mark.parametrize("name", WIDGETS)
def test_no_widget_is_slow(name: str) -> None:
    """It is a form or it is none; neither takes long or breaks."""
    with quickly(name):
        widget_form(WIDGETS[name])
        widget_text(WIDGETS[name])


PINNING = {
    "pattern": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
    "names": {"type": "object", "patternProperties": {"^(a+)+$": {"type": "integer"}}},
    "names' rule": {"type": "object", "propertyNames": {"pattern": "^(a|aa)+$"}},
    "a rule in a branch": {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"pattern": "(.*a){30}b"}]}}},
    "what is no pattern": {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
    "references that double": {
        "$ref": "#/$defs/L0",
        "$defs": {f"L{at}": {"allOf": [{"$ref": f"#/$defs/L{at + 1}"}] * 2} for at in range(24)} | {"L24": {"type": "object"}},
    },
    "a reference to itself": {"$ref": "#"},
    "a union of itself": {
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}] * 900, "items": {"$ref": "#/$defs/A"}}},
    },
    "many fields of many kinds": {
        "properties": {f"f{at}": {"$ref": "#/$defs/A"} for at in range(300)},
        "$defs": {"A": {"oneOf": [{"$ref": "#/$defs/B"}] * 300}, "B": {"enum": [str(at) for at in range(300)]}},
    },
    "unique values": {"type": "object", "properties": {"b": {"type": "array", "uniqueItems": True}}},
}  # fmt: skip


@pytest.mark.timing
@pytest.mark.parametrize("name", PINNING)
def test_an_apps_schema_cannot_make_validation_slow(name: str) -> None:
    """Whoever publishes an app chooses its schema: a pattern in it is not ours to try on everybody's time (T-18)."""
    input_ = {"a": "a" * 40 + "!", "a" * 40 + "!": "a", "b": [{"n": at % 977} for at in range(1_500)]}
    for read in (check, lambda schema, _: app_description.fields(schema)):
        with quickly(name, 2 * MOST):
            read(PINNING[name], input_)
