"""What stands between here and a first run, and what to do about it."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import anyio

from inferencesh_mcp import __version__
from inferencesh_mcp.api import Api
from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.settings import Settings

MOST_SKEW = timedelta(minutes=5)  # presigned addresses are dated; beyond that they look used up


@dataclass(frozen=True)
class Finding:
    check: str
    verdict: Literal["ok", "warning", "failure"]
    found: str
    do: str = ""


def examine(settings: Settings, out: TextIO, *, as_json: bool = False) -> int:
    """Write each finding, and return the exit code: 1 where something stops a run."""
    findings = [_versions(), *anyio.run(_api, settings), *_folders(settings)]
    failed = any(finding.verdict == "failure" for finding in findings)
    if as_json:
        out.write(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}) + "\n")
        return int(failed)
    out.writelines(_line(finding) for finding in findings)
    out.write("Something stops a run: see failure above.\n" if failed else "Ready to run.\n")
    return int(failed)


def _line(finding: Finding) -> str:
    advice = f"{'':9}→ {finding.do}\n" if finding.do else ""
    return f"{finding.verdict:8} {finding.check}: {finding.found}\n{advice}"


def _versions() -> Finding:
    found = f"inferencesh-mcp {__version__}, mcp {version('mcp')}, Python {platform.python_version()} on {platform.system()}"
    return Finding("versions", "ok", found)


async def _api(settings: Settings) -> list[Finding]:
    """One look at the API tells of the key, the way there, and the clock."""
    if settings.sandbox:
        return [Finding("api", "ok", "the sandbox inside the server; no key is needed")]
    key = settings.api_key.get_secret_value() if settings.api_key else None
    if key is None and settings.proxy_url is None:
        return [Finding("key", "failure", "INFERENCE_API_KEY is not set",
                        "Get a key at https://inference.sh and set it, or try --sandbox.")]  # fmt: skip
    transport = Transport(settings.base_url, proxy_url=settings.proxy_url, client=f"inferencesh-mcp/{__version__}")
    try:
        await Api(transport, key).list_apps(limit=1)
    except InferenceError as exc:
        return [Finding("api", "failure", f"{settings.proxy_url or settings.base_url}: {exc}", exc.next_step)]
    finally:
        await transport.aclose()
    return [
        Finding("api", "ok", f"{settings.proxy_url or settings.base_url} answers and takes the key"),
        _clock(transport.skew),
    ]


def _clock(skew: timedelta) -> Finding:
    seconds = round(skew.total_seconds())
    if abs(skew) > MOST_SKEW:
        return Finding(
            "clock", "warning", f"this machine is {seconds} s off the API's clock", "Set it: uploads may be refused."
        )
    return Finding("clock", "ok", f"within {abs(seconds)} s of the API's")


def _folders(settings: Settings) -> Iterator[Finding]:
    for folder in settings.allowed_dirs:
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield Finding("allowed folder", "ok", str(folder))
        else:
            yield Finding(
                "allowed folder", "warning", f"{folder} cannot be read", "Create it, or mend INFERENCE_ALLOWED_DIRS."
            )
    folder = settings.saving_to
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("save folder", "ok", str(folder) if folder == nearest else f"{folder} (made when needed)")
    else:
        yield Finding(
            "save folder",
            "warning",
            f"{Path(folder)} cannot be written",
            "Set INFERENCE_SAVE_DIR to a folder that can.",
        )
