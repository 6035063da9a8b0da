"""Settings: one frozen value, with every default and its reason.

`Settings.from_environ` is a pure function of a mapping; `__main__` alone hands it the real environment.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator

from inferencesh_mcp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "INFERENCE_"
Toolset = Literal["apps", "tasks", "files", "sessions", "agents"]
TOOLSETS: tuple[Toolset, ...] = get_args(Toolset)

# Variables with our prefix that belong to the official SDKs: not ours to refuse.
FOREIGN = frozenset({"INFERENCE_API_BASE_URL", "INFERENCE_SSE_MODE", "INFERENCE_SSE_READ_BYTES"})

# What a host passes on when it could not fill in its own reference: Claude Code, Gemini CLI and desktop bundles do.
_UNFILLED = re.compile(r"\$(?:\w+|\{[^{}]*\})")

# Header-safe and without white space: a key pasted with a line break must not become a second header.
_KEY = re.compile(r"[\x21-\x7e]{1,512}")


def _listed(separator: str) -> BeforeValidator:
    def split(value: Any) -> Any:
        return [part.strip() for part in value.split(separator) if part.strip()] if isinstance(value, str) else value

    return BeforeValidator(split)


def _folder(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, str) else value


Folder = Annotated[Path, BeforeValidator(_folder)]


def _setting(default: Any, about: str, *, allowed: str, **limits: Any) -> Any:
    return Field(default=default, description=about, json_schema_extra={"allowed": allowed}, **limits)


class Settings(BaseModel):
    """What the process was started with. Every field is a variable `INFERENCE_<NAME>`; all but the key are flags too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: SecretStr | None = _setting(
        None, "Your inference.sh key. Not a flag: command lines are visible to others.", allowed="a key without spaces"
    )
    base_url: str = _setting(
        "https://api.inference.sh",
        "Where the API is.",
        allowed="an https:// address, or http:// on this machine",
    )
    proxy_url: str | None = _setting(
        None,
        "Send every call to this address instead, as the official SDKs' proxy mode does; the proxy adds the key.",
        allowed="an https:// address, or http:// on this machine",
    )
    stream: bool = _setting(True, "Follow runs by stream; `false` polls instead.", allowed="true or false")
    poll_interval_ms: int = _setting(
        2000, "Pause between polls, in milliseconds.", allowed="a whole number from 100 to 60000", ge=100, le=60_000
    )
    # The shortest limits of known hosts are 50 to 60 s; the answer must be on its way before.
    wait_seconds: float = _setting(
        45,
        "How long a call waits for a run before it hands over its `task_id`.",
        allowed="a number from 1 to 3600",
        ge=1,
        le=3600,
    )
    on_cancel: Literal["cancel", "keep"] = _setting(
        "cancel", "What becomes of a run whose call the host cancels.", allowed="cancel or keep"
    )
    allowed_dirs: Annotated[tuple[Folder, ...], _listed(os.pathsep)] = _setting(
        (),
        f"Folders whose files may be uploaded, separated by `{os.pathsep}`. `INFERENCE_SAVE_DIR` is always one.",
        allowed="absolute paths of folders, neither / nor your home folder itself",
    )
    save_dir: Folder | None = _setting(
        None,
        "Where `file_save` writes. Unset: `inference` under your downloads, or under your home.",
        allowed="the absolute path of a folder, neither / nor your home folder itself",
    )
    toolsets: Annotated[tuple[Toolset, ...], _listed(",")] = _setting(
        TOOLSETS, "Which groups of tools to offer.", allowed=f"some of {','.join(TOOLSETS)}", min_length=1
    )
    read_only: bool = _setting(
        False, "Offer only tools that neither spend, change nor write anything.", allowed="true or false"
    )
    approvals: Literal["ask", "host"] = _setting(
        "ask",
        "Who decides what an agent needs approval for: the person, or (`host`) the model too.",
        allowed="ask or host",
    )
    always_allow: bool = _setting(
        False, "Whether a person who is asked may also allow a tool for the rest of a chat.", allowed="true or false"
    )
    chat_url: str = _setting(
        "https://app.inference.sh/chats/{chat_id}",
        "The page on which a person sees a chat and decides; `{chat_id}` stands for its id.",
        allowed="an https:// address",
        pattern="^https://",
    )
    inline_media: Literal["auto", "never"] = _setting(
        "auto", "Whether a small picture is shown inside an answer.", allowed="auto or never"
    )
    max_concurrent_runs: int = _setting(
        32, "Runs one caller may have live at once.", allowed="a whole number from 1 to 1000", ge=1, le=1000
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting(
        "WARNING", "What goes to stderr.", allowed="DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Literal["text", "json"] = _setting("text", "How it is written, a line each.", allowed="text or json")
    allowed_hosts: Annotated[tuple[str, ...], _listed(",")] = _setting(
        (),
        "Names that `http` is reached by besides this machine's own, separated by commas.",
        allowed="host names such as mcp.example.com",
    )
    refuse_root: bool = _setting(
        False, "Whether to refuse to start as root. The image sets it.", allowed="true or false"
    )
    sandbox: bool = _setting(
        False,
        "Talk to the embedded sandbox instead of inference.sh: no key, no network, no cost.",
        allowed="true or false",
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the variables that begin with `INFERENCE_`; empty ones, and those a host left as `${…}`, count as unset.

        Raises:
            SettingsError: one sentence that names the variable, its value and what is allowed.
        """
        names = [name for name in environ if name.startswith(PREFIX) and name not in FOREIGN]
        given = {name.removeprefix(PREFIX).lower(): environ[name].strip() for name in names}
        for name in given.keys() - cls.model_fields.keys():
            raise SettingsError(message=_unknown(PREFIX + name.upper(), (PREFIX + f.upper() for f in cls.model_fields)))
        try:
            told = {name: value for name, value in given.items() if value and not _UNFILLED.fullmatch(value)}
            return cls.model_validate(told)
        except ValidationError as exc:
            raise SettingsError(message=_sentence(exc, given)) from None  # its text would quote the value, key included

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("api_key")
    @classmethod
    def _one_word(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not _KEY.fullmatch(key.get_secret_value()):
            raise ValueError
        return key

    @field_validator("base_url", "proxy_url")
    @classmethod
    def _secure(cls, url: str | None) -> str | None:
        """The key goes there (threat T-27): https, or plain http to this machine only."""
        if url is None:
            return None
        parts = urlsplit(url)
        local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if parts.scheme not in ({"https", "http"} if local else {"https"}) or not parts.hostname or "@" in parts.netloc:
            raise ValueError
        return url

    @field_validator("allowed_dirs", "save_dir")
    @classmethod
    def _narrow(cls, value: Any) -> Any:
        """A root or a whole home folder is no limit at all (threat T-12)."""
        given = cast("tuple[Path | None, ...]", value if isinstance(value, tuple) else (value,))
        folders = [folder for folder in given if folder]
        too_wide = {Path(os.path.realpath(Path.home())), *(Path(f.anchor) for f in folders)}
        if any(not f.is_absolute() or Path(os.path.realpath(f)) in too_wide for f in folders):
            raise ValueError
        return cast("Any", value)

    @property
    def saving_to(self) -> Path:
        """The folder that `file_save` writes into; it need not exist yet."""
        if self.save_dir is not None:
            return self.save_dir
        downloads = Path.home() / "Downloads"
        return (downloads if downloads.is_dir() else Path.home()) / "inference"


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"{name} is not a setting." + (f" Did you mean {near[0]}?" if near else "")


def _sentence(exc: ValidationError, given: Mapping[str, str]) -> str:
    """Say which variable is wrong, what it holds and what it may hold; a key is never shown."""
    name = str(exc.errors()[0]["loc"][0])
    extra: Any = Settings.model_fields[name].json_schema_extra
    value = re.sub(r"//[^/@]*@", "//***@", given[name])[:80]
    shown = "" if name == "api_key" else f' is "{value}", but'
    return f"{PREFIX}{name.upper()}{shown} must be {extra['allowed']}."
