"""The caller's own key never comes back, however the platform, or an app, may write it (S1)."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import random
from pathlib import Path
from urllib.parse import quote

import pytest

from inferencesh_mcp import logs
from inferencesh_mcp.context import SANDBOX_KEY
from inferencesh_mcp.redaction import REPLACEMENT, Redactor, credentials_in_use, without_secrets
from inferencesh_mcp.settings import Settings
from tests.conftest import Upstream, Way, callers, connected
from tests.support.faults import Status
from tests.system.faults.hosts import over
from tests.system.threats.hostile import answering, as_text, everything_shown

KEYS = {
    "newer": "1nfsh-01jxq7w3tdk5m8v2zr9e4hbgnc",
    "older": "inf_8fQ2xL0vTz-pW7_kRmYs3bJd",
    "without a prefix": "01jxq7w3tdk5m8v2zr9e4hbgnc01jxq7w3tdp6s1qa8y0f5kcemh",
}
ENCODINGS = {
    "as it is": lambda key: key,
    "in capitals": str.upper,
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64, one letter in": lambda key: base64.b64encode(f"x{key}y".encode()).decode(),
    "base64, two letters in": lambda key: base64.urlsafe_b64encode(f"xx{key}yy".encode()).decode(),
    "base64 of basic authorization": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "hex in capitals": lambda key: key.encode().hex().upper(),
    "percent": lambda key: "".join(f"%{ord(char):02X}" for char in key),
    "percent, twice": lambda key: "".join(f"%25{ord(char):02x}" for char in key),
    "percent, some": lambda key: "".join(f"%{ord(char):02x}" if n % 3 else char for n, char in enumerate(key)),
    "quoted": lambda key: quote(key, safe=""),
    "JSON escapes": lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
    "in a sentence": lambda key: f"Bearer {key}, was refused",
    "in an address": lambda key: f"https://example.com/x?token={key}&y=1",
}
PIECES = {
    "two halves": lambda key: [key[: len(key) // 2], key[len(key) // 2 :]],
    "pieces of eight": lambda key: [key[n : n + 8] for n in range(len(key) - 24, len(key) - 7, 8)],
    "halves in base64": lambda key: [base64.b64encode(half.encode()).decode() for half in (key[-20:-10], key[-10:])],
    "halves in hex": lambda key: [half.encode().hex() for half in (key[-20:-10], key[-10:])],
}


def decoded(text: str) -> list[str]:
    """The text in every way that somebody may read it."""
    texts = [text.lower()]
    for run in (part for part in _runs(text) if len(part) >= 10):
        for begin in range(4):
            piece = run[begin:].replace("-", "+").replace("_", "/")
            texts.append(base64.b64decode(piece[: len(piece) // 4 * 4]).decode("latin-1").lower())
    return texts


def _runs(text: str) -> list[str]:
    return "".join(char if char.isascii() and (char.isalnum() or char in "+/-_") else " " for char in text).split()


def leaks(text: str, key: str) -> list[str]:
    """Pieces of eight of the secret part of a key that are in a text, as it is, in base64 or in hex."""
    secret = key.removeprefix("1nfsh-").removeprefix("inf_")
    pieces = [secret[n : n + 8].lower() for n in range(len(secret) - 7)]
    texts = decoded(text)
    return [piece for piece in pieces if any(piece in item or piece.encode().hex() in item for item in texts)]


@pytest.mark.finding("S1")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", KEYS)
def test_a_key_is_redacted_in_every_encoding(kind: str, encoding: str) -> None:
    key = KEYS[kind]
    encoded = ENCODINGS[encoding](key)

    for text in (encoded, f"é {encoded} \U0001f600", f"({encoded})" * 2):
        clean = Redactor([key]).text(text)
        assert [] == leaks(clean, key)
        assert REPLACEMENT in clean
        assert encoded not in clean


@pytest.mark.finding("S1")
@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("kind", KEYS)
def test_pieces_of_a_key_are_redacted(kind: str, pieces: str) -> None:
    key = KEYS[kind]
    fields = {f"part{n}": piece for n, piece in enumerate(PIECES[pieces](key))}

    clean = Redactor([key]).value({"output": [fields, dict.fromkeys(fields.values(), 1)]})

    assert [] == leaks(as_text(clean), key)
    assert len(fields) == len(clean["output"][1])  # two names that are cleaned do not become one


@pytest.mark.finding("S1")
def test_text_that_is_not_a_key_is_kept() -> None:
    """Neither a word of a key's, nor a key that is too short to be told from a word, nor anything random."""
    chance = random.Random(5)
    redactor = Redactor([*KEYS.values(), "inf_short", "abc", ""])
    texts = ["the sandbox", "a short one", "1nfsh-", "inf_", "abc", base64.b64encode(chance.randbytes(30_000)).decode(),
             chance.randbytes(30_000).hex(), "%20".join(map(str, range(3_000))), "\ud800 half", "日本語" * 1000]  # fmt: skip

    assert [] == [text[:40] for text in texts if redactor.text(text) != text]
    assert REPLACEMENT == redactor.text("inf_short")
    value = {"a": [1, None, "text", {"b": 2.5}]}
    assert value is redactor.value(value)


@pytest.mark.finding("S1")
def test_redaction_takes_no_longer_for_many_keys() -> None:
    """A text is looked at once, whatever is looked for: the work does not grow with the keys, nor with a text's structure."""
    import time

    text = ("a word, 12 numbers and https://example.com/a%20b?c=1 " * 20_000)[:1_000_000]

    def spent(redactor: Redactor) -> float:
        started_at = time.process_time()
        assert text is redactor.value([text])[0]
        return time.process_time() - started_at

    many = [f"1nfsh-{''.join(random.Random(n).choices('0123456789abcdefghjkmnpqrstvwxyz', k=26))}" for n in range(8)]
    seconds = min(spent(Redactor([KEYS["newer"]])) for _ in range(3))

    assert seconds < 1.0
    assert min(spent(Redactor(many)) for _ in range(3)) < 4 * seconds + 0.1


WAYS = (Way("memory", "2025"), Way("http", "2026"))


@pytest.mark.anyio
@pytest.mark.finding("S1")
@pytest.mark.parametrize(
    ("way", "status"), [(WAYS[0], 200), (WAYS[0], 412), (WAYS[0], 422), (WAYS[1], 200), (WAYS[1], 403)], ids=str
)
async def test_a_key_that_the_platform_echoes_is_redacted_everywhere(
    environ: dict[str, str], way: Way, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """In answers, errors, progress, resources, completion, pinned tools: in no encoding, and in no piece of eight."""
    key = KEYS["newer"]
    forms = itertools.cycle(
        [*(encode(key) for encode in ENCODINGS.values()), *(piece for cut in PIECES.values() for piece in cut(key))]
    )
    async with answering(lambda: next(forms), status=status) as url:
        settings = {**environ, "INFERENCE_API_KEY": key, "INFERENCE_BASE_URL": url, "INFERENCE_PIN": "hero=a/b"}
        if way.transport == "http":
            async with callers(settings, key) as (client,):
                shown = await everything_shown(client)
        else:
            async with connected(way, settings) as client:
                shown = await everything_shown(client)

    assert {} == {name: pieces for name, (_, value) in shown.items() if (pieces := leaks(as_text(value), key))}
    assert status != 200 or "t1" in as_text(shown["tasks/t1"][1])
    with credentials_in_use(Redactor([key])):
        assert [] == leaks(without_secrets(caplog.text), key)


@pytest.mark.finding("S1")
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("kind", KEYS)
def test_the_log_has_no_key_in_any_encoding(kind: str, form: str, tmp_path: Path) -> None:
    """Neither in a message nor in a traceback; those of the process are known to it, whatever request there is or is not."""
    key, stream = KEYS[kind], (tmp_path / "log").open("w+", encoding="utf-8")
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure(Settings.from_environ({"INFERENCE_API_KEY": key, "INFERENCE_LOG_FORMAT": form}), stream)
        for encode in ENCODINGS.values():
            try:
                {}[encode(key)]
            except KeyError:
                logging.getLogger("inferencesh_mcp").exception("it said %s", encode(key))
        logging.getLogger("inferencesh_mcp").error("%s", json.dumps(PIECES["two halves"](key)))
        root.handlers[0].flush()
    finally:
        root.handlers[:], root.level = before
    text = (tmp_path / "log").read_text("utf-8")
    stream.close()

    assert "Traceback" in text
    assert [] == leaks(text, key)


@pytest.mark.anyio
@pytest.mark.finding("S1")
@over(Way("memory", "2026"))
async def test_the_sandboxs_own_key_is_not_redacted(environ: dict[str, str], way: Way) -> None:
    """It is the same for everybody, and made of words that an answer may have."""
    words = {"text": f"the person in the sandbox, {SANDBOX_KEY.removeprefix('inf_')}"}
    async with connected(way, {"INFERENCE_SANDBOX": "true"}) as client:
        result = await client.call_tool("app_run", {"app": "sandbox/echo", "input": words})

    assert words["text"] in as_text(result.model_dump(mode="json"))


@pytest.mark.anyio
@pytest.mark.finding("S1")
@over(Way("memory", "2026"))
async def test_the_storages_error_text_is_not_shown(environ: dict[str, str], way: Way, upstream: Upstream) -> None:
    """It quotes what was signed, and with which key: words of a host of files are none of the API's."""
    body = json.dumps(
        {"detail": "StringToSign AWS4-HMAC-SHA256 AKIACANARY", "error": {"code": "SignatureDoesNotMatch"}}
    )
    upstream.sandbox.faults.add(Status(code=403, body=body), method="PUT", times=-1)
    async with connected(way, environ) as client:
        result = await client.call_tool("file_upload", {"base64": "aGVsbG8=", "filename": "a.txt"})

    shown = as_text(result.model_dump(mode="json"))
    assert "forbidden" in shown
    assert [] == [word for word in ("StringToSign", "AKIACANARY", "SignatureDoesNotMatch") if word in shown]
