"""The moving picture of the README: `manifests/demo.svg`, recorded from a real run of `inferencesh-mcp demo`.

`python -m tests.demo_picture` records it anew. A test runs the demo and holds the picture to what it writes: ids, sizes of
steps and times differ from run to run, all else must be equal.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

PICTURE = Path(__file__).parent.parent / "manifests" / "demo.svg"
SHOWN = re.compile(
    r"(?:Starting the server|Running |Now a picture|It is a |Giving a job|All of this)"
    r"|  (?:[\w/-]+: completed after|Saved:|/\S+ \(image/|A person is asked|The person approves"
    r"|Chat \w+: answered|draw: approved)"
    r"|  (?:running .* · step|uploading )"
)
MAX_PAUSE_SECONDS = 1.2
"""Seconds between two lines of the picture."""
READING = 5.0
"""Seconds that the whole text stays before it begins again."""
COLUMNS = 112
LINE, LEFT, TOP = 18, 20, 34


@dataclass(frozen=True)
class Recording:
    lines: list[tuple[float, str]]
    """Each line that is shown, with the seconds since the first."""
    drawn: bytes
    """The picture that was drawn, a PNG."""


def record() -> Recording:
    """Run the demo, and keep what the picture shows of it."""
    lines: list[tuple[float, str]] = []
    clock = previous = 0.0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "inferencesh_mcp", "demo", "--to", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
            assert process.stdout
            for text in process.stdout:
                if SHOWN.match(text):
                    now = time.monotonic()
                    clock += min(MAX_PAUSE_SECONDS, now - (previous or now))
                    previous = now
                    lines.append((clock, text.rstrip().replace(folder, "~/pictures")[:COLUMNS]))
        assert process.returncode == 0
        [drawn] = Path(folder).glob("drawing.png")
        return Recording(_last_steps(lines), drawn.read_bytes())


def _last_steps(lines: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """One line of progress for each run: how many there are depends on the machine."""
    following = [text for _, text in lines[1:]] + [""]
    return [
        line
        for line, after in zip(lines, following, strict=True)
        if not (_is_progress(line[1]) and _is_progress(after))
    ]


def _is_progress(text: str) -> bool:
    return text.startswith(("  running ", "  uploading "))


def stable(lines: list[str]) -> list[str]:
    """What is equal in every run: without progress, ids and times."""
    kept = [line for line in lines if not _is_progress(line)]
    return [re.sub(r"[0-9a-z]{26}", "ID", re.sub(r"\b[\d.]+ s\b", "TIME", line)) for line in kept]


def lines_of(svg: str) -> list[str]:
    """The lines that a picture shows."""
    return [unescape(text) for text in re.findall(r'<text class="l[^>]*>(.*?)</text>', svg)]


def drawn(recording: Recording) -> str:
    """The picture: each line appears when it was written, and the whole begins anew after some seconds."""
    total = recording.lines[-1][0] + READING
    height = TOP + LINE * (len(recording.lines) + 1) + 12
    picture = base64.b64encode(recording.drawn).decode()
    rules, texts = [], []
    for number, (at, text) in enumerate(recording.lines):
        kind = "step" if not text.startswith(" ") else "progress" if _is_progress(text) else "result"
        rules.append(_appears(f"l{number}", at, total))
        y = TOP + LINE * (number + 1)
        texts.append(f'<text class="l{number} {kind}" x="{LEFT}" y="{y}" xml:space="preserve">{escape(text)}</text>')
    saved = next(at for at, text in recording.lines if "drawing.png (" in text)
    rules.append(_appears("drawn", saved, total))
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" width="960" height="{height}" role="img">',
        "<title>inferencesh-mcp demo</title>",
        "<style>",
        "text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #c9d1d9 }",
        ".step { fill: #ffffff; font-weight: bold } .progress { fill: #8b949e } .prompt { fill: #7ee787 }",
        *rules,
        "@media (prefers-reduced-motion: reduce) { * { animation: none !important } }",
        "</style>",
        f'<rect width="960" height="{height}" rx="8" fill="#0d1117"/>',
        f'<text class="prompt" x="{LEFT}" y="{TOP}">$ inferencesh-mcp demo</text>',
        *texts,
        f'<image class="drawn" x="740" y="52" width="200" height="125" href="data:image/png;base64,{picture}"/>',
        "</svg>\n",
    ])  # fmt: skip


def _appears(name: str, at: float, total: float) -> str:
    start = f"{100 * at / total:.1f}%"
    frames = f"@keyframes {name} {{ 0% {{ opacity: 0 }} {start} {{ opacity: 1 }} }}"
    return f"{frames} .{name} {{ animation: {name} {total:.1f}s step-end infinite }}" if at else ""


def write() -> None:
    """Record it anew where it shows something else than the demo does now."""
    recording = record()
    now = stable([text for _, text in recording.lines])
    if not PICTURE.exists() or stable(lines_of(PICTURE.read_text("utf-8"))) != now:
        PICTURE.write_text(drawn(recording), encoding="utf-8")


if __name__ == "__main__":
    write()
