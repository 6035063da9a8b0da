"""Settings: one frozen value, with every default and its reason.

`Settings.from_environ` is a pure function of a mapping; `__main__` alone hands it the real environment.
"""

from __future__ import annotations

import difflib
import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from inferencesh_mcp.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inferencesh_mcp.pins import Pin

PREFIX = "INFERENCE_"
SECRETS = frozenset({"api_key", "state_keys", "redis_url"})
"""Never flags, since command lines are visible to others, and never shown."""
Toolset = Literal["apps", "tasks", "files", "sessions", "agents"]
TOOLSETS: tuple[Toolset, ...] = get_args(Toolset)

# Variables with our prefix that belong to the official SDKs: not ours to refuse.
FOREIGN = frozenset({"INFERENCE_API_BASE_URL", "INFERENCE_SSE_MODE", "INFERENCE_SSE_READ_BYTES"})

# What a host passes on when it could not fill in its own reference: Claude Code, Gemini CLI and desktop bundles do.
_UNFILLED = re.compile(r"\$(?:\w+|\{[^{}]*\})")
SHORTEST_STATE_KEY = 32  # bytes: what AES-256 takes

# Header-safe and without white space: a key pasted with a line break must not become a second header.
_KEY = re.compile(r"[\x21-\x7e]{1,512}")

# A gateway's token by its holder's name and its own SHA-256 (see `web.tokens`).
TOKEN = re.compile(r"[\w.@-]{1,64}:[0-9a-fA-F]{64}", re.ASCII)

_ENTRIES = {
    "allowed_hosts": re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?"),
    "allowed_origins": re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?|[a-z0-9+.-]+://[a-z0-9._-]+"),
    "http_tokens": TOKEN,
    "metrics_tokens": TOKEN,
    "oauth_scopes": re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+"),  # RFC 6749 3.3
}


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
    """What the process was started with. Every field is a variable `INFERENCE_<NAME>`; all but the secrets are flags too."""

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
    pin: str = _setting(
        "",
        "Apps that have a tool of their own, by the name before `=` if there is one.",
        allowed="`[alias=]namespace/name[@version][:function]`, separated by commas",
    )
    cache_dir: Folder | None = _setting(
        None,
        "Where stdio keeps what it knows of pinned apps, so that a start needs no network. "
        "Unset: this machine's usual place for such files.",
        allowed="the absolute path of a folder, neither / nor your home folder itself",
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
    allowed_origins: Annotated[tuple[str, ...], _listed(",")] = _setting(
        (),
        "Web pages whose scripts may use `http`, separated by commas. None needs to be named for hosts that are no web page.",
        allowed="origins such as https://app.example.com",
    )
    trusted_proxies: Annotated[tuple[str, ...], _listed(",")] = _setting(
        (),
        "Your reverse proxies: they alone may say whom a request came from, and open any number of connections.",
        allowed="IP addresses and networks such as 10.0.0.0/8",
    )
    http_auth: Literal["caller", "tokens", "oauth"] = _setting(
        "caller",
        "Who may use `http`: whoever brings a key of their own (`caller`), or whoever your `tokens` or your `oauth` issuer "
        "let in, with your key.",
        allowed="caller, tokens or oauth",
    )
    http_key_prefixes: Annotated[tuple[str, ...], _listed(",")] = _setting(
        (), "What callers' own keys begin with; others are refused here.", allowed="beginnings of keys such as inf_"
    )
    http_tokens: Annotated[tuple[str, ...], _listed(",")] = _setting(
        (),
        "The tokens that `tokens` lets in, as `inferencesh-mcp token NAME` writes them.",
        allowed="name:sha256 pairs, separated by commas",
    )
    http_tokens_file: Folder | None = _setting(
        None, "The same in a file, a line each. Read at the start.", allowed="the path of a file"
    )
    oauth_issuer: str | None = _setting(
        None, "Whose tokens `oauth` lets in.", allowed="an https:// address, or http:// on this machine"
    )
    oauth_resource: str | None = _setting(
        None,
        "This server's public address, which tokens must be made for (`aud`).",
        allowed="an https:// address, or http:// on this machine",
    )
    oauth_scopes: Annotated[tuple[str, ...], _listed(",")] = _setting(
        (), "Scopes that a token must have.", allowed="names without spaces, separated by commas"
    )
    oauth_jwks_url: str | None = _setting(
        None,
        "Where the issuer's keys are. Unset: where its metadata says.",
        allowed="an https:// address, or http:// on this machine",
    )
    max_runs_in_all: int = _setting(
        1000,
        "Runs that all callers together may have live in one process.",
        allowed="a whole number from 1 to 10000",
        ge=1,
        le=10_000,
    )
    max_streams: int = _setting(
        64,
        "Requests one caller of `http` may have open at once.",
        allowed="a whole number from 1 to 10000",
        ge=1,
        le=10_000,
    )
    max_connections: int = _setting(
        256, "Connections to `http` from one address.", allowed="a whole number from 1 to 10000", ge=1, le=10_000
    )
    max_body_bytes: int = _setting(
        4 * 1024 * 1024,
        "The longest message to `http`.",
        allowed="a whole number from 1024 to 67108864",
        ge=1024,
        le=1 << 26,
    )
    header_seconds: float = _setting(
        10, "How long the head of a request to `http` may take.", allowed="a number from 0.1 to 60", ge=0.1, le=60
    )
    body_seconds: float = _setting(
        30, "How long its body may take.", allowed="a number from 0.1 to 600", ge=0.1, le=600
    )
    drain_seconds: float = _setting(
        10, "How long `http` may take to end once told to.", allowed="a number from 2 to 600", ge=2, le=600
    )
    state_keys: Annotated[tuple[SecretStr, ...], _listed(",")] = _setting(
        (),
        "Seals what clients hand back: questions and MCP tasks. The same for all replicas; the first seals, all open. "
        "Unset: one of this process alone.",
        allowed="different secrets of 32 bytes or more, separated by commas",
        repr=False,
    )
    metrics_tokens: Annotated[tuple[str, ...], _listed(",")] = _setting(
        (),
        "Who may read `/metrics` of `http`, as `inferencesh-mcp token NAME` writes it; unset, there is none.",
        allowed="name:sha256 pairs, separated by commas",
    )
    traces: bool = _setting(
        False, "Send OpenTelemetry traces where the `OTEL_` variables say.", allowed="true or false"
    )
    redis_url: SecretStr | None = _setting(
        None,
        "Where replicas tell each other what each caller has live, so that limits hold for all together (extra `[redis]`). "
        "Unset: for each by itself.",
        allowed="a redis://, rediss:// or unix:// address",
        repr=False,
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

    @field_validator("state_keys")
    @classmethod
    def _long(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        plain = [key.get_secret_value().encode() for key in keys]
        if any(len(key) < SHORTEST_STATE_KEY for key in plain) or len({*plain}) < len(plain):
            raise ValueError
        return keys

    @field_validator(
        "allowed_hosts", "allowed_origins", "trusted_proxies", "http_tokens", "metrics_tokens", "oauth_scopes"
    )
    @classmethod
    def _well_formed(cls, given: tuple[str, ...], told: ValidationInfo) -> tuple[str, ...]:
        if not all(_fits(str(told.field_name), one) for one in given):
            raise ValueError
        return tuple(one.lower() for one in given) if told.field_name == "allowed_hosts" else given

    @field_validator("redis_url")
    @classmethod
    def _of_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not re.match(r"(rediss?://[^/\s]+|unix:///)\S*$", url.get_secret_value()):
            raise ValueError
        return url

    @field_validator("base_url", "proxy_url", "oauth_issuer", "oauth_resource", "oauth_jwks_url")
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

    @field_validator("allowed_dirs", "save_dir", "cache_dir")
    @classmethod
    def _narrow(cls, value: Any) -> Any:
        """A root or a whole home folder is no limit at all (threat T-12)."""
        given = cast("tuple[Path | None, ...]", value if isinstance(value, tuple) else (value,))
        folders = [folder for folder in given if folder]
        too_wide = {Path(os.path.realpath(Path.home())), *(Path(f.anchor) for f in folders)}
        if any(not f.is_absolute() or Path(os.path.realpath(f)) in too_wide for f in folders):
            raise ValueError
        return cast("Any", value)

    @field_validator("pin")
    @classmethod
    def _readable(cls, text: str) -> str:
        """The pins say what is wrong with them in a sentence of their own."""
        if text:
            from inferencesh_mcp import pins  # brings the API along, which not every command needs

            pins.parsed(text)
        return text

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The apps that have a tool of their own; none where what runs them is not offered."""
        if not self.pin or self.read_only or "apps" not in self.toolsets:
            return ()
        from inferencesh_mcp import pins

        return pins.parsed(self.pin)

    @property
    def caching_in(self) -> Path:
        """The folder that pinned apps are kept in; it need not exist yet."""
        if self.cache_dir is not None:
            return self.cache_dir
        from platformdirs import user_cache_path

        return user_cache_path("inferencesh-mcp", appauthor=False)

    @property
    def saving_to(self) -> Path:
        """The folder that `file_save` writes into; it need not exist yet."""
        if self.save_dir is not None:
            return self.save_dir
        downloads = Path.home() / "Downloads"
        return (downloads if downloads.is_dir() else Path.home()) / "inference"


def _fits(name: str, value: str) -> bool:
    """Whether one of a list is of its kind. No entry stands for everything: an empty list lets nobody in (I-21)."""
    if name == "trusted_proxies":
        try:
            return ip_network(value, strict=False).prefixlen > 0
        except ValueError:
            return False
    return _ENTRIES[name].fullmatch(value) is not None


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"{name} is not a setting." + (f" Did you mean {near[0]}?" if near else "")


def _sentence(exc: ValidationError, given: Mapping[str, str]) -> str:
    """Say which variable is wrong, what it holds and what it may hold; a secret is never shown."""
    name = str(exc.errors()[0]["loc"][0])
    extra: Any = Settings.model_fields[name].json_schema_extra
    value = re.sub(r"//[^/@]*@", "//***@", given[name])[:80]
    shown = "" if name in {*SECRETS, "http_tokens", "metrics_tokens"} else f' is "{value}", but'
    return f"{PREFIX}{name.upper()}{shown} must be {extra['allowed']}."
