"""Add the server to a host's configuration, and remove it again."""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from inferencesh_mcp.errors import HostFileRefused, InvalidInput
from inferencesh_mcp.hosts import config_file, edit
from inferencesh_mcp.hosts.catalogue import HOSTS, KEY, PLACEHOLDER, Local, Remote, is_reference, process_of, table
from inferencesh_mcp.settings.types import ADDRESS, is_secure

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from inferencesh_mcp.hosts.catalogue import Host, Machine

HOSTED = "https://api.inference.sh/mcp"
"""The platform's own endpoint, which its documentation enters under the same name."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")  # no underscore: Gemini CLI; short: hosts put it before every tool's name


@dataclass(frozen=True)
class InstallResult:
    """What was done to the file."""

    action: Literal["created", "added", "updated", "removed", "unchanged"]
    path: Path
    backup: Path | None = None


def host_named(name: str) -> Host:
    return next(host for host in HOSTS if host.name == name)


def checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput(message=f'--name is "{name}", but must be up to 24 of a-z, 0-9 and -, a letter first.')
    return name


def remote(url: str, host: Host, *, sign_in: bool = False) -> Remote:
    """The server at a URL. With `sign_in`, no key is written, and the host signs in with OAuth.

    Raises:
        InvalidInput: the URL is not secure, or the host's file cannot name a remote server.
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
    """The command that starts this server on this machine. `program` is the Python that runs this code.

    The path is absolute, because hosts do not search the PATH of a terminal. If `uvx` runs this, the host starts `uvx`
    too: the environment of this run is in uv's cache and may be deleted.
    """
    variables = tuple(settings.items())
    if any(part.startswith(("archive-v", "environments-v")) for part in program.parts):  # of uv's cache
        return Local(shutil.which("uvx", path=environ.get("PATH")) or "uvx", ("inferencesh-mcp",), variables)
    for name in ("inferencesh-mcp", "inferencesh-mcp.exe"):
        if os.path.isfile(command := program.parent / name):
            return Local(str(command), (), variables)
    return Local(str(program), ("-m", "inferencesh_mcp"), variables)


def editions(host: Host, machine: Machine) -> list[Host]:
    """The host, once for each of its installations on this machine."""
    if not host.reads_every_place:
        return [host]
    return [_edition(host, path) for path in host.places(machine)]


def _edition(host: Host, path: PurePath) -> Host:
    def places(_: Machine) -> tuple[PurePath, ...]:
        return (path,)

    return replace(host, places=places)


def place(host: Host, machine: Machine) -> Path:
    """The host's configuration file on this machine."""
    places = [Path(path) for path in host.places(machine)]
    return next((path for path in reversed(places) if os.path.exists(path)), places[0])


def shown(host: Host, name: str, server: Local | Remote) -> str:
    """The entry as text, without a key."""
    text = edit.put(host, "", name, host.entry(server, PLACEHOLDER))
    return text if text.endswith("\n") else text + "\n"


def entry_of(host: Host, name: str, machine: Machine) -> Any:
    """The current entry of that name; None if there is none."""
    return read(host, place(host, machine))[1].get(name)


def key_in(entry: Any) -> str:
    """The key in an entry; empty if it has none, or only a reference to one."""
    headers, (_, variables) = table(table(entry).get("headers")), process_of(table(entry))
    key = str(headers.get("Authorization", "")).removeprefix("Bearer ") or str(variables.get(KEY, ""))
    return "" if is_reference(key) or key == PLACEHOLDER else key


def is_ours(entry: Any) -> bool:
    """Whether an entry starts this server, or sends a key of inference.sh to a remote one."""
    text = str(entry)  # not JSON: a TOML value may be a date
    return any(mark in text for mark in ("inferencesh", KEY, PLACEHOLDER))


def is_foreign(entry: Any) -> bool:
    """Whether an entry that is not ours clearly belongs to another server: a command, or the platform's own endpoint."""
    fields = table(entry)
    return "command" in fields or HOSTED in map(str, fields.values())


def install(host: Host, name: str, server: Local | Remote, *, machine: Machine, key: str = "") -> InstallResult:
    """Write the entry. Before the first entry of ours is added, the file is copied to a backup beside it.

    Raises:
        HostFileRefused: the file cannot be read or edited, or another server has that name.
    """
    path = place(host, machine)
    _refuse_redirected(path, host, machine)
    file, servers = read(host, path)
    entry = host.entry(server, key)
    old_entry = servers.get(name)
    reaches_url = isinstance(server, Remote) and server.url in str(old_entry)
    if old_entry is not None and not is_ours(old_entry) and not reaches_url:
        raise HostFileRefused(
            message=f"{path} has another server named {name}.", next_step="Choose another name with --name."
        )
    with _naming(path):
        text = edit.put(host, file.text, name, entry)
    _refuse_other_changes(host, path, name, file.text, text)
    if text == file.text and file.raw is not None:
        return InstallResult("unchanged", path)
    backup = _backup(path, name)
    # A file that already has an entry of ours is not copied: the copy would keep a key after `uninstall`.
    first = file.raw is not None and old_entry is None and not backup.exists()
    _replace(host, file, file.written(text), backup=backup if first else None)
    action: Literal["created", "added", "updated"]
    action = "created" if file.raw is None else "added" if old_entry is None else "updated"
    return InstallResult(action, path, backup if backup.exists() else None)


def uninstall(host: Host, name: str, *, machine: Machine) -> InstallResult:
    """Remove the entry. If nothing else in the file has changed since `install`, the file is restored byte for byte.

    A backup that holds a key of ours is deleted.

    Raises:
        HostFileRefused: the file cannot be read or edited, or the server of that name is not ours.
    """
    path = place(host, machine)
    file, servers = read(host, path)
    if name not in servers:
        return InstallResult("unchanged", path)
    backup = _backup(path, name)
    alone = file.text == edit.put(host, "", name, servers[name])
    if not is_ours(servers[name]) and (is_foreign(servers[name]) or not (alone or backup.exists())):
        raise HostFileRefused(
            message=f"{path} has another server named {name}. It was not changed.",
            next_step="Remove it by hand if you do not need it.",
        )
    old_file, old_servers = _read_backup(host, backup)
    if old_file.raw is not None and name not in old_servers:
        installed = None
        with suppress(HostFileRefused):  # somebody changed the backup: the entry is cut out instead
            installed = old_file.written(edit.put(host, old_file.text, name, servers[name]))
        if installed == file.raw:
            _replace(host, file, old_file.raw)
            backup.unlink()
            return InstallResult("removed", path)
    if alone and not backup.exists():
        _replace(host, file, None)  # `install` created it, and it holds nothing else
        return InstallResult("removed", path)
    before: Mapping[str, Any] = {}
    with suppress(HostFileRefused):
        before = _content_without_ours(host, old_file.text)
    text = edit.take(host, file.text, name, before=before)
    _refuse_other_changes(host, path, name, file.text, text)
    _replace(host, file, file.written(text))
    if any(map(is_ours, old_servers.values())):
        backup.unlink()
    return InstallResult("removed", path, backup if backup.exists() else None)


def _replace(host: Host, file: config_file.ConfigFile, raw: bytes | None, *, backup: Path | None = None) -> None:
    try:
        config_file.replace(file, raw, backup=backup)
    except HostFileRefused as exc:
        raise exc.replace(next_step=exc.next_step or f"Close {host.title}, then try again.") from exc


def _refuse_redirected(path: Path, host: Host, machine: Machine) -> None:
    """Refuse a path that Windows redirects: no host sees what Python of the Microsoft Store writes below AppData (cpython issue 95029)."""
    if "WindowsApps" in Path(sys.base_prefix).parts and path.is_relative_to(Path(machine.home / "AppData")):
        raise HostFileRefused(
            message=f"Python of the Microsoft Store cannot write {path}.",
            next_step=f"Use Python of python.org, or copy the entry: inferencesh-mcp install {host.name} --print",
        )


def _backup(path: Path, name: str) -> Path:
    return Path(f"{path}.before-{name}")


def _read_backup(host: Host, backup: Path) -> tuple[config_file.ConfigFile, Mapping[str, Any]]:
    """The file before `install`, and the servers that it names. Both are empty if it cannot be read."""
    try:
        return read(host, backup)
    except HostFileRefused:
        return config_file.ConfigFile(backup, None), {}


def _content_without_ours(host: Host, text: str) -> Mapping[str, Any]:
    """What a configuration says, without the entries of this server."""
    for name, entry in edit.servers(host, text).items():
        if is_ours(entry):
            text = edit.take(host, text, name, before={})
    return edit.content(host, text)


def read(host: Host, path: Path) -> tuple[config_file.ConfigFile, Mapping[str, Any]]:
    """A configuration file, and the servers that it names.

    Raises:
        HostFileRefused: it cannot be read.
    """
    file = config_file.read(path)
    with _naming(path):
        return file, edit.servers(host, file.text)


def _refuse_other_changes(host: Host, path: Path, name: str, old: str, new: str) -> None:
    """Refuse a new text that cannot be read, or that changes more than this server's entry."""
    with suppress(HostFileRefused):
        if edit.changes_only(host, old, new, name):
            return
    raise HostFileRefused(
        message=f"{path} cannot be edited safely. It was not changed.",
        next_step=f"Edit it by hand: inferencesh-mcp install {host.name} --print shows the entry.",
    )


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Name the file in what `edit` refuses."""
    try:
        yield
    except HostFileRefused as exc:
        next_step = "Fix the file, then try again. It was not changed."
        raise HostFileRefused(message=f"{path} {exc.message}", next_step=next_step) from exc
