"""The pages as their readers see them: links that lead somewhere, and sentences that are short.

`make lint` runs `python -m tests.pages`. Nothing is fetched: of an address elsewhere only its form is checked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
FOR_READERS = ("README.md", "server/README.md", "manifests/README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md",
               "tests/benchmarks/README.md")  # fmt: skip
"""Pages for people who speak English as a second language; the others are lists for those who work on the tests."""
MAX_WORDS = 15
"""Of a sentence, on average over a page."""
LONGEST = 45
"""Words of any one sentence."""
_MARKDOWN = MarkdownIt("commonmark").enable("table")


def all_pages() -> list[Path]:
    folders = (ROOT, ROOT / "server", ROOT / "manifests", ROOT / "tests")
    return sorted({page for folder in folders for page in folder.glob("**/*.md" if folder.name == "tests" else "*.md")
                   if "node_modules" not in page.parts})  # fmt: skip


def broken_links(page: Path) -> Iterator[str]:
    """Each link of the page that leads nowhere, and why."""
    for link in _links(page.read_text("utf-8")):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            if parts.scheme != "https" or "." not in parts.netloc:
                yield f"{link} is not an https:// address"
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        if not target.exists():
            yield f"{link}: there is no such file"
        elif parts.fragment and parts.fragment not in anchors(target.read_text("utf-8")):
            yield f"{link}: there is no such heading"


def anchors(text: str) -> set[str]:
    """The headings, as GitHub names them in addresses."""
    tokens = _MARKDOWN.parse(text)
    titles = [_text(after) for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def sentences(text: str) -> list[str]:
    """The sentences of paragraphs and lists, without code, tables and headings."""
    found: list[str] = []
    skipped = 0
    for token in _MARKDOWN.parse(text):
        if token.type.startswith(("heading", "table")):
            skipped += token.nesting
        elif token.type == "inline" and not skipped:
            found += re.split(r"(?<=[.!?])[*_”)]*\s+", _text(token))
    return [sentence for sentence in found if len(sentence.split()) > 2]


def words(sentence: str) -> int:
    return len([word for word in sentence.split() if re.search(r"\w", word)])


def hard_to_read(text: str) -> Iterator[str]:
    """What makes the page hard to read."""
    by_length = sorted(sentences(text), key=words, reverse=True)
    average = sum(map(words, by_length)) / (len(by_length) or 1)
    if average > MAX_WORDS:
        longest = "\n    ".join(by_length[:5])
        yield f"{average:.1f} words in a sentence on average, more than {MAX_WORDS}. The longest are:\n    {longest}"
    yield from (
        f"{words(sentence)} words in one sentence: {sentence}" for sentence in by_length if words(sentence) > LONGEST
    )


def _links(text: str) -> Iterator[str]:
    for token in _MARKDOWN.parse(text):
        for child in token.children or ():
            if address := child.attrGet("href") or child.attrGet("src"):
                yield str(address)


def _text(token: Token) -> str:
    """What a reader reads of a line: of a picture nothing, of code its text."""
    parts = [
        " " if child.type == "softbreak" else child.content for child in token.children or () if child.type != "image"
    ]
    return "".join(parts).strip()


def main() -> int:
    problems = [f"{page.relative_to(ROOT)}: {why}" for page in all_pages() for why in broken_links(page)]
    problems += [f"{name}: {why}" for name in FOR_READERS for why in hard_to_read((ROOT / name).read_text("utf-8"))]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
