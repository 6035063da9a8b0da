"""Settings: one frozen value with every default.

`Settings.from_environ` is a pure function of a mapping; only `__main__` passes the real environment. Valid values are
defined in `types`.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ValidationError

from inferencesh_mcp.errors import SettingsError
from inferencesh_mcp.settings.types import (
    ADDRESS,
    FOLDER,
    LISTED,
    LISTED_AS_PATHS,
    Address,
    Base,
    File,
    Folder,
    HostName,
    Key,
    Network,
    Origin,
    RedisUrl,
    Scope,
    StateKeys,
    TokenHash,
    allowed,
    read,
    setting,
)

if TYPE_CHECKING:
    from inferencesh_mcp.pins import Pin

PREFIX = "INFERENCE_"
CHAT_URL = "https://app.inference.sh/chats/{chat_id}"
SECRETS = frozenset({"api_key", "state_keys", "redis_url"})
"""Never options, because command lines are visible to others, and never shown."""
Toolset = Literal["apps", "tasks", "files", "sessions", "agents", "account"]
TOOLSETS: tuple[Toolset, ...] = get_args(Toolset)

# Variables with our prefix that belong to the official SDKs.
SDK_VARIABLES = frozenset({"INFERENCE_API_BASE_URL", "INFERENCE_SSE_MODE", "INFERENCE_SSE_READ_BYTES"})

NEAR_MISS = 0.85
"""difflib's ratio from which a name counts as a typing error: API_KYE, TOOLSET, APIKEY."""
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
"""Shared with other programs. Lower case takes precedence, as in curl and Python."""

# An unresolved reference, as Claude Code, Gemini CLI and desktop bundles pass it on.
_UNFILLED = re.compile(r"\$(?:\w+|\{[^{}]*\})")


def _readable(text: str) -> str:
    """Pins raise their own errors."""
    if text:
        from inferencesh_mcp import pins  # late: imports the API, which not every command needs

        pins.parsed(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a process. Every field except `proxies` is a variable `INFERENCE_<NAME>`; all except secrets are
    options too.

    A dataclass, because pydantic takes a fortieth of a start to build a model of so many fields (pydantic-settings more). A value
    is validated by pydantic only if it is set.
    """

    api_key: Key | None = setting(
        None, "Your inference.sh key. Not a flag: command lines are visible to others.", allowed="a key without spaces"
    )
    base_url: Base = setting("https://api.inference.sh", "Address of the API.", allowed=ADDRESS)
    proxy_url: Base | None = setting(
        None,
        "Send every call to this address instead. The proxy adds the key, as in the official SDKs' proxy mode.",
        allowed=ADDRESS,
    )
    sandbox: bool = setting(False, "Use the embedded sandbox instead of inference.sh: no key, no network, no cost.")
    stream: bool = setting(True, "Follow runs by stream. `false` polls instead.")
    poll_interval_ms: int = setting(2000, "Pause between polls, in milliseconds.", ge=100, le=60_000)
    # The shortest timeouts of known hosts are 50 to 60 s.
    wait_seconds: float = setting(
        45, "Seconds that a call waits for a run before it returns its `task_id`.", ge=1, le=3600
    )
    on_cancel: Literal["cancel", "keep"] = setting("cancel", "What to do with a run when the host cancels its call.")
    max_concurrent_runs: int = setting(
        32, "Maximum number of runs that the calls of one caller follow at the same time.", ge=1, le=1000
    )
    max_run_cost: Decimal | None = setting(
        None,
        "US dollars that a run or a batch may cost without asking the person. Unset: no limit.",
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
    )
    max_run_cost_strict: bool = setting(False, "Ask the person also if the cost of a run is not known.")
    allowed_dirs: Annotated[tuple[Folder, ...], LISTED_AS_PATHS] = setting(
        (),
        f"Folders whose files may be uploaded, separated by `{os.pathsep}`. `INFERENCE_SAVE_DIR` is always included.",
        allowed="absolute paths of folders; not your home folder or a folder that contains it",
    )
    save_dir: Folder | None = setting(
        None,
        "Folder for `file_save`. Unset: `inference` in your downloads or home folder.",
        allowed=FOLDER,
    )
    toolsets: Annotated[tuple[Toolset, ...], LISTED] = setting(
        TOOLSETS, "Groups of tools to offer.", allowed=f"some of {','.join(TOOLSETS)}", min_length=1
    )
    read_only: bool = setting(
        False, "Offer only tools that read. Tools that spend money, change data or write files are left out."
    )
    pin: Annotated[str, AfterValidator(_readable)] = setting(
        "",
        "Apps to offer as tools of their own. `alias=` before an app names its tool.",
        allowed="`[alias=]namespace/name[@version][:function]`, separated by commas",
    )
    cache_dir: Folder | None = setting(
        None,
        "Where stdio caches the schemas of pinned apps, so that it starts without a network. "
        "Unset: this system's cache folder.",
        allowed=FOLDER,
    )
    approvals: Literal["ask", "host"] = setting(
        "ask", "Who approves what an agent asks for: the person (`ask`), or the model too (`host`)."
    )
    always_allow: bool = setting(False, "Let a person allow a tool for the rest of a chat.")
    chat_url: str = setting(
        CHAT_URL,
        "Page where a person sees a chat and decides. `{chat_id}` is replaced by its id.",
        allowed="an https:// address",
        pattern="^https://",
    )
    tool_prefix: str = setting(
        "",
        "Put before the name of every tool, for hosts that mix up the tools of several servers.",
        allowed="a letter and up to 7 letters, digits, _ or -",
        pattern="^[A-Za-z][A-Za-z0-9_-]{0,7}$",
    )
    inline_media: Literal["auto", "never"] = setting("auto", "Whether answers contain small pictures.")
    file_links: Literal["auto", "never"] = setting(
        "auto", "Whether answers contain file links. Some clients lose an answer that has one."
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = setting(
        "WARNING", "Lowest level that is logged to stderr."
    )
    log_format: Literal["text", "json"] = setting("text", "Format of the log, one event per line.")
    traces: bool = setting(False, "Send OpenTelemetry traces to the address in the `OTEL_` variables (extra `[otel]`).")
    refuse_root: bool = setting(False, "Refuse to start as root. The image sets it.")

    # For `http` only: host names, authentication, limits, and what replicas share.
    allowed_hosts: Annotated[tuple[HostName, ...], LISTED] = setting(
        (),
        "Host names that `http` accepts besides loopback names, separated by commas.",
        allowed="host names such as mcp.example.com",
        http=True,
    )
    allowed_origins: Annotated[tuple[Origin, ...], LISTED] = setting(
        (),
        "Origins of web pages that may use `http`, separated by commas. Hosts that are not web pages need none.",
        allowed="origins such as https://app.example.com",
        http=True,
    )
    trusted_proxies: Annotated[tuple[Network, ...], LISTED] = setting(
        (),
        "Your reverse proxies. Only they may forward a client's address or exceed the connection limit.",
        allowed="IP addresses and networks such as 10.0.0.0/8",
        http=True,
    )
    http_auth: Literal["caller", "tokens", "oauth"] = setting(
        "caller",
        "Who may use `http`: callers with their own key (`caller`), or callers with your `tokens` or from your "
        "`oauth` issuer, who use your key.",
        http=True,
    )
    http_key_prefixes: Annotated[tuple[str, ...], LISTED] = setting(
        (),
        "Prefixes of callers' own keys. Other keys are refused.",
        allowed="key prefixes such as inf_",
        http=True,
    )
    http_tokens: Annotated[tuple[TokenHash, ...], LISTED] = setting(
        (),
        "Hashes of the tokens that `tokens` accepts, from `inferencesh-mcp token NAME`.",
        allowed="name:sha256 pairs, separated by commas",
        http=True,
    )
    http_tokens_file: File | None = setting(
        None, "A file with the same, one per line. Read at start.", allowed="the path of a file", http=True
    )
    oauth_issuer: Address | None = setting(None, "Issuer whose tokens `oauth` accepts.", allowed=ADDRESS, http=True)
    oauth_resource: Address | None = setting(
        None, "This server's public address. Tokens must name it as their audience (`aud`).", allowed=ADDRESS, http=True
    )
    oauth_scopes: Annotated[tuple[Scope, ...], LISTED] = setting(
        (), "Scopes that a token must have.", allowed="names without spaces, separated by commas", http=True
    )
    oauth_jwks_url: Address | None = setting(
        None, "Address of the issuer's keys. Unset: taken from its metadata.", allowed=ADDRESS, http=True
    )
    max_runs_in_all: int = setting(
        1000,
        "Maximum number of runs that all calls of one process follow at the same time.",
        http=True,
        ge=1,
        le=10_000,
    )
    max_streams: int = setting(64, "Maximum number of open `http` requests of one caller.", http=True, ge=1, le=10_000)
    max_connections: int = setting(
        256, "Maximum number of `http` connections from one address.", http=True, ge=1, le=10_000
    )
    max_body_bytes: int = setting(
        4 * 1024 * 1024, "Maximum number of bytes in one `http` message.", http=True, ge=1024, le=1 << 26
    )
    header_seconds: float = setting(
        10, "Seconds in which a request's headers must arrive at `http`.", http=True, ge=0.1, le=60
    )
    body_seconds: float = setting(
        30, "Seconds in which a request's body must arrive at `http`.", http=True, ge=0.1, le=600
    )
    drain_seconds: float = setting(10, "Maximum number of seconds that `http` takes to stop.", http=True, ge=2, le=600)
    metrics_tokens: Annotated[tuple[TokenHash, ...], LISTED] = setting(
        (),
        "Hashes of the tokens that may read `/metrics` (extra `[metrics]`). Unset: no `/metrics`.",
        allowed="name:sha256 pairs, separated by commas",
        http=True,
    )
    state_keys: StateKeys = setting(
        (),
        "Keys that seal state held by clients: questions and MCP tasks. Use the same on all replicas. The first key "
        "seals new state, and every key can open it. Replicas never adopt a lost start. Unset: a key of this process.",
        allowed="different secrets of 32 bytes or more, separated by commas",
        http=True,
    )
    redis_url: RedisUrl | None = setting(
        None,
        "Redis that replicas share (extra `[redis]`): the limit of live runs holds for all of them together, and an "
        "agreement to a cost counts once. Unset: both hold for each replica.",
        allowed="a redis://, rediss:// or unix:// address",
        http=True,
    )

    proxies: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, hash=False)
    """`PROXY_VARIABLES`, those that are set. They may hold passwords."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables that begin with `INFERENCE_`, and those of proxies; empty ones, and those a host left as `${…}`,
        count as unset.

        Raises:
            SettingsError: names the variable, its value and what is allowed. An unknown variable is an error only if its
                name is close to a setting's; others may belong to other programs.
        """
        texts = {name: environ[_variable(name)].strip() for name in FIELDS if _variable(name) in environ}
        for name in unknown_variables(environ):
            if near := _near_miss(name):
                raise SettingsError(message=f"{name} is not a setting. Did you mean {near}?")
        values = {name: value for name, value in texts.items() if value and not _UNFILLED.fullmatch(value)}
        return cls(**{name: _read(name, value) for name, value in values.items()}, proxies=_proxies(environ))

    @property
    def pins(self) -> "tuple[Pin, ...]":
        """The apps with tools of their own; none if the tools that run apps are not offered."""
        if not self.pin or self.read_only or "apps" not in self.toolsets:
            return ()
        from inferencesh_mcp import pins

        return pins.parsed(self.pin)

    @property
    def credentials(self) -> tuple[str, ...]:
        """Values to redact: the key, the state keys and the password of Redis.

        Not the passwords of proxies: people choose words for them, which answers have too. Errors never quote an address.
        """
        values = [secret.get_secret_value() for secret in (self.api_key, *self.state_keys) if secret]
        password = urlsplit(self.redis_url.get_secret_value()).password if self.redis_url else None
        return (*values, password) if password else tuple(values)

    @property
    def caching_in(self) -> Path:
        """The cache folder for pinned apps. It need not exist."""
        if self.cache_dir is not None:
            return self.cache_dir
        from platformdirs import user_cache_path

        return user_cache_path("inferencesh-mcp", appauthor=False)

    @property
    def saving_to(self) -> Path:
        """The folder for `file_save`. It need not exist."""
        if self.save_dir is not None:
            return self.save_dir
        home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where HOME is not known
        if not home.is_absolute():
            return Path(tempfile.gettempdir()) / "inference"
        from platformdirs import user_downloads_path

        downloads = user_downloads_path()  # it may have another name, or lie on another disk
        return (downloads if os.path.isdir(downloads) else home) / "inference"


FIELDS = {setting.name: setting for setting in fields(Settings) if setting.metadata}
"""Every setting by its name."""


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    proxies = {name: environ.get(name.lower(), environ.get(name, "")).strip() for name in PROXY_VARIABLES}
    return {name: value for name, value in proxies.items() if value and not _UNFILLED.fullmatch(value)}


def _read(name: str, value: str) -> Any:
    try:
        return read(FIELDS[name], value)
    except ValidationError:  # its text would quote the value, key included
        raise SettingsError(message=_sentence(name, value)) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that are not settings. They may belong to another program or to Kubernetes."""
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX) and name not in SDK_VARIABLES and name.removeprefix(PREFIX).lower() not in FIELDS
    )


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _near_miss(variable: str) -> str:
    """The variable that a name probably means; empty if none is close."""
    import difflib

    name = variable.removeprefix(PREFIX).lower()[:40]
    near = difflib.get_close_matches(name, list(FIELDS), n=1, cutoff=NEAR_MISS)
    return _variable(near[0]) if near else ""


def _sentence(name: str, value: str) -> str:
    """The error for an invalid value: the variable, its value unless secret, and what is allowed."""
    without_secrets = re.sub(r"[?#].*", "?***", re.sub(r"//[^/@]*@", "//***@", value))[:80]
    value_text = "" if name in {*SECRETS, "http_tokens", "metrics_tokens"} else f' is "{without_secrets}", but'
    return f"{PREFIX}{name.upper()}{value_text} must be {allowed(FIELDS[name])}."
