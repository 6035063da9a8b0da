"""`install` and `uninstall` at the terminal: what they ask, and what they print."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inferencesh_mcp.errors import HostFileRefused, InvalidInput
from inferencesh_mcp.hosts import install as hosts_install
from inferencesh_mcp.hosts.catalogue import FROM_ENVIRONMENT, HOSTS, KEY, Local, Remote, process_of, table
from inferencesh_mcp.hosts.inspect import is_present
from inferencesh_mcp.settings import FIELDS, PREFIX, SECRETS, Settings
from inferencesh_mcp.terminal import is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from inferencesh_mcp.hosts.catalogue import Host, Machine
    from inferencesh_mcp.hosts.install import InstallResult

PASSED_SETTINGS = frozenset(name for name, field in FIELDS.items() if not field.metadata["http"]) - {
    *SECRETS,
    "traces",  # it needs the `OTEL_` variables, which do not go along
    "refuse_root",
}
"""The settings that `install` writes into an entry: those of a server that a host starts, and no secret."""
SANDBOX = f"{PREFIX}SANDBOX"
NETWORK_VARIABLES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"})
"""Variables that every program reads, in either case for the proxies."""
HOW_TO_GET_A_KEY = "Get a key at https://inference.sh."


def install(host_name: str, name: str, url: str | None, *, sign_in: bool, only_show: bool, machine: Machine) -> None:
    """Write the entry, and say what was done and what is left to do. `only_show` writes it to stdout instead, without a key.

    Raises:
        HostFileRefused, InvalidInput: nothing was changed; the text says why.
    """
    host, name = hosts_install.host_named(host_name), hosts_install.checked_name(name)
    server = _server(host, url, machine.variables, sign_in=sign_in)
    if only_show:
        click.echo(_escaped(hosts_install.shown(host, name, server), sys.stdout.encoding, host.format), nl=False)
        location = f"This goes into {hosts_install.place(host, machine)}."
        click.echo(f"{location} {_key_from(host, server)}" if server.needs_key else location, err=True)
        return
    old_entry = hosts_install.entry_of(host, name, machine)
    if isinstance(server, Local) and (old_settings := _old_settings(old_entry, server)):
        server = replace(server, settings=(*server.settings, *old_settings.items()))
        click.echo(f"{host.title}: kept from the old entry: {', '.join(old_settings)}.")
    key = _key(host, server, old_entry, machine)
    results = [
        hosts_install.install(edition, name, server, machine=machine, key=key)
        for edition in hosts_install.editions(host, machine)
    ]
    for result in results:
        click.echo(_summary(host, name, result))
    for line in _next_steps(host, server, results[0], key=key, key_is_set=bool(machine.variables.get(KEY))):
        click.echo(line)
    if hosts_install.key_in(old_entry) and server.needs_key and not host.holds_key(server):
        click.echo("The key that was in the old entry is no longer there.")


def offer(name: str, url: str | None, *, sign_in: bool, machine: Machine) -> int:
    """Ask about each host on this machine, and install into those that the person wants. Returns the exit code."""
    present = [host for host in HOSTS if is_present(host, machine)]
    if not present:
        click.echo(
            f"No known host was found. Name one: inferencesh-mcp install {'|'.join(host.name for host in HOSTS)}"
        )

    def add(host: Host) -> None:
        install(host.name, name, url, sign_in=sign_in, only_show=False, machine=machine)

    return _ask_about_each(present, f"Add {name} to", "install", add, machine)


def offer_removal(name: str, machine: Machine) -> int:
    """Ask about each host that has the entry, and remove it where the person wants. Returns the exit code."""
    name = hosts_install.checked_name(name)
    holders = [host for host in HOSTS if _may_hold(host, name, machine)]
    if not holders:
        click.echo(f"No known host has an entry named {name}.")
    return _ask_about_each(
        holders, f"Remove {name} from", "uninstall", lambda host: uninstall(host.name, name, machine), machine
    )


def _may_hold(host: Host, name: str, machine: Machine) -> bool:
    """Whether the host's file has the entry, or cannot be read: then the attempt to remove it says why."""
    try:
        return any(
            hosts_install.entry_of(edition, name, machine) is not None
            for edition in hosts_install.editions(host, machine)
        )
    except HostFileRefused:
        return True


def _ask_about_each(
    hosts: list[Host], question: str, command: str, act: Callable[[Host], None], machine: Machine
) -> int:
    """Ask about each host, and act where the person agrees. Without a terminal, only list the commands.

    Returns the exit code: 1 if a host's file was refused.
    """
    code = 0
    for host in hosts:
        if not is_terminal(sys.stdin):
            click.echo(f"{host.title}: inferencesh-mcp {command} {host.name}")
        elif click.confirm(f"{question} {host.title} ({hosts_install.place(host, machine)})?", default=True, err=True):
            try:
                act(host)
            except (HostFileRefused, InvalidInput) as exc:
                click.echo(f"{host.title}: {exc} {exc.next_step}".rstrip(), err=True)
                code = 1
    return code


def uninstall(host_name: str, name: str, machine: Machine) -> None:
    """Take the entry out, and say what was done."""
    host = hosts_install.host_named(host_name)
    for edition in hosts_install.editions(host, machine):
        result = hosts_install.uninstall(edition, hosts_install.checked_name(name), machine=machine)
        click.echo(_summary(host, name, result))


def _server(host: Host, url: str | None, environ: Mapping[str, str], *, sign_in: bool) -> Local | Remote:
    if url is not None:
        return hosts_install.remote(url, host, sign_in=sign_in)
    if sign_in:
        raise InvalidInput(message="--sign-in needs --http. Only a remote server asks you to sign in.")
    settings = {name: value for name, value in environ.items() if _is_passed(name, value)}
    return hosts_install.local(Path(sys.executable), environ, settings)


def _is_passed(name: str, value: str) -> bool:
    """Hosts clear the environment: without its proxy and certificates the server would reach nothing (codex issue 29124)."""
    if not value.strip():
        return False
    if name.upper() in NETWORK_VARIABLES:
        return "@" not in value  # a proxy's password must not be written into a file
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() in PASSED_SETTINGS


def _old_settings(old_entry: Any, server: Local) -> dict[str, str]:
    """The settings of the old entry that this run does not name. A trial in the sandbox does not go on."""
    if not hosts_install.is_ours(old_entry):
        return {}
    _, variables = process_of(table(old_entry))
    named = {name for name, _ in server.settings}
    old = {name: str(value) for name, value in variables.items() if name not in named and name != SANDBOX}
    return {name: value for name, value in old.items() if _is_passed(name, value)}


def _key(host: Host, server: Local | Remote, old_entry: Any, machine: Machine) -> str:
    """The key for the file: the variable's, else the one in the file, else what the person types. Empty if none goes in.

    For a remote server the variable is not used: that server may belong to somebody who must not see a personal key.
    """
    if not host.holds_key(server):
        return ""
    remote = isinstance(server, Remote)
    key = ("" if remote else machine.variables.get(KEY, "")) or hosts_install.key_in(old_entry)
    if not key and is_terminal(sys.stdin):
        credential_label = "The remote server's token, or your key" if remote else "Your inference.sh key"
        question = f"{credential_label}. {host.title} stores it in its file (Enter: add it later)"
        key = str(click.prompt(question, default="", hide_input=True, show_default=False, err=True)).strip()
    Settings.from_environ({KEY: key})  # refuses what can be no key, without showing it
    return key


def _escaped(entry: str, encoding: str, file_format: str) -> str:
    """An entry with escapes for what the encoding lacks, so that a copy of the output means the same."""

    def escaped(char: str) -> str:
        if char.isascii():
            return char
        return f"\\U{ord(char):08x}" if file_format == "toml" else json.dumps(char)[1:-1]

    try:
        entry.encode(encoding)
    except UnicodeEncodeError:
        return "".join(map(escaped, entry))
    return entry


def _summary(host: Host, name: str, result: InstallResult) -> str:
    if result.action == "unchanged":
        return f"{host.title}: nothing to do. {result.path}"
    preposition = "from" if result.action == "removed" else "in"
    backup = f" The old file is {result.backup}" if result.backup else ""
    return f"{host.title}: {result.action} {name} {preposition} {result.path}.{backup}"


def _key_from(host: Host, server: Local | Remote) -> str:
    if not host.holds_key(server):
        return host.key_from.format(title=host.title)
    return f"{host.title} cannot refer to a variable, so the file holds your key."


def _next_steps(
    host: Host, server: Local | Remote, result: InstallResult, *, key: str, key_is_set: bool
) -> Iterator[str]:
    if not server.needs_key and isinstance(server, Remote):
        yield f"{host.title} asks you to sign in when it first connects."
    elif not server.needs_key:
        yield "This is the sandbox. It needs no key and costs nothing."
    elif not host.holds_key(server):
        yield _key_from(host, server)
        if host.key_from == FROM_ENVIRONMENT and not key_is_set:
            yield f"{KEY} is not set here. {HOW_TO_GET_A_KEY}"
    elif key:
        yield f"Your key is in the file, because {host.title} has no other place for it."
        if os.name == "posix" and result.path.stat().st_mode & 0o077:
            yield f"Others on this machine can read it: chmod 600 '{result.path}'"
    else:
        yield f"Put your key in: {'Authorization' if isinstance(server, Remote) else KEY} in {result.path}. {HOW_TO_GET_A_KEY}"
    yield host.next_step
