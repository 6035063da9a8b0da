"""How each host is set up, started and asked whether it is connected. What is ours in its configuration, `install` wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = "inference"
PROMPT = "Do what the script says."


@dataclass(frozen=True)
class Place:
    """Where a host runs: all in a folder that is thrown away."""

    packages: Path
    """The `node_modules` that hold the hosts."""
    home: Path
    work: Path
    model: str
    """The address of its model."""

    @property
    def node(self) -> str:
        """The one that was installed with the hosts; else the machine's own."""
        paths = sorted(self.packages.glob("node-*/bin/node"))
        return str(paths[0] if paths else shutil.which("node"))

    def native(self, pattern: str) -> str:
        """The program of a host that is one: its package for Node only starts it, and its install script is not run."""
        return str(min(self.packages.glob(pattern)))


@dataclass(frozen=True)
class Driver:
    title: str
    installed_as: str
    """Its name for `inferencesh-mcp install`."""
    prepare: Callable[[Place], None]
    """Write what its user would have set before, and what leads it to its model."""
    environ: Callable[[Place], Mapping[str, str]]
    turn: Callable[[Place], list[str]]
    """The command for one conversation without a screen."""
    program: Callable[[Place], list[str]]
    """Its own program: `mcp list` says which servers are connected, and `mcp add` adds one."""
    connected: str
    """What it says of one that is, after its name; a host that says nothing of that is judged by the tools it lists."""
    adds_as: str = ""
    """The program of its line on the README, if it has one."""


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def _claude(place: Place) -> list[str]:
    return [place.native("@anthropic-ai/claude-code-*/claude")]


CLAUDE_CODE = Driver(
    title="Claude Code",
    installed_as="claude-code",
    prepare=lambda place: _write(place.home / ".claude.json", {"hasCompletedOnboarding": True}),
    environ=lambda place: {
        "ANTHROPIC_BASE_URL": place.model,
        "ANTHROPIC_API_KEY": "not-used",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ENABLE_TOOL_SEARCH": "false",  # else it shows the tools to its model only when that searches for them
        "MCP_CONNECTION_NONBLOCKING": "false",
    },
    turn=lambda place: [
        *_claude(place),
        "-p",
        PROMPT,
        "--allowedTools",
        f"mcp__{NAME}",
        "--verbose",
        "--output-format",
        "stream-json",
    ],
    program=_claude,
    connected="Connected",
    adds_as="claude",
)


def _codex(place: Place) -> list[str]:
    return [place.native("@openai/codex-*/vendor/*/bin/codex")]


CODEX = Driver(
    title="Codex",
    installed_as="codex",
    prepare=lambda place: _write(
        place.home / ".codex" / "config.toml",
        f"""model = "scripted"
model_provider = "scripted"
approval_policy = "never"
sandbox_mode = "danger-full-access"

[model_providers.scripted]
name = "scripted"
base_url = "{place.model}/v1"
wire_api = "responses"
""",
    ),
    environ=lambda _: {},
    # It waits a second for a server to start, and for one that is required until it has started.
    turn=lambda place: [
        *_codex(place),
        "exec",
        "--config",
        f"mcp_servers.{NAME}.required=true",
        "--skip-git-repo-check",
        "--json",
        PROMPT,
    ],
    program=_codex,
    connected="",
    adds_as="codex",
)


def _gemini(place: Place) -> list[str]:
    return [place.node, str(place.packages / "@google" / "gemini-cli" / "bundle" / "gemini.js")]


def _prepare_gemini(place: Place) -> None:
    settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False}}
    _write(place.home / ".gemini" / "settings.json", settings)
    _write(place.home / ".gemini" / "trustedFolders.json", {str(place.work): "TRUST_FOLDER"})


GEMINI_CLI = Driver(
    title="Gemini CLI",
    installed_as="gemini",
    prepare=_prepare_gemini,
    environ=lambda place: {
        "GEMINI_API_KEY": "not-used",
        "GOOGLE_GEMINI_BASE_URL": place.model,
        "GEMINI_CLI_NO_RELAUNCH": "true",  # else it is two processes, and the signal reaches one
    },
    turn=lambda place: [*_gemini(place), "--yolo", "--model", "gemini-2.5-flash", "--prompt", PROMPT],
    program=_gemini,
    connected="Connected",
    adds_as="gemini",
)


def _opencode(place: Place) -> list[str]:
    return [place.native("opencode-*/bin/opencode")]


def _prepare_opencode(place: Place) -> None:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{place.model}/v1", "apiKey": "not-used"},
        "models": {"scripted": {"tool_call": True, "limit": {"context": 200_000, "output": 8_000}}},
    }
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "model": "scripted/scripted",
        "small_model": "scripted/scripted",
        "provider": {"scripted": provider},
        "permission": "allow",
    }
    _write(place.home / ".config" / "opencode" / "opencode.json", settings)


OPENCODE = Driver(
    title="opencode",
    installed_as="opencode",
    prepare=_prepare_opencode,
    environ=lambda _: {"OPENCODE_DISABLE_MODELS_FETCH": "true", "OPENCODE_DISABLE_AUTOUPDATE": "true"},
    turn=lambda place: [*_opencode(place), "run", PROMPT],
    program=_opencode,
    connected="connected",
)


def _copilot(place: Place) -> list[str]:
    return [place.native("@github/copilot-*/copilot")]


COPILOT_CLI = Driver(
    title="Copilot CLI",
    installed_as="copilot",
    prepare=lambda _: None,
    environ=lambda place: {
        "COPILOT_OFFLINE": "true",
        "COPILOT_AUTO_UPDATE": "false",
        "COPILOT_PROVIDER_BASE_URL": f"{place.model}/v1",
        "COPILOT_PROVIDER_API_KEY": "not-used",
        "COPILOT_MODEL": "gpt-4.1",
    },
    turn=lambda place: [*_copilot(place), "--allow-all-tools", "--prompt", PROMPT],
    program=_copilot,
    connected="",
)


def _qwen(place: Place) -> list[str]:
    return [place.node, str(place.packages / "@qwen-code" / "qwen-code" / "cli.js")]


QWEN_CODE = Driver(
    title="Qwen Code",
    installed_as="qwen",
    prepare=lambda place: _write(
        place.home / ".qwen" / "settings.json",
        {
            "security": {"auth": {"selectedType": "openai"}},
            "privacy": {"usageStatisticsEnabled": False},
            "tools": {"exclude": ["tool_search"]},  # else its model sees the tools only when it searches for them
        },
    ),
    environ=lambda place: {
        "OPENAI_API_KEY": "not-used",
        "OPENAI_BASE_URL": f"{place.model}/v1",
        "OPENAI_MODEL": "scripted",
        "QWEN_CODE_NO_RELAUNCH": "true",  # as of Gemini CLI
    },
    turn=lambda place: [*_qwen(place), "--yolo", "--prompt", PROMPT],
    program=_qwen,
    connected="Connected",
)

DRIVERS = (CLAUDE_CODE, CODEX, GEMINI_CLI, OPENCODE, COPILOT_CLI, QWEN_CODE)
