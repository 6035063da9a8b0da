"""What is handed out about the server, for hosts, registries and stores: written by the code that `install` runs.

`make generate` writes `manifests/` and the README's badges with it; a test fails where they are stale.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote

from inferencesh_mcp import __version__
from inferencesh_mcp.hosts import edit, install
from inferencesh_mcp.hosts.catalogue import HOSTS, KEY, PLACEHOLDER, Host, Local, Machine, Remote
from inferencesh_mcp.server import NAME
from inferencesh_mcp.settings import FIELDS, PREFIX

FOLDER = Path(__file__).parent.parent / "manifests"
REGISTERED = "io.github.inferencesh-mcp/inferencesh-mcp"
"""The registry takes names under a domain only from its owner, and this project is not inference.sh's."""
AUTHORS = "The inferencesh-mcp authors (independent of inference.sh)"
DESCRIPTION = "Run inference.sh apps from any MCP host: seen, safe and never lost."
KEYS_PAGE = "https://inference.sh"
UVX = Local("uvx", ("inferencesh-mcp",))
ELSEWHERE = Remote("https://mcp.example.com/mcp")
FOR_ONE = ("api_key", "allowed_dirs", "save_dir", "toolsets", "pin", "read_only", "wait_seconds")
"""The settings that a person who installs it is shown; the rest are for whoever looks them up."""


def manifests(tools: dict[str, Any]) -> dict[str, str]:
    """Every generated file of `manifests/`, by its path in there. `tools` is the contract."""
    told = {"server.json": _registry(), "mcpb/manifest.json": _bundle(tools), "gemini-extension.json": _gemini()}
    return dict(_hosts()) | {path: _as_json(content) for path, content in told.items()}


def badges() -> str:
    """What adds the server to a host at a click, for a page that lets only https:// links through."""
    inner = base64.b64encode(_compact(_host("cursor").entry(UVX)).encode()).decode()
    in_cursor = f"https://cursor.com/en/install-mcp?name={NAME}&config={quote(inner, safe='')}"
    in_vscode = f"https://vscode.dev/redirect?url={quote(f'vscode:mcp/install?{quote(_compact(_vscode()))}', safe='')}"
    return (
        f"[![Add to Cursor](https://cursor.com/deeplink/mcp-install-dark.svg)]({in_cursor})\n"
        "[![Add to VS Code](https://img.shields.io/badge/VS_Code-add_inference.sh-0098FF)]"
        f"({in_vscode})"
    )


def _vscode() -> dict[str, Any]:
    """What VS Code takes by a link or a command: the entry with its name, and what it asks for."""
    host = _host("vscode")
    asked = json.loads(edit.put(host, "", NAME, host.entry(UVX)))
    return {"name": NAME, **asked["servers"][NAME], "inputs": asked["inputs"]}


def commands() -> str:
    """One line a host: by its own command where it has one, else by ours."""
    server = "uvx inferencesh-mcp"
    return "\n".join([
        "```sh",
        f"claude mcp add --scope user {NAME} --env {KEY}='${{{KEY}:-}}' -- {server}",
        f'codex mcp add {NAME} --env {KEY}="${KEY}" -- {server}',
        f"gemini mcp add --scope user --env {KEY}='${KEY}' {NAME} {server}",
        f"code --add-mcp '{_compact(_vscode())}'",
        f"{server} install cursor",
        "```",
    ])  # fmt: skip


def block() -> str:
    """The form that most hosts read, with the key in it."""
    entry = {"command": UVX.command, "args": list(UVX.args), "env": {KEY: PLACEHOLDER}}
    return f'```json\n{{\n  "mcpServers": {{\n    "{NAME}": {json.dumps(entry)}\n  }}\n}}\n```'


def host_table() -> str:
    """One row a host: the command, the file on Linux, and where the key is."""
    rows = ["| host | command | what it writes to | your key |", "|---|---|---|---|"]
    for host in HOSTS:
        if host.name == "vscode":
            key = "asked for by VS Code, and kept in the system's secret storage"
        else:
            key = "in the file: it has no other place" if host.holds_key(UVX) else f"from the variable `{KEY}`"
        rows.append(f"| {host.title} | `inferencesh-mcp install {host.name}` | {_where(host)} | {key} |")
    return "\n".join(rows)


def _where(host: Host) -> str:
    machines = (
        Machine("linux", PurePosixPath("~"), {}),
        Machine("macos", PurePosixPath("~"), {}),
        Machine("windows", PureWindowsPath("~"), {"APPDATA": "%APPDATA%"}),
    )
    places = [str(host.places(machine)[0]) for machine in machines]
    if places[0] == places[1] == places[2].replace("\\", "/"):
        return f"`{places[0]}`"
    if places[0] == places[1]:
        return f"`{places[0]}`, on Windows `{places[2]}`"
    return f"`{places[0]}`, on macOS `{places[1]}`, on Windows `{places[2]}`"


def _host(name: str) -> Host:
    return next(host for host in HOSTS if host.name == name)


def _hosts() -> Iterator[tuple[str, str]]:
    for host in HOSTS:
        ending = "toml" if host.format == "toml" else "json"
        yield f"hosts/{host.name}.{ending}", install.shown(host, NAME, UVX)
        if host.address_field:
            yield f"hosts/remote/{host.name}.{ending}", install.shown(host, NAME, ELSEWHERE)


def _registry() -> dict[str, Any]:
    """The entry of the MCP registry, schema 2025-12-11."""
    variables = [_variable(name) for name in FOR_ONE]
    stdio = {"type": "stdio"}
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": REGISTERED,
        "title": "inferencesh-mcp",
        "description": DESCRIPTION,
        "version": __version__,
        "packages": [
            {"registryType": "pypi", "identifier": "inferencesh-mcp", "version": __version__, "runtimeHint": "uvx",
             "transport": stdio, "environmentVariables": variables},
            {"registryType": "oci", "identifier": f"ghcr.io/inferencesh-mcp/inferencesh-mcp:{__version__}", "runtimeHint": "docker",
             "transport": stdio, "environmentVariables": variables[:1]},
        ],
        "remotes": [
            {
                "type": "streamable-http",
                "url": "https://{host}/mcp",
                "variables": {"host": {"description": "Where inferencesh-mcp http is reached.", "isRequired": True}},
                "headers": [
                    {"name": "Authorization", "value": "Bearer {key}", "description": "Your inference.sh key.",
                     "isRequired": True, "isSecret": True,
                     "variables": {"key": {"description": "Your inference.sh key.", "isRequired": True, "isSecret": True}}}
                ],
            }
        ],
    }  # fmt: skip


def _variable(name: str) -> dict[str, Any]:
    field = FIELDS[name]
    told: dict[str, Any] = {"name": PREFIX + name.upper(), "description": field.metadata["about"]}
    if name == "api_key":
        told["description"] = "Your inference.sh key."
        return told | {"isRequired": True, "isSecret": True}
    if field.type is bool:
        told["format"] = "boolean"
    if isinstance(field.default, bool):
        told["default"] = str(field.default).lower()
    elif isinstance(field.default, int | float):
        told |= {"format": "number", "default": str(field.default)}
    return told


def _bundle(tools: dict[str, Any]) -> dict[str, Any]:
    """The desktop bundle: the host brings uv, which installs what `pyproject.toml` names."""
    return {
        "manifest_version": "0.4",
        "name": "inferencesh-mcp",
        "display_name": "inferencesh-mcp",
        "version": __version__,
        "description": DESCRIPTION,
        "author": {"name": AUTHORS},
        "license": "MIT",
        "keywords": ["inference.sh", "images", "video", "audio", "agents"],
        "server": {
            "type": "uv",
            "entry_point": "server/inferencesh_mcp/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--no-dev", "--directory", "${__dirname}", "inferencesh-mcp"],
                "env": {
                    KEY: "${user_config.api_key}",
                    "INFERENCE_SAVE_DIR": "${user_config.save_dir}",
                    "INFERENCE_ALLOWED_DIRS": "${user_config.allowed_dir}",
                },
            },
        },
        "tools": [{"name": name, "description": tool["description"]} for name, tool in tools.items()],
        "tools_generated": True,
        "compatibility": {"platforms": ["darwin", "win32", "linux"], "runtimes": {"python": ">=3.11"}},
        "user_config": {
            "api_key": {"type": "string", "title": "inference.sh key", "description": f"Get one at {KEYS_PAGE}.",
                        "required": True, "sensitive": True},
            "save_dir": {"type": "directory", "title": "Folder for results", "required": False,
                         "description": "Where files are saved. Unset: inference under your downloads."},
            "allowed_dir": {"type": "directory", "title": "Folder to upload from", "required": False,
                            "description": "Only files in here may be uploaded."},
        },
    }  # fmt: skip


def _gemini() -> dict[str, Any]:
    """An extension of Gemini CLI, which asks for the key when it is installed and keeps it in the system's keychain."""
    return {
        "name": "inferencesh-mcp",
        "version": __version__,
        "description": DESCRIPTION,
        "mcpServers": {NAME: _host("gemini").entry(UVX)},
        "settings": [
            {"name": "inference.sh key", "description": f"Get one at {KEYS_PAGE}.", "envVar": KEY, "sensitive": True}
        ],
    }


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
