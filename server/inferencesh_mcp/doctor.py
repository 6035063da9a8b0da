"""`inferencesh-mcp doctor`: checks what a first run needs, and says what to fix."""

from __future__ import annotations

import json
import os
import platform
import ssl
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import anyio
from mcp import Client, StdioServerParameters

from inferencesh_mcp import __version__
from inferencesh_mcp.api.client import Api
from inferencesh_mcp.api.proxies import Proxies
from inferencesh_mcp.api.transport import Transport
from inferencesh_mcp.context import SANDBOX_KEY
from inferencesh_mcp.errors import InferenceError, KeyRefused, SettingsError
from inferencesh_mcp.flows.concurrency import unwrap_exception_group
from inferencesh_mcp.hosts.inspect import look
from inferencesh_mcp.http.app import create_app
from inferencesh_mcp.redaction import Redactor, credentials_in_use, without_credentials, without_secrets
from inferencesh_mcp.server import api_address, build
from inferencesh_mcp.settings import SDK_VARIABLES, Settings, unknown_variables
from inferencesh_mcp.tools.pinned import PinnedTool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.hosts.catalogue import Local, Machine
    from inferencesh_mcp.pins import Pin

MAX_SKEW = timedelta(minutes=5)  # presigned addresses expire; with more skew they look expired
START_SECONDS = 20.0
"""For a host's own entry to start and list its tools; hosts themselves wait 10 to 60 s."""
INHERITED_VARIABLES = ("PATH", "HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "SYSTEMROOT", "TEMP", "TMP", "LANG")
"""Variables that hosts pass on to a server."""
KEY_PREFIXES = ("inf_", "1nfsh-")
CERTIFICATE_STORES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    check: str
    verdict: Verdict
    found: str
    do: str = ""


def examine(settings: Settings, machine: Machine, out: TextIO, *, as_json: bool = False) -> int:
    """Write the findings and return the exit code: 1 if something stops a run.

    As JSON it is `{"ok": bool, "findings": [{"check", "verdict", "found", "do"}]}`; checks are only ever added.
    """
    with credentials_in_use(Redactor(settings.credentials)):
        findings = [Finding(**without_credentials(asdict(finding))) for finding in _findings(settings, machine)]
    failed = any(finding.verdict == "failure" for finding in findings)
    if as_json:
        out.write(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}) + "\n")
    else:
        out.writelines(_line(finding) for finding in findings)
        out.write("Something stops a run: see failure above.\n" if failed else "Ready to run.\n")
    return int(failed)


def _findings(settings: Settings, machine: Machine) -> list[Finding]:
    findings = [
        _versions(),
        *_server(settings),
        *_foreign(machine),
        *_trust(settings, machine),
        *_proxy(settings),
        *anyio.run(_api, settings),
        *_folders(settings),
    ]
    hosts = anyio.run(_hosts, machine)
    # A host has its own key and settings, so a failure here is only a warning if a host's entry works.
    if any(host.check == "host starts" and host.verdict == "ok" for host in hosts):
        findings = [replace(item, verdict="warning") if item.verdict == "failure" else item for item in findings]
    return findings + hosts


def _line(finding: Finding) -> str:
    advice = f"{'':9}-> {finding.do}\n" if finding.do else ""
    return f"{finding.verdict:8} {finding.check}: {finding.found}\n{advice}"


def _versions() -> Finding:
    versions = f"inferencesh-mcp {__version__}, mcp {version('mcp')}, Python {platform.python_version()} on {platform.system()}"
    if not version("mcp").startswith("2."):
        return Finding("versions", "failure", versions, "Install mcp 2, or let uvx choose: uvx inferencesh-mcp doctor.")
    return Finding("versions", "ok", versions)


def _server(settings: Settings) -> Iterator[Finding]:
    """Whether the settings fit together: a pin may have the name of a tool, `http` may lack tokens."""
    try:
        build(settings)
    except SettingsError as exc:
        yield Finding("settings", "failure", exc.message, "Fix it: the server does not start with it.")
        return
    yield Finding("settings", "ok", "the server starts with them")
    try:
        create_app(build(settings, remote=True), settings)
    except SettingsError as exc:
        yield Finding("http settings", "warning", exc.message, "Fix it: `inferencesh-mcp http` does not start with it.")


def _foreign(machine: Machine) -> Iterator[Finding]:
    """Variables with our prefix that are no settings: another program's, the official SDKs', or Kubernetes'."""
    for name in unknown_variables(machine.variables):
        state = f"{name} is not a setting and is ignored"
        yield Finding("settings", "warning", state, "Unset it if it is a typing error.")
    for name in sorted(SDK_VARIABLES & machine.variables.keys()):
        ours = " This server reads INFERENCE_BASE_URL." if name == "INFERENCE_API_BASE_URL" else ""
        do = f"Unset it if you do not need it.{ours}"
        yield Finding("settings", "warning", f"{name} is set, but has no effect here", do)


def _trust(settings: Settings, machine: Machine) -> Iterator[Finding]:
    """Whether there are trusted certificates: slim containers have none."""
    if settings.sandbox or not (settings.proxy_url or settings.base_url).startswith("https:"):
        return
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = machine.variables.get(name)
        if path and not os.path.exists(path):
            yield Finding("trust store", "failure", f"{name} is {path}, which does not exist", f"Fix or unset {name}.")
            return
    paths = ssl.get_default_verify_paths()
    stores = [path for path in (paths.cafile, paths.capath, *CERTIFICATE_STORES) if path and _is_not_empty(Path(path))]
    if machine.platform == "linux" and not stores:
        yield Finding("trust store", "failure", "no trusted certificates were found", "Install ca-certificates.")
    else:
        yield Finding("trust store", "ok", stores[0] if machine.platform == "linux" else "the system's")


def _proxy(settings: Settings) -> Iterator[Finding]:
    """The proxy that the variables choose, without its password."""
    where = settings.proxy_url or settings.base_url
    if settings.sandbox or not settings.proxies:
        return
    try:
        proxy = Proxies(settings.proxies).for_url(where)
    except SettingsError as exc:
        yield Finding("proxy", "failure", exc.message, exc.next_step)
        return
    if proxy is None:
        names = ", ".join(settings.proxies)
        yield Finding("proxy", "ok", f"none on the way to {where}, by {names}")
    else:
        yield Finding("proxy", "ok", f"{proxy.address} on the way to {where}, by {proxy.variable}")


def _is_not_empty(path: Path) -> bool:
    try:
        return path.is_file() or (path.is_dir() and any(path.iterdir()))
    except OSError:  # it may not be entered
        return False


async def _api(settings: Settings) -> list[Finding]:
    """Check the key, the network and the clock with one API call."""
    if settings.sandbox:
        async with api_address(settings) as url, aclosing(Transport(url)) as transport:
            pins = [await _pin(Api(transport, SANDBOX_KEY), pin) for pin in settings.pins]
        return [Finding("api", "ok", "the sandbox inside the server; no key is needed"), *pins]
    key = settings.api_key.get_secret_value() if settings.api_key else None
    where = settings.proxy_url or settings.base_url
    if key is None and settings.proxy_url is None:
        do = "Get a key at https://inference.sh and set it, or try --sandbox."
        return [Finding("key", "failure", "INFERENCE_API_KEY is not set", do)]
    client = f"inferencesh-mcp/{__version__}"
    async with aclosing(
        Transport(settings.base_url, proxy_url=settings.proxy_url, proxies=settings.proxies, client=client)
    ) as transport:
        api = Api(transport, key)
        try:
            await api.list_apps(limit=1)
        except KeyRefused as exc:
            known = key is None or key.startswith(KEY_PREFIXES)
            shape = "" if known else " It does not begin with inf_ or 1nfsh-, as keys of inference.sh do."
            state = f"{str(exc).rstrip('.')}.{shape}" if shape else str(exc)
            findings = [Finding("key", "failure", state, exc.next_step)]
        except InferenceError as exc:
            because = _innermost(exc)
            return [Finding("api", "failure", f"{where}: {exc}{because and f' ({because})'}", exc.next_step)]
        else:
            findings = [Finding("key", "ok", "it is accepted"), *[await _pin(api, pin) for pin in settings.pins]]
    return [Finding("api", "ok", f"{where} answers"), *findings, _clock(transport.skew)]


async def _pin(api: Api, pin: Pin) -> Finding:
    """Whether a pinned app can be read, and made a tool."""
    try:
        PinnedTool.of(pin, await api.app(replace(pin.app, function="")))
    except InferenceError as exc:
        do = exc.next_step or "Fix INFERENCE_PIN. The app still works with app_run."
        return Finding("pin", "warning", f"{pin.app} cannot be the tool {pin.name}: {exc}", do)
    return Finding("pin", "ok", f"{pin.app} is the tool {pin.name}")


def _innermost(exc: BaseException) -> str:
    """The system's own error, which tells an unknown name from an untrusted certificate."""
    inner = exc
    while (further := inner.__cause__ or inner.__context__) is not None:
        inner = further
    return "" if inner is exc else without_secrets(str(inner))


def _clock(skew: timedelta) -> Finding:
    seconds = round(skew.total_seconds())
    if abs(skew) > MAX_SKEW:
        state = f"this machine is {seconds} s off the API's clock"
        return Finding("clock", "warning", state, "Set the clock. Uploads may be refused.")
    return Finding("clock", "ok", f"within {abs(seconds)} s of the API's")


def _folders(settings: Settings) -> Iterator[Finding]:
    for folder in settings.allowed_dirs:
        if _is_readable(folder):
            yield Finding("allowed folder", "ok", str(folder))
        else:
            do = "Create it, or fix INFERENCE_ALLOWED_DIRS."
            yield Finding("allowed folder", "warning", f"{folder} cannot be read", do)
    folder = settings.saving_to
    nearest = next((parent for parent in (folder, *folder.parents) if os.path.exists(parent)), folder)
    if os.path.isdir(nearest) and os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("save folder", "ok", str(folder) if folder == nearest else f"{folder} (made when needed)")
    else:
        do = "Set INFERENCE_SAVE_DIR to a folder that you can write to."
        yield Finding("save folder", "warning", f"{folder} cannot be written", do)


def _is_readable(folder: Path) -> bool:
    """Try it: on Windows `os.access` does not read access lists."""
    try:
        with os.scandir(folder):
            return os.access(folder, os.X_OK)
    except OSError:
        return False


async def _hosts(machine: Machine) -> list[Finding]:
    """The entries for this server in each host on this machine, and whether they start."""
    inspections = list(look(machine))
    if not inspections:
        do = "`inferencesh-mcp install --help` lists the known hosts."
        return [Finding("host", "ok", "no known host was found", do)]
    findings: list[Finding] = []
    for host in inspections:
        verdict: Verdict = "warning" if host.do and host.is_in else "ok"
        findings.append(Finding("host", verdict, without_secrets(f"{host.title}: {host.state}"), host.do))
        if host.process is not None:
            findings.append(await _starts(host.title, host.process, machine))
    return findings


async def _starts(title: str, process: Local, machine: Machine) -> Finding:
    """Start a host's entry as the host does, with few inherited variables, and list its tools."""
    inherited = {name: machine.variables[name] for name in INHERITED_VARIABLES if name in machine.variables}
    server = StdioServerParameters(
        command=process.command,
        args=list(process.args),
        env={**inherited, **dict(process.settings), "INFERENCE_LOG_LEVEL": "ERROR"},
    )
    try:
        with anyio.fail_after(START_SECONDS), unwrap_exception_group():
            async with Client(server) as client:
                tools = len((await client.list_tools()).tools)
    except Exception as exc:  # noqa: BLE001 - whatever it is: this process did not come up
        do = f"Run it by hand to see why: {without_secrets(' '.join([process.command, *process.args]))}"
        return Finding("host starts", "failure", f"{title}: it does not start ({type(exc).__name__})", do)
    state = f"{title}: it starts with {tools} tools"
    settings = _settings_of(process)
    if settings is None or (settings.api_key is None and not settings.sandbox and settings.proxy_url is None):
        return Finding("host starts", "warning", f"{state}, and without a key", "Give the host a key.")
    problem = next((finding for finding in await _api(settings) if finding.verdict != "ok"), None)
    if problem:
        return Finding("host starts", problem.verdict, f"{state}; {problem.check}: {problem.found}", problem.do)
    return Finding("host starts", "ok", f"{state}, and its key and pins work")


def _settings_of(process: Local) -> Settings | None:
    try:
        return Settings.from_environ(dict(process.settings))
    except SettingsError:
        return None
