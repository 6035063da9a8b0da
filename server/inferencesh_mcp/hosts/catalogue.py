"""The hosts that `install` knows: where their configuration is, its format, and how it takes a secret.

Each fact names its source, as of November 2026. Hosts change: `doctor` checks the entries, and `install --print` shows
what would be written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY = "INFERENCE_API_KEY"
PLACEHOLDER = "inf_your_key"
INPUT = "inference-api-key"
"""The name under which VS Code asks for the key, and keeps it."""
FROM_ENVIRONMENT = f"The key is not in the file. Set {KEY} in the environment that {{title}} starts in."


def table(value: Any) -> dict[str, Any]:
    """The object that a configuration should have somewhere; empty where it has something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def array(value: Any) -> list[Any]:
    """The same for a list."""
    return cast("list[Any]", value) if isinstance(value, list) else []


@dataclass(frozen=True)
class Machine:
    """Where configurations are looked for: what this machine is, and the few variables that move them."""

    platform: Literal["linux", "macos", "windows"]
    home: PurePath
    variables: Mapping[str, str]

    @classmethod
    def this(cls, platform: str, environ: Mapping[str, str]) -> Machine:
        """The one this runs on; `platform` is Python's name for it."""
        name: Literal["linux", "macos", "windows"]
        name = "windows" if platform == "win32" else "macos" if platform == "darwin" else "linux"
        home = environ.get("USERPROFILE" if name == "windows" else "HOME")
        return cls(name, Path(home) if home else Path.home(), environ)

    def folder(self, variable: str, *default: str) -> PurePath:
        """What a variable names, or a folder under home."""
        path = self.variables.get(variable)
        return type(self.home)(path) if path else self.home.joinpath(*default)

    @property
    def applications(self) -> PurePath:
        """Where desktop applications keep what is the user's: Electron's `appData`."""
        if self.platform == "windows":
            return self.folder("APPDATA", "AppData", "Roaming")
        if self.platform == "macos":
            return self.home / "Library" / "Application Support"
        return self.folder("XDG_CONFIG_HOME", ".config")


@dataclass(frozen=True)
class Local:
    """The server as a process that the host starts."""

    command: str
    args: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    """Variables besides the key."""

    @property
    def needs_key(self) -> bool:
        return dict(self.settings).get("INFERENCE_SANDBOX") != "true"


@dataclass(frozen=True)
class Remote:
    """The server at an address, where somebody runs it with `inferencesh-mcp http`."""

    url: str
    needs_key: bool = True


@dataclass(frozen=True, kw_only=True)
class Host:
    name: str
    title: str
    section: str
    """The object, or the table, that holds the servers by name."""
    places: Callable[[Machine], tuple[PurePath, ...]]
    """Where the file may be; the last that exists counts, else the first."""
    command: str = ""
    """The program that a terminal starts it with, if it has one."""
    reads_every_place: bool = False
    """Whether every place belongs to an installation of its own."""
    format: Literal["json", "jsonc", "toml"] = "json"
    """`jsonc`: JSON whose comments and trailing commas the host takes as well."""
    key_reference: str | None = None
    """How a string of the file refers to the key without holding it; None where the file must hold the key."""
    local_key_reference: str | None = None
    """The same for a local server, where it differs."""
    asks_for_key: bool = False
    """Whether the file also defines an input by which the host asks for the key."""
    names_variables: bool = False
    """Whether an entry names the variables that the host passes on, instead of their values."""
    inherits_key: bool = False
    """Whether a local server gets the host's whole environment, so that its entry need not mention the key."""
    local_fields: tuple[tuple[str, Any], ...] = ()
    """What an entry for a local server says besides the command."""
    command_is_list: bool = False
    """Whether the command and its arguments are one list."""
    env_field: str = "env"
    """What the variables of a local server are called."""
    remote_fields: tuple[tuple[str, Any], ...] = ()
    """What an entry for a remote server says besides the address."""
    address_field: str = "url"
    """What the address of a remote server is called; empty where the file takes none."""
    next_step: str
    """What a person does for the host to notice."""
    key_from: str = FROM_ENVIRONMENT
    """Where the key comes from, as a sentence, if the file does not hold it."""

    def holds_key(self, server: Local | Remote) -> bool:
        """Whether the host's file has to hold the key itself."""
        if isinstance(server, Local) and self.inherits_key:
            return False
        return server.needs_key and self.key_reference is None and not self.names_variables

    def entry(self, server: Local | Remote, key: str = "") -> dict[str, Any]:
        """What is written for the server. `key` is used only where the host has no better way."""
        if self.names_variables:
            return _named_variables(server)
        secret = self.key_reference or key
        if isinstance(server, Remote):
            headers = {"headers": {"Authorization": f"Bearer {secret or PLACEHOLDER}"}} if server.needs_key else {}
            return {**dict(self.remote_fields), self.address_field: server.url, **headers}
        secret = self.local_key_reference or secret
        env = ({KEY: secret} if server.needs_key and not self.inherits_key else {}) | dict(server.settings)
        command: dict[str, Any] = {"command": server.command, "args": list(server.args)}
        if self.command_is_list:
            command = {"command": [server.command, *server.args]}
        return {**dict(self.local_fields), **command, **({self.env_field: env} if env else {})}


def process_of(entry: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The command of an entry, and its variables; no command where it reaches a server elsewhere."""
    variables = table(entry.get("env")) or table(entry.get("environment"))
    command = entry.get("command")
    if isinstance(command, list):
        return [str(part) for part in array(entry["command"])], variables
    return [str(command), *map(str, array(entry.get("args")))] if command else [], variables


def is_reference(value: str) -> bool:
    """Whether the host replaces this value of a variable."""
    return "$" in value or value.startswith("{env:")


def _named_variables(server: Local | Remote) -> dict[str, Any]:
    if isinstance(server, Remote):
        return {"url": server.url, **({"bearer_token_env_var": KEY} if server.needs_key else {})}
    return {
        "command": server.command,
        "args": list(server.args),
        **({"env_vars": [KEY]} if server.needs_key else {}),
        **({"env": dict(server.settings)} if server.settings else {}),
    }


def _claude_desktop(machine: Machine) -> tuple[PurePath, ...]:
    """On Windows it is a package (MSIX) since February 2026, which reads a folder of its own; the older installer's may be there too.

    The package's folder decides, whatever follows its name (anthropics/claude-code 26073, 25579).
    """
    usual = machine.applications / "Claude" / "claude_desktop_config.json"
    if machine.platform != "windows":
        return (usual,)
    packages = Path(machine.folder("LOCALAPPDATA", "AppData", "Local") / "Packages").glob("Claude_*")
    files = tuple(folder / "LocalCache" / "Roaming" / "Claude" / usual.name for folder in sorted(packages))
    return (*files, usual) if not files or os.path.isdir(usual.parent) else files


def _zed(machine: Machine) -> tuple[PurePath, ...]:
    folder = machine.home / ".config" if machine.platform == "macos" else machine.applications
    return (folder / ("Zed" if machine.platform == "windows" else "zed") / "settings.json",)


def _opencode(machine: Machine) -> tuple[PurePath, ...]:
    folder = machine.folder("XDG_CONFIG_HOME", ".config") / "opencode"
    return (folder / "opencode.json", folder / "opencode.jsonc")


def _qwen(machine: Machine) -> tuple[PurePath, ...]:
    return (machine.home / ".qwen" / "settings.json",)


# geminicli.com/docs/reference/configuration: ~/.gemini/settings.json (GEMINI_CLI_HOME stands in for home);
# comments are taken; $VAR and ${VAR} are filled in in every string; `httpUrl` is streamable HTTP, `url` is SSE.
_GEMINI = Host(
    name="gemini",
    title="Gemini CLI",
    section="mcpServers",
    command="gemini",
    places=lambda machine: (machine.folder("GEMINI_CLI_HOME") / ".gemini" / "settings.json",),
    format="jsonc",
    key_reference=f"${{{KEY}}}",
    address_field="httpUrl",
    next_step="Restart Gemini CLI. /mcp lists the server. If it is Disabled, trust the folder with /permissions.",
)

HOSTS = (
    # modelcontextprotocol.io, "Connect to local MCP servers": the file, its places, `env`; nothing in it is filled in.
    # Remote servers are "custom connectors" of the account and not in this file (support.claude.com, 2026).
    Host(
        name="claude-desktop",
        title="Claude Desktop",
        section="mcpServers",
        places=_claude_desktop,
        reads_every_place=True,
        address_field="",
        next_step="Quit Claude Desktop and start it again.",
    ),
    # code.claude.com/docs/en/mcp: user scope is `mcpServers` of ~/.claude.json (CLAUDE_CONFIG_DIR moves it); ${VAR} and
    # ${VAR:-default} are filled in in command, args, env, url and headers.
    Host(
        name="claude-code",
        title="Claude Code",
        section="mcpServers",
        command="claude",
        places=lambda machine: (machine.folder("CLAUDE_CONFIG_DIR") / ".claude.json",),
        key_reference=f"${{{KEY}}}",
        local_key_reference=f"${{{KEY}:-}}",  # unset: the server starts without a key, and says so
        local_fields=(("type", "stdio"),),
        remote_fields=(("type", "http"),),
        next_step="Restart Claude Code. /mcp lists the server.",
    ),
    # cursor.com/docs/mcp: ~/.cursor/mcp.json; ${env:NAME} is filled in in command, args, env, url and headers.
    Host(
        name="cursor",
        title="Cursor",
        section="mcpServers",
        command="cursor",
        places=lambda machine: (machine.home / ".cursor" / "mcp.json",),
        format="jsonc",
        key_reference=f"${{env:{KEY}}}",
        next_step="Switch the server on in Cursor's settings, under MCP.",
    ),
    # code.visualstudio.com/docs/agents/reference/mcp-configuration: `servers` and `inputs` of the user profile's
    # mcp.json; a promptString with `password` is asked for once and kept in the system's secret storage.
    Host(
        name="vscode",
        title="VS Code",
        section="servers",
        command="code",
        places=lambda machine: (machine.applications / "Code" / "User" / "mcp.json",),
        format="jsonc",
        key_reference=f"${{input:{INPUT}}}",
        asks_for_key=True,
        local_fields=(("type", "stdio"),),
        remote_fields=(("type", "http"),),
        next_step='Run "MCP: List Servers" in VS Code and start it.',
        key_from="VS Code asks for your key when it first starts the server, and keeps it in the system's secret storage.",
    ),
    # developers.openai.com/codex/mcp and config-reference: `env_vars` are passed on to a local server, and
    # `bearer_token_env_var` is sent to a remote one; CODEX_HOME moves the folder.
    Host(
        name="codex",
        title="Codex",
        section="mcp_servers",
        command="codex",
        places=lambda machine: (machine.folder("CODEX_HOME", ".codex") / "config.toml",),
        format="toml",
        names_variables=True,
        next_step="Restart Codex. /mcp lists the server.",
    ),
    _GEMINI,
    # docs.windsurf.com/windsurf/cascade/mcp: ~/.codeium/windsurf/mcp_config.json; ${env:NAME} is filled in in command,
    # args, env, serverUrl, url and headers.
    Host(
        name="windsurf",
        title="Windsurf",
        section="mcpServers",
        command="windsurf",
        places=lambda machine: (machine.home / ".codeium" / "windsurf" / "mcp_config.json",),
        format="jsonc",
        key_reference=f"${{env:{KEY}}}",
        address_field="serverUrl",
        next_step="Press refresh in Windsurf's list of MCP servers.",
    ),
    # zed.dev/docs/ai/mcp and configuring-zed: `context_servers` of settings.json. Nothing is filled in, in headers
    # neither (zed-industries/zed issue 60459, open in July 2026), so the key stands in the file.
    Host(
        name="zed",
        title="Zed",
        section="context_servers",
        command="zed",
        places=_zed,
        format="jsonc",
        next_step="Zed needs no restart. The server's dot in its agent settings turns green.",
    ),
    # opencode.ai/docs/mcp-servers and config, tried with 1.18: `mcp` of ~/.config/opencode/opencode.json or .jsonc, on every
    # system; the command is one list, variables are `environment`, and {env:NAME} is filled in in every string.
    Host(
        name="opencode",
        title="opencode",
        section="mcp",
        command="opencode",
        places=_opencode,
        format="jsonc",
        key_reference=f"{{env:{KEY}}}",
        command_is_list=True,
        env_field="environment",
        local_fields=(("type", "local"),),
        remote_fields=(("type", "remote"),),
        next_step="Restart opencode. `opencode mcp list` lists the server.",
    ),
    # docs.github.com/en/copilot/how-tos/copilot-cli, tried with 1.0: ~/.copilot/mcp-config.json (COPILOT_HOME moves it);
    # ${NAME} is filled in; `tools` says which tools are offered.
    Host(
        name="copilot",
        title="Copilot CLI",
        section="mcpServers",
        command="copilot",
        places=lambda machine: (machine.folder("COPILOT_HOME", ".copilot") / "mcp-config.json",),
        key_reference=f"${{{KEY}}}",
        local_fields=(("type", "local"), ("tools", ["*"])),
        remote_fields=(("type", "http"), ("tools", ["*"])),
        next_step="Restart Copilot CLI. `copilot mcp list` lists the server.",
    ),
    # docs.cline.bot/mcp, tried with the CLI 3.0: ~/.cline/data/settings/cline_mcp_settings.json (CLINE_MCP_SETTINGS_PATH
    # moves it). Nothing is filled in, and a local server gets the whole environment. Without `timeout` (seconds, for
    # each request) it waits 3 s for a server to start.
    Host(
        name="cline",
        title="Cline CLI",
        section="mcpServers",
        command="cline",
        places=lambda machine: (
            machine.folder("CLINE_MCP_SETTINGS_PATH", ".cline", "data", "settings", "cline_mcp_settings.json"),
        ),
        inherits_key=True,
        local_fields=(("timeout", 60),),
        remote_fields=(("type", "streamableHttp"),),
        next_step="Restart Cline.",
    ),
    # qwenlm.github.io/qwen-code-docs, tried with 0.15: ~/.qwen/settings.json, and the rest as Gemini CLI, of which it is a fork.
    replace(
        _GEMINI,
        name="qwen",
        title="Qwen Code",
        command="qwen",
        places=_qwen,
        next_step="Restart Qwen Code. /mcp lists the server.",
    ),
)
