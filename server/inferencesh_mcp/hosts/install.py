"""Add the server to a host's configuration, and remove it without a trace."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from inferencesh_mcp.errors import HostFileRefused, InvalidInput
from inferencesh_mcp.hosts import (
    HOSTS,
    KEY,
    PLACEHOLDER,
    Local,
    Remote,
    config_file,
    edit,
    is_reference,
    process_of,
    table,
)
from inferencesh_mcp.settings.types import ADDRESS, is_secure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferencesh_mcp.hosts import Host, Machine

HOSTED = "https://api.inference.sh/mcp"
"""The platform's own endpoint, which its documentation enters under the same name."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")  # no underscore: Gemini CLI; short: hosts put it before every tool's name


@dataclass(frozen=True)
class InstallResult:
    """What became of the file."""

    what: Literal["created", "added", "updated", "removed", "unchanged"]
    path: Path
    backup: Path | None = None


def host_named(name: str) -> Host:
    return next(host for host in HOSTS if host.name == name)


def checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(message=f'--name is "{name}", but must be up to 24 of a-z, 0-9 and -, a letter first.')
    return name


def remote(url: str, host: Host, *, sign_in: bool = False) -> Remote:
    """The server at an address; with `sign_in` no key goes in, and the host does what that server asks for (OAuth).

    Raises:
        InvalidInput: a key must not be sent there, or the host's file takes no address.
    """
    if not is_secure(url):
        raise InvalidInput(message=f"--http must be {ADDRESS}.")
    if not host.address_field:
        raise InvalidInput(
            message=f"{host.title} cannot use a remote server from its file.",
            next_step=f"Add {url} in its settings under Connectors, as a custom connector; it signs in with OAuth.",
        )
    return Remote(url, needs_key=not sign_in)


def local(program: Path, environ: Mapping[str, str], settings: Mapping[str, str]) -> Local:
    """The server as it is installed here. `program` is the Python that runs this.

    Hosts do not search the PATH of a terminal, so the path is absolute. What `uvx` has made for this one run may be
    gone tomorrow: then it is `uvx` that the host shall start.
    """
    variables = tuple(settings.items())
    if any(part.startswith(("archive-v", "environments-v")) for part in program.parts):  # of uv's cache
        return Local(shutil.which("uvx", path=environ.get("PATH")) or "uvx", ("inferencesh-mcp",), variables)
    for name in ("inferencesh-mcp", "inferencesh-mcp.exe"):
        if os.path.isfile(command := program.parent / name):
            return Local(str(command), (), variables)
    return Local(str(program), ("-m", "inferencesh_mcp"), variables)


def editions(host: Host, machine: Machine) -> list[Host]:
    """The host, once for each installation of it on this machine."""
    if not host.reads_every_place:
        return [host]
    return [_edition(host, path) for path in host.places(machine)]


def _edition(host: Host, path: PurePath) -> Host:
    def places(_: Machine) -> tuple[PurePath, ...]:
        return (path,)

    return replace(host, places=places)


def place(host: Host, machine: Machine) -> Path:
    """The file of this host on this machine."""
    places = [Path(path) for path in host.places(machine)]
    return next((path for path in reversed(places) if os.path.exists(path)), places[0])


def shown(host: Host, name: str, server: Local | Remote) -> str:
    """What would be written, alone and without a key."""
    text = edit.put(host, "", name, host.entry(server, PLACEHOLDER))
    return text if text.endswith("\n") else text + "\n"


def entry_of(host: Host, name: str, machine: Machine) -> Any:
    """The entry of that name as it is now; None when there is none."""
    path = place(host, machine)
    return _read(host, path)[1].get(name)


def key_in(entry: Any) -> str:
    """The key that an entry holds, so that it need not be asked for again."""
    headers, (_, variables) = table(table(entry).get("headers")), process_of(table(entry))
    key = str(headers.get("Authorization", "")).removeprefix("Bearer ") or str(variables.get(KEY, ""))
    return "" if is_reference(key) or key == PLACEHOLDER else key


def is_ours(entry: Any) -> bool:
    """Whether an entry starts this server, or reaches one with a key of inference.sh."""
    text = str(entry)  # not JSON: a TOML value may be a date
    return any(mark in text for mark in ("inferencesh", KEY, PLACEHOLDER))


def is_foreign(entry: Any) -> bool:
    """Whether an entry without a mark of ours is plainly another's: a command, or the platform's own endpoint."""
    fields = table(entry)
    return "command" in fields or HOSTED in map(str, fields.values())


def install(host: Host, name: str, server: Local | Remote, *, machine: Machine, key: str = "") -> InstallResult:
    """Write the entry. What the file was before the first entry of ours is kept in a backup beside it, once.

    Raises:
        HostFileRefused: the file is not what it should be, or has a server of somebody else's under that name.
    """
    path = place(host, machine)
    _refuse_redirected(path, host, machine)
    kept, servers = _read(host, path)
    entry = host.entry(server, key)
    old = servers.get(name)
    if old is not None and not is_ours(old) and not (isinstance(server, Remote) and server.url in str(old)):
        raise HostFileRefused(
            message=f"{path} has another server named {name}.", next_step="Choose another name with --name."
        )
    try:
        text = edit.put(host, kept.text, name, entry)
    except HostFileRefused as exc:
        raise _with_path(path, exc) from exc
    text = _edited(host, path, name, kept.text, text)
    if text == kept.text and kept.raw is not None:
        return InstallResult("unchanged", path)
    backup = _backup(path, name)
    # Not of a file that already holds an entry of ours: such a copy would keep a key after `uninstall`.
    first = kept.raw is not None and old is None and not backup.exists()
    _replace(host, kept, kept.written(text), backup=backup if first else None)
    what: Literal["created", "added", "updated"]
    what = "created" if kept.raw is None else "added" if old is None else "updated"
    return InstallResult(what, path, backup if backup.exists() else None)


def uninstall(host: Host, name: str, *, machine: Machine) -> InstallResult:
    """Take the entry out: to the byte what was there before, where nobody else has changed the file since.

    No copy that holds a key of ours is left beside the file.

    Raises:
        HostFileRefused: the file is not what it should be, or the server of that name is somebody else's.
    """
    path = place(host, machine)
    kept, servers = _read(host, path)
    if name not in servers:
        return InstallResult("unchanged", path)
    backup = _backup(path, name)
    alone = kept.text == edit.put(host, "", name, servers[name])
    if not is_ours(servers[name]) and (is_foreign(servers[name]) or not (alone or backup.exists())):
        raise HostFileRefused(
            message=f"{path} has another server named {name}. It was not changed.",
            next_step="Remove it by hand if you do not need it.",
        )
    before = _before(host, name, kept, backup)
    if before is not None:
        _replace(host, kept, before)
        backup.unlink()
        return InstallResult("removed", path)
    if alone and not backup.exists():
        _replace(host, kept, None)  # we made it, and nothing else is in it
        return InstallResult("removed", path)
    text = edit.take(host, kept.text, name, before=_content(host, backup))
    text = _edited(host, path, name, kept.text, text)
    _replace(host, kept, kept.written(text))
    if _holds_ours(host, backup):
        backup.unlink()
    return InstallResult("removed", path, backup if backup.exists() else None)


def _replace(host: Host, kept: config_file.ConfigFile, raw: bytes | None, *, backup: Path | None = None) -> None:
    try:
        config_file.replace(kept, raw, backup=backup)
    except HostFileRefused as exc:
        raise exc.replace(next_step=exc.next_step or f"Close {host.title}, then try again.") from exc


def _refuse_redirected(path: Path, host: Host, machine: Machine) -> None:
    """Windows redirects what Python of the Microsoft Store writes below AppData, so no host would see it (cpython issue 95029)."""
    if "WindowsApps" in Path(sys.base_prefix).parts and path.is_relative_to(Path(machine.home / "AppData")):
        raise HostFileRefused(
            message=f"Python of the Microsoft Store cannot write {path}.",
            next_step=f"Use Python of python.org, or copy the entry: inferencesh-mcp install {host.name} --print",
        )


def _backup(path: Path, name: str) -> Path:
    return Path(f"{path}.before-{name}")


def _holds_ours(host: Host, backup: Path) -> bool:
    """Whether a backup holds an entry of ours, and so perhaps a key. One that cannot be read is left alone."""
    try:
        return any(is_ours(entry) for entry in edit.servers(host, config_file.read(backup).text).values())
    except HostFileRefused:
        return False


def _before(host: Host, name: str, kept: config_file.ConfigFile, backup: Path) -> bytes | None:
    """What was there before the server was put in: the backup, if putting it in there gives what is here now."""
    try:
        old, servers = _read(host, backup)
        entry = edit.servers(host, kept.text).get(name)
        if old.raw is None or name in servers or entry is None:
            return None
        return old.raw if old.written(edit.put(host, old.text, name, entry)) == kept.raw else None
    except HostFileRefused:
        return None


def _content(host: Host, backup: Path) -> Mapping[str, Any]:
    """What the backup says, without what is ours under another name."""
    try:
        text = config_file.read(backup).text
        for name, entry in edit.servers(host, text).items():
            if is_ours(entry):
                text = edit.take(host, text, name, before={})
        return edit.content(host, text)
    except HostFileRefused:
        return {}


def _read(host: Host, path: Path) -> tuple[config_file.ConfigFile, Mapping[str, Any]]:
    kept = config_file.read(path)
    try:
        return kept, edit.servers(host, kept.text)
    except HostFileRefused as exc:
        raise _with_path(path, exc) from exc


def _edited(host: Host, path: Path, name: str, old: str, new: str) -> str:
    """Let nothing be written that would say something else about anything else."""
    try:
        if edit.changes_only(host, old, new, name):
            return new
    except HostFileRefused:
        pass
    raise HostFileRefused(
        message=f"{path} cannot be edited safely. It was not changed.",
        next_step=f"Edit it by hand: inferencesh-mcp install {host.name} --print shows the entry.",
    )


def _with_path(path: Path, exc: HostFileRefused) -> HostFileRefused:
    message = exc.message if exc.message.startswith(str(path)) else f"{path} {exc.message}"
    return HostFileRefused(
        message=message, next_step=exc.next_step or "Fix the file, then try again. It was not changed."
    )
