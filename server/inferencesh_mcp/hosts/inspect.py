"""Which hosts are on this machine, and whether what they have of this server still works."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.errors import HostFileRefused, SettingsError
from inferencesh_mcp.hosts import (
    HOSTS,
    KEY,
    PLACEHOLDER,
    Local,
    array,
    config_file,
    edit,
    install,
    is_reference,
    process_of,
    table,
)
from inferencesh_mcp.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.hosts import Host, Machine


@dataclass(frozen=True)
class Inspection:
    """One host, or one entry of it. `do` is empty where nothing is wrong."""

    title: str
    what: str
    do: str = ""
    is_in: bool = True
    """Whether the host has this server."""
    process: Local | None = None
    """What the host starts, with the key filled in where this machine has it."""


def is_present(host: Host, machine: Machine) -> bool:
    """Whether the host is on this machine: its file, the folder of its file, or its command."""
    path = install.place(host, machine)
    folder = path.parent
    if os.path.exists(path) or (folder != Path(machine.home) and os.path.isdir(folder)):
        return True
    return bool(host.command and shutil.which(host.command, path=_path(machine)))


def look(machine: Machine) -> Iterator[Inspection]:
    """What each host that is found here has of this server; nothing of a key."""
    for host in HOSTS:
        for edition in install.editions(host, machine):
            if is_present(edition, machine):
                yield from _look_at(edition, machine)


def _look_at(host: Host, machine: Machine) -> Iterator[Inspection]:
    path = install.place(host, machine)
    try:
        text = config_file.read(path).text
        servers = edit.servers(host, text)
    except HostFileRefused as exc:
        yield Inspection(
            host.title, exc.message if str(path) in exc.message else f"{path} {exc.message}", "Fix the file."
        )
        return
    ours = {name: entry for name, entry in servers.items() if install.is_ours(entry)}
    if not ours:
        yield Inspection(
            host.title, "is installed, without this server", f"inferencesh-mcp install {host.name}", is_in=False
        )
    for name, entry in ours.items():
        yield _inspect_entry(host, machine, name, table(entry), text)


def _inspect_entry(host: Host, machine: Machine, name: str, entry: dict[str, Any], text: str) -> Inspection:
    reinstall = f"inferencesh-mcp install {host.name}" + (f" --name {name}" if name != "inference" else "")
    words, settings = process_of(entry)
    if not words:
        if PLACEHOLDER in str(entry):
            return Inspection(host.title, f"{name} has no key", f"Put your key in: {install.place(host, machine)}.")
        return Inspection(host.title, f"{name} reaches {entry.get(host.address_field) or 'no address'}")
    command, *arguments = words
    exists = os.path.isfile(command) if Path(command).is_absolute() else shutil.which(command, path=_path(machine))
    if not exists:
        return Inspection(host.title, f"{name} starts {command}, which does not exist", reinstall)
    if edit.INPUT_REFERENCE in str(settings) and "promptString" not in text:
        return Inspection(host.title, f"{name} refers to a key input that the file does not define", reinstall)
    if KEY in settings and not settings[KEY] and settings.get("INFERENCE_SANDBOX") != "true":
        return Inspection(
            host.title, f"{name} has no key", f"Put your key in: {KEY} in {install.place(host, machine)}."
        )
    if problem := _settings_error(settings):
        return Inspection(
            host.title, f"{name} does not start: {problem}", f"Fix it in: {install.place(host, machine)}."
        )
    environ = {variable: str(value) for variable, value in settings.items()}
    passed_variables = [str(variable) for variable in array(entry.get("env_vars"))]
    inherited = host.inherits_key and KEY not in environ
    if inherited or KEY in passed_variables or is_reference(environ.get(KEY, "")):
        environ[KEY] = machine.variables.get(KEY, "")
    process = Local(command, tuple(arguments), tuple(environ.items()))
    return Inspection(host.title, f"{name} starts {' '.join([command, *arguments])}", process=process)


def _settings_error(settings: dict[str, Any]) -> str:
    """What the server would say of these variables; not of the key, nor of what the host fills in."""
    try:
        Settings.from_environ(
            {k: v for k, v in settings.items() if k != KEY and isinstance(v, str) and not is_reference(v)}
        )
    except SettingsError as exc:
        return exc.message
    return ""


def _path(machine: Machine) -> str:
    return machine.variables.get("PATH", "")
