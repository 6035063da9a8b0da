"""Which hosts are on this machine, and whether what they have of this server still works."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferencesh_mcp.errors import HostFileRefused, SettingsError
from inferencesh_mcp.hosts import HOSTS, KEY, PLACEHOLDER, Local, array, config_file, edit, install, table
from inferencesh_mcp.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferencesh_mcp.hosts import Host, Machine


@dataclass(frozen=True)
class Seen:
    """One host, or one entry of it. `do` is empty where nothing is wrong."""

    title: str
    what: str
    do: str = ""
    is_in: bool = True
    """Whether the host has this server."""
    process: Local | None = None
    """What the host starts, with the key filled in where this machine has it."""


def look(machine: Machine) -> Iterator[Seen]:
    """What each host that is found here has of this server; nothing of a key."""
    for host in HOSTS:
        path = install.place(host, machine)
        if not os.path.exists(path):
            continue
        try:
            text = config_file.read(path).text
            told = edit.servers(host, text)
        except HostFileRefused as exc:
            yield Seen(
                host.title, exc.message if str(path) in exc.message else f"{path} {exc.message}", "Fix the file."
            )
            continue
        ours = {name: entry for name, entry in told.items() if install.is_ours(entry)}
        if not ours:
            yield Seen(
                host.title, "is installed, without this server", f"inferencesh-mcp install {host.name}", is_in=False
            )
        for name, entry in ours.items():
            yield _judged(host, machine, name, table(entry), text)


def _judged(host: Host, machine: Machine, name: str, entry: dict[str, Any], text: str) -> Seen:
    again = f"inferencesh-mcp install {host.name}" + (f" --name {name}" if name != "inference" else "")
    command = str(entry.get("command", ""))
    if not command:
        if PLACEHOLDER in str(entry):
            return Seen(host.title, f"{name} has no key", f"Put your key in: {install.place(host, machine)}.")
        return Seen(host.title, f"{name} reaches {entry.get(host.address) or 'no address'}")
    there = os.path.isfile(command) if Path(command).is_absolute() else shutil.which(command, path=_path(machine))
    if not there:
        return Seen(host.title, f"{name} starts {command}, which does not exist", again)
    settings = table(entry.get("env"))
    if edit.ASKED in str(settings) and "promptString" not in text:
        return Seen(host.title, f"{name} refers to a key input that the file does not define", again)
    if KEY in settings and not settings[KEY] and settings.get("INFERENCE_SANDBOX") != "true":
        return Seen(host.title, f"{name} has no key", f"Put your key in: {KEY} in {install.place(host, machine)}.")
    if wrong := _wrong(settings):
        return Seen(host.title, f"{name} does not start: {wrong}", f"Fix it in: {install.place(host, machine)}.")
    arguments = [str(argument) for argument in array(entry.get("args"))]
    environ = {variable: str(value) for variable, value in settings.items()}
    passed_on = [str(variable) for variable in array(entry.get("env_vars"))]
    if KEY in passed_on or "$" in environ.get(KEY, ""):
        environ[KEY] = machine.variables.get(KEY, "")
    process = Local(command, tuple(arguments), tuple(environ.items()))
    return Seen(host.title, f"{name} starts {' '.join([command, *arguments])}", process=process)


def _wrong(settings: dict[str, Any]) -> str:
    """What the server would say of these variables; not of the key, nor of what the host fills in."""
    try:
        Settings.from_environ({k: v for k, v in settings.items() if k != KEY and isinstance(v, str) and "${" not in v})
    except SettingsError as exc:
        return exc.message
    return ""


def _path(machine: Machine) -> str:
    return machine.variables.get("PATH", "")
