"""Foreign text, made safe to show. Imports no other module of the package."""

from __future__ import annotations

import re
import secrets
from urllib.parse import quote

LOOKED_AT = 50  # characters read for each one shown: a foreign text may have millions
_SPACE = re.compile(r"\s+")
_LINE_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_SCRIPTS_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer: U+200B separates their words
)
_JOINERS = "\u200c\u200d"  # they shape Persian and Indic words, and hold emoji together
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"  # one after a character chooses how it is drawn
# Characters that hide, reorder or break text (T-17): control characters, half surrogate pairs, bidi controls, tags and characters
# without width. Also joiners and selectors that shape nothing: after a letter that is not joined, or several in a row, which may
# carry a message.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
    f"|(?<![{_SCRIPTS_WITHOUT_SPACES}])\u200b|\u200b(?![{_SCRIPTS_WITHOUT_SPACES}])"
    f"|(?:(?<=[\x00-\x7f{_JOINERS}])|^)[{_JOINERS}]"
    f"|(?:(?<=[\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f{_SELECTORS}])|^)[{_SELECTORS}]"
)
UNSEEN = "\ufffd"
_UNSEEN_RUN = re.compile(f"{UNSEEN}{{2,}}")
"""Replaces a character that is not shown."""

# Role markers in the chat templates of known models. Anywhere in a text, one could forge a role.
_DELIMITER = re.compile(
    r"<(?P<bar>[|\uff5c][^<>|\uff5c\s]{1,60}[|\uff5c])>"
    r"|<(?P<turn>/?(?:start_of_turn|end_of_turn|bos|eos))>"
    r"|<<(?P<system>/?SYS)>>"
    r"|\[(?P<square>/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS))\]",
    re.IGNORECASE,
)
_MARKER = re.compile(r"\[(?P<marker>(?:end of )?data [0-9a-f]{8})\]", re.IGNORECASE)
_FRAME = re.compile(r"^\[data ([0-9a-f]{8})\]$", re.MULTILINE)
_OUR_LINE = re.compile(
    r"\b(next):", re.IGNORECASE
)  # the start of our own next step, which foreign text must not imitate
_TOKEN_CHARS = re.compile(r"[^\w.@/+=~:-]|:(?!\d)", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_][\w.@/+=~-]*", re.ASCII)
# All of RFC 3986, `%` because the text is encoded already, and a few that every client accepts.
_IN_ADDRESSES = "!#$%&'()*+,/:;=?@[]~-._|^`{}"
_NAME_CHARS = re.compile(r"[^\w.-]", re.ASCII)


def visible(text: str, line_break: str = "\n") -> str:
    """The text with a sign for each character that hides, reorders or breaks, and with one kind of line break."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(UNSEEN, _LINE_BREAKS.sub(line_break, text))


def clean(text: str, limit: int) -> str:
    """One line of at most `limit` characters, in which nothing hides or reorders and nothing forges a role."""
    read = text[: LOOKED_AT * limit]
    line = _OUR_LINE.sub(
        r"\1 -", _SPACE.sub(" ", _UNSEEN_RUN.sub(UNSEEN, without_markers(neutral(visible(read)))))
    ).strip()
    return line if len(line) <= limit and len(read) == len(text) else line[: limit - 1] + "…"


def neutral(text: str) -> str:
    """The text with role markers in other brackets, where they mean nothing."""
    return _DELIMITER.sub(_in_other_brackets, text) if "<" in text or "[" in text else text


def without_markers(text: str) -> str:
    """The text with imitations of our data frame in other brackets: foreign text opens and closes none."""
    return _MARKER.sub(r"(\g<marker>)", text) if "[" in text else text


def framed(text: str) -> str:
    """Foreign text with its lines, between two markers that it cannot predict: everything between them is data."""
    return fenced(without_markers(neutral(visible(text))))


def fenced(text: str) -> str:
    """`framed`, for a text that is cleaned already."""
    nonce = secrets.token_hex(4)
    return f"[data {nonce}]\n{text}\n[end of data {nonce}]"


def with_closed_frames(text: str) -> str:
    """The text with the end of each frame that was cut off."""
    ends = [f"[end of data {nonce}]" for nonce in _FRAME.findall(text)]
    return "\n".join([text, *(end for end in ends if end not in text)])


def _in_other_brackets(match: re.Match[str]) -> str:
    inner = next(group for group in match.groups() if group is not None)
    return f"({inner})"


def address(text: str) -> str:
    """A URL in which invalid characters and role markers are encoded. It leads to the same place."""
    encoded = quote(text, safe=_IN_ADDRESSES)
    return encoded if neutral(encoded) == encoded else encoded.replace("[", "%5B").replace("]", "%5D")


def quoted(text: str, limit: int) -> str:
    """Foreign text inside a line of ours: one line in quotation marks that it cannot close."""
    return f'"{clean(text, limit).replace(chr(34), chr(39))}"'


def with_full_stop(text: str) -> str:
    """A message that ends as a sentence does."""
    return text if text.endswith((".", "!", "?", "…", '."', '!"', '?"', '…"')) else f"{text}."


def token(text: str, limit: int = 256) -> str:
    """An id that may appear in a call we suggest: characters that no id has (spaces, quotes, brackets) are replaced."""
    return _TOKEN_CHARS.sub(UNSEEN, text[:limit])


def name(text: str, limit: int = 128) -> str:
    """A part of a reference, such as a namespace: letters, digits, `_`, `.` and `-`."""
    return _NAME_CHARS.sub(UNSEEN, text[:limit])


def named(text: str, limit: int = 80) -> str:
    """A foreign name inside a sentence of ours: `'width'` if it is a plain word, else as `label` quotes it."""
    shown = label(text, limit)
    return shown if shown.startswith('"') else f"'{shown}'"


def label(text: str, limit: int = 80) -> str:
    """A foreign name, such as a field's: unchanged if it is a plain word, else in quotation marks."""
    return text if len(text) <= limit and _TOKEN.fullmatch(text) else quoted(text, limit)
