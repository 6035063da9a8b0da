r"""Paths as people and hosts write them: with `~` or a variable for the home, in quotes, as `file:` URIs, as `\\?\C:\…`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

# What a shell would have replaced by the home folder. No other variable is: its value would stand in errors.
_HOME = re.compile(r"(?i)^(%USERPROFILE%|%HOMEDRIVE%%HOMEPATH%|\$env:USERPROFILE|\$HOME|\$\{HOME\})(?=[\\/]|$)")
_VERBATIM = re.compile(r"(?i)^\\\\\?\\(UNC\\|(?=[a-z]:))")
_DRIVE = re.compile(r"/[A-Za-z]:($|[\\/])")
_WINDOWS_PATH = re.compile(r"/?([A-Za-z]):[\\/](.*)", re.DOTALL)
_WSL_SHARE = re.compile(r"(?i)[\\/]{2}wsl(?:\$|\.localhost)[\\/][^\\/]+(.*)", re.DOTALL)
_WSL_DRIVE = re.compile(r"/mnt/([a-z])(/.*)?", re.DOTALL)


def expanded(path: str) -> Path:
    """The path with the home folder filled in; unchanged if it is not known."""
    try:
        return plain(Path(_HOME.sub("~", path)).expanduser())
    except RuntimeError:
        return Path(path)


def plain(path: Path) -> Path:
    r"""The same path without `\\?\`, which Windows takes before any path."""
    if sys.platform == "win32" and (prefix := _VERBATIM.match(text := str(path))):
        return Path(("\\\\" if prefix[1] else "") + text[prefix.end() :])
    return path


def unquoted(text: str) -> str:
    """The text without a pair of quotes around it, which a shell would have taken away."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def from_uri(uri: str) -> str | None:
    """The path of a `file:` URI, or the text itself if it is not one; None if it names another machine."""
    if uri[:5].lower() != "file:":
        return uri
    rest = uri[5:]
    host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest)
    if unquote(host).lower() not in {"", "localhost"}:
        return None
    path = unquote(slash + path)
    return path[1:] if sys.platform == "win32" and _DRIVE.match(path) else path


def foreign(path: str) -> str:
    """The path as this system writes it, if another system that shares its disk wrote it; empty if not."""
    if sys.platform == "win32":
        drive = _WSL_DRIVE.fullmatch(path)
        return f"{drive[1].upper()}:{(drive[2] or '/')}".replace("/", "\\") if drive else ""
    if share := _WSL_SHARE.fullmatch(path):
        return share[1].replace("\\", "/") or "/"
    windows = _WINDOWS_PATH.fullmatch(path)
    return f"/mnt/{windows[1].lower()}/{windows[2]}".replace("\\", "/") if windows else ""


def is_name(path: str) -> bool:
    """Whether the operating system accepts such a path."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False
