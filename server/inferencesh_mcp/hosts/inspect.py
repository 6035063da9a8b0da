"""Which hosts are on this machine, and whether their entries of this server still work."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.errors import HostFileRefused, SettingsError
from inferencesh_mcp.hosts import edit, install
from inferencesh_mcp.hosts.catalogue import HOSTS, KEY, PLACEHOLDER, Local, array, is_reference, process_of, table
from inferencesh_mcp.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.hosts.catalogue import Host, Machine


@dataclass(frozen=True)
class Inspection:
    """The state of a host, or of one of its entries. `do` is empty if nothing is wrong."""

    title: str
    state: str
    do: str = ""
    is_in: bool = True
    """Whether the host has an entry of this server."""
    process: Local | None = None
    """The process that the host starts, with the key if the environment has it."""


def is_present(host: Host, machine: Machine) -> bool:
    """Whether the host is on this machine: its file, that file's folder or its command exists."""
    path = install.place(host, machine)
    folder = path.parent
    if os.path.exists(path) or (folder != Path(machine.home) and os.path.isdir(folder)):
        return True
    return bool(host.command and shutil.which(host.command, path=_path(machine)))


def look(machine: Machine) -> Iterator[Inspection]:
    """Inspect each host on this machine. The texts contain no key."""
    for host in HOSTS:
        for edition in install.editions(host, machine):
            if is_present(edition, machine):
                yield from _look_at(edition, machine)


def _look_at(host: Host, machine: Machine) -> Iterator[Inspection]:
    path = install.place(host, machine)
    try:
        file, servers = install.read(host, path)
    except HostFileRefused as exc:
        yield Inspection(host.title, exc.message, "Fix the file.")
        return
    ours = {name: entry for name, entry in servers.items() if install.is_ours(entry)}
    if not ours:
        do = f"inferencesh-mcp install {host.name}"
        yield Inspection(host.title, "is installed, without this server", do, is_in=False)
    for name, entry in ours.items():
        yield _inspect_entry(host, machine, name, table(entry), file.text)


def _inspect_entry(host: Host, machine: Machine, name: str, entry: dict[str, Any], text: str) -> Inspection:
    reinstall = f"inferencesh-mcp install {host.name}" + (f" --name {name}" if name != "inference" else "")
    path = install.place(host, machine)
    words, settings = process_of(entry)
    if not words:
        if PLACEHOLDER in str(entry):
            return Inspection(host.title, f"{name} has no key", f"Put your key in: {path}.")
        return Inspection(host.title, f"{name} reaches {entry.get(host.address_field) or 'no address'}")
    command, *arguments = words
    exists = os.path.isfile(command) if Path(command).is_absolute() else shutil.which(command, path=_path(machine))
    if not exists:
        return Inspection(host.title, f"{name} starts {command}, which does not exist", reinstall)
    if edit.INPUT_REFERENCE in str(settings) and "promptString" not in text:
        return Inspection(host.title, f"{name} refers to a key input that the file does not define", reinstall)
    if KEY in settings and not settings[KEY] and settings.get("INFERENCE_SANDBOX") != "true":
        return Inspection(host.title, f"{name} has no key", f"Put your key in: {KEY} in {path}.")
    if problem := _settings_error(settings):
        return Inspection(host.title, f"{name} does not start: {problem}", f"Fix it in: {path}.")
    environ = {variable: str(value) for variable, value in settings.items()}
    passed_variables = [str(variable) for variable in array(entry.get("env_vars"))]
    inherited = host.inherits_key and KEY not in environ
    if inherited or KEY in passed_variables or is_reference(environ.get(KEY, "")):
        environ[KEY] = machine.variables.get(KEY, "")
    process = Local(command, tuple(arguments), tuple(environ.items()))
    return Inspection(host.title, f"{name} starts {' '.join([command, *arguments])}", process=process)


def _settings_error(settings: dict[str, Any]) -> str:
    """The settings error of these variables; empty if there is none. The key, and values that the host replaces, are not checked."""
    checked = {k: v for k, v in settings.items() if k != KEY and isinstance(v, str) and not is_reference(v)}
    try:
        Settings.from_environ(checked)
    except SettingsError as exc:
        return exc.message
    return ""


def _path(machine: Machine) -> str:
    return machine.variables.get("PATH", "")
