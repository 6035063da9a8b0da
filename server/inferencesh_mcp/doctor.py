"""What stands between here and a first run, and what to do about it."""

from __future__ import annotations

import json
import os
import platform
import ssl
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import anyio

from inferencesh_mcp import __version__
from inferencesh_mcp.api import Api
from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.errors import InferenceError, KeyRefused, SettingsError
from inferencesh_mcp.hosts.looking import look
from inferencesh_mcp.redaction import Redactor, credentials_in_use, without_credentials, without_secrets
from inferencesh_mcp.settings import FOREIGN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.hosts import Machine
    from inferencesh_mcp.pins import Pin
    from inferencesh_mcp.settings import Settings

MOST_SKEW = timedelta(minutes=5)  # presigned addresses are dated; beyond that they look used up


KEY_PREFIXES = ("inf_", "1nfsh-")
STORES = ("/etc/ssl/cert.pem", "/etc/pki/tls/cert.pem", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem")
Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    check: str
    verdict: Verdict
    found: str
    do: str = ""


def examine(settings: Settings, machine: Machine, out: TextIO, *, as_json: bool = False) -> int:
    """Write each finding, and return the exit code: 1 where something stops a run.

    As JSON it is `{"ok": bool, "findings": [{"check", "verdict", "found", "do"}]}`; checks are only ever added.
    """
    with credentials_in_use(Redactor(settings.credentials)):
        return _examine(settings, machine, out, as_json=as_json)


def _examine(settings: Settings, machine: Machine, out: TextIO, *, as_json: bool) -> int:
    findings = [
        _versions(),
        *_server(settings),
        *_foreign(machine),
        *_trust(settings, machine),
        *anyio.run(_api, settings),
        *_folders(settings),
        *_hosts(machine),
    ]
    findings = [Finding(**without_credentials(asdict(finding))) for finding in findings]
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
    if not version("mcp").startswith("2."):
        return Finding("versions", "failure", found, "Install mcp 2, or let uvx choose: uvx inferencesh-mcp doctor.")
    return Finding("versions", "ok", found)


def _server(settings: Settings) -> Iterator[Finding]:
    """Whether these settings go together: a pin may be called as one of the server's own tools, `http` lack its tokens."""
    from inferencesh_mcp.app import build
    from inferencesh_mcp.web import face

    try:
        server = build(settings)
    except SettingsError as exc:
        yield Finding("settings", "failure", exc.message, "Mend it: the server does not start like this.")
        return
    yield Finding("settings", "ok", "the server starts with them")
    try:
        face(server, settings)
    except SettingsError as exc:
        yield Finding("http settings", "warning", exc.message, "Mend it: http does not start like this.")


def _foreign(machine: Machine) -> Iterator[Finding]:
    """What the official SDKs read looks as if it counted here too."""
    for name in sorted(FOREIGN & machine.variables.keys()):
        ours = " This server reads INFERENCE_BASE_URL." if name == "INFERENCE_API_BASE_URL" else ""
        yield Finding("settings", "warning", f"{name} is set, and means nothing here", f"Leave it, or unset it.{ours}")


def _trust(settings: Settings, machine: Machine) -> Iterator[Finding]:
    """Whether there is anybody to trust: slim containers come without certificates."""
    if settings.sandbox or not (settings.proxy_url or settings.base_url).startswith("https:"):
        return
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        given = machine.variables.get(name)
        if given and not Path(given).exists():
            yield Finding("trust store", "failure", f"{name} is {given}, which is not there", f"Mend or unset {name}.")
            return
    found = ssl.get_default_verify_paths()
    stores = [path for path in (found.cafile, found.capath, *STORES) if path and _holds_something(Path(path))]
    if machine.platform == "linux" and not stores:
        yield Finding("trust store", "failure", "no certificates to trust were found", "Install ca-certificates.")
    else:
        yield Finding("trust store", "ok", stores[0] if machine.platform == "linux" else "the system's")


def _holds_something(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


async def _api(settings: Settings) -> list[Finding]:
    """One look at the API tells of the key, the way there, and the clock."""
    if settings.sandbox:
        return [Finding("api", "ok", "the sandbox inside the server; no key is needed")]
    key = settings.api_key.get_secret_value() if settings.api_key else None
    where = settings.proxy_url or settings.base_url
    if key is None and settings.proxy_url is None:
        return [Finding("key", "failure", "INFERENCE_API_KEY is not set",
                        "Get a key at https://inference.sh and set it, or try --sandbox.")]  # fmt: skip
    transport = Transport(settings.base_url, proxy_url=settings.proxy_url, client=f"inferencesh-mcp/{__version__}")
    findings: list[Finding] = []
    try:
        await Api(transport, key).list_apps(limit=1)
    except KeyRefused as exc:
        known = key is None or key.startswith(KEY_PREFIXES)
        shape = "" if known else " It does not begin with inf_ or 1nfsh-, as keys of inference.sh do."
        findings = [
            Finding("api", "ok", f"{where} answers"),
            Finding("key", "failure", f"{str(exc).rstrip('.')}.{shape}" if shape else str(exc), exc.next_step),
        ]
    except InferenceError as exc:
        because = _innermost(exc)
        findings = [Finding("api", "failure", f"{where}: {exc}{because and f' ({because})'}", exc.next_step)]
    else:
        findings = [Finding("api", "ok", f"{where} answers"), Finding("key", "ok", "it is accepted")]
        findings += [await _pin(Api(transport, key), pin) for pin in settings.pins]
    finally:
        await transport.aclose()
    return [*findings, *([_clock(transport.skew)] if findings[0].verdict == "ok" else [])]


async def _pin(api: Api, pin: Pin) -> Finding:
    """Whether a pinned app can be read, and made a tool."""
    from inferencesh_mcp.tools.pinned import PinnedTool

    try:
        PinnedTool.of(pin, await api.app(replace(pin.app, function="")))
    except InferenceError as exc:
        do = exc.next_step or "Mend INFERENCE_PIN; app_run reaches the app all the same."
        return Finding("pin", "warning", f"{pin.app} cannot be the tool {pin.name}: {exc}", do)
    return Finding("pin", "ok", f"{pin.app} is the tool {pin.name}")


def _innermost(exc: BaseException) -> str:
    """What the system said: an unknown name and a certificate that is not trusted look the same from above."""
    inner = exc
    while (further := inner.__cause__ or inner.__context__) is not None:
        inner = further
    return "" if inner is exc else without_secrets(str(inner))


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


def _hosts(machine: Machine) -> Iterator[Finding]:
    seen = list(look(machine))
    for host in seen:
        verdict: Verdict = "warning" if host.do and host.is_in else "ok"
        yield Finding("host", verdict, without_secrets(f"{host.title}: {host.what}"), host.do)
    if not seen:
        yield Finding(
            "host", "ok", "no host that is known here was found", "inferencesh-mcp install --help names them."
        )
