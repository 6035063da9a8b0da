"""Settings: one frozen value, with every default and its reason.

`Settings.from_environ` is a pure function of a mapping; `__main__` alone hands it the real environment. What a value may be
is in `kinds`.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
SECRETS = frozenset({"api_key", "state_keys", "redis_url"})
"""Never flags, since command lines are visible to others, and never shown."""
Toolset = Literal["apps", "tasks", "files", "sessions", "agents"]
TOOLSETS: tuple[Toolset, ...] = get_args(Toolset)

# Variables with our prefix that belong to the official SDKs: not ours to refuse.
FOREIGN = frozenset({"INFERENCE_API_BASE_URL", "INFERENCE_SSE_MODE", "INFERENCE_SSE_READ_BYTES"})

NEAR_MISS = 0.85
"""How alike two names are (difflib's ratio) for one to be a typing error of the other: API_KYE, TOOLSET, APIKEY."""
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
"""Not ours, but everybody's; those in lower case come first, as curl and Python have it."""

# What a host passes on when it could not fill in its own reference: Claude Code, Gemini CLI and desktop bundles do.
_UNFILLED = re.compile(r"\$(?:\w+|\{[^{}]*\})")


def _readable(text: str) -> str:
    """The pins say what is wrong with them in a sentence of their own."""
    if text:
        from inferencesh_mcp import pins  # brings the API along, which not every command needs

        pins.parsed(text)
    return text


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the process was started with. Every field but `proxies` is a variable `INFERENCE_<NAME>`; all but the secrets are
    flags too.

    No pydantic model: to make one of so many fields takes a fortieth of a start, and hardly any of them is ever told.
    """

    api_key: Key | None = setting(
        None, "Your inference.sh key. Not a flag: command lines are visible to others.", allowed="a key without spaces"
    )
    base_url: Base = setting("https://api.inference.sh", "Where the API is.", allowed=ADDRESS)
    proxy_url: Base | None = setting(
        None,
        "Send every call to this address instead, as the official SDKs' proxy mode does; the proxy adds the key.",
        allowed=ADDRESS,
    )
    sandbox: bool = setting(False, "Talk to the embedded sandbox instead of inference.sh: no key, no network, no cost.")
    stream: bool = setting(True, "Follow runs by stream; `false` polls instead.")
    poll_interval_ms: int = setting(2000, "Pause between polls, in milliseconds.", ge=100, le=60_000)
    # The shortest limits of known hosts are 50 to 60 s; the answer must be on its way before.
    wait_seconds: float = setting(
        45, "How long a call waits for a run before it hands over its `task_id`.", ge=1, le=3600
    )
    on_cancel: Literal["cancel", "keep"] = setting("cancel", "What becomes of a run whose call the host cancels.")
    max_concurrent_runs: int = setting(32, "Runs one caller may have live at once.", ge=1, le=1000)
    allowed_dirs: Annotated[tuple[Folder, ...], LISTED_AS_PATHS] = setting(
        (),
        f"Folders whose files may be uploaded, separated by `{os.pathsep}`. `INFERENCE_SAVE_DIR` is always one.",
        allowed="absolute paths of folders that neither are nor hold your home folder",
    )
    save_dir: Folder | None = setting(
        None,
        "Where `file_save` writes. Unset: `inference` under your downloads, or under your home.",
        allowed=FOLDER,
    )
    toolsets: Annotated[tuple[Toolset, ...], LISTED] = setting(
        TOOLSETS, "Which groups of tools to offer.", allowed=f"some of {','.join(TOOLSETS)}", min_length=1
    )
    read_only: bool = setting(False, "Offer only tools that neither spend, change nor write anything.")
    pin: Annotated[str, AfterValidator(_readable)] = setting(
        "",
        "Apps that have a tool of their own, by the name before `=` if there is one.",
        allowed="`[alias=]namespace/name[@version][:function]`, separated by commas",
    )
    cache_dir: Folder | None = setting(
        None,
        "Where stdio keeps what it knows of pinned apps, so that a start needs no network. "
        "Unset: this machine's usual place for such files.",
        allowed=FOLDER,
    )
    approvals: Literal["ask", "host"] = setting(
        "ask", "Who decides what an agent needs approval for: the person, or (`host`) the model too."
    )
    always_allow: bool = setting(False, "Whether a person who is asked may also allow a tool for the rest of a chat.")
    chat_url: str = setting(
        "https://app.inference.sh/chats/{chat_id}",
        "The page on which a person sees a chat and decides; `{chat_id}` stands for its id.",
        allowed="an https:// address",
        pattern="^https://",
    )
    inline_media: Literal["auto", "never"] = setting("auto", "Whether a small picture is shown inside an answer.")
    file_links: Literal["auto", "never"] = setting(
        "auto", "Whether files are links of their own in an answer: some clients lose the whole answer over one."
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)] = setting(
        "WARNING", "What goes to stderr."
    )
    log_format: Literal["text", "json"] = setting("text", "How it is written, a line each.")
    traces: bool = setting(False, "Send OpenTelemetry traces where the `OTEL_` variables say (extra `[otel]`).")
    refuse_root: bool = setting(False, "Whether to refuse to start as root. The image sets it.")

    # Of `http` alone: where it is reached and by whom, how much of it each may have, and what its replicas share.
    allowed_hosts: Annotated[tuple[HostName, ...], LISTED] = setting(
        (),
        "Names that `http` is reached by besides this machine's own, separated by commas.",
        allowed="host names such as mcp.example.com",
        http=True,
    )
    allowed_origins: Annotated[tuple[Origin, ...], LISTED] = setting(
        (),
        "Web pages whose scripts may use `http`, separated by commas. None needs to be named for hosts that are no web page.",
        allowed="origins such as https://app.example.com",
        http=True,
    )
    trusted_proxies: Annotated[tuple[Network, ...], LISTED] = setting(
        (),
        "Your reverse proxies: they alone may say whom a request came from, and open any number of connections.",
        allowed="IP addresses and networks such as 10.0.0.0/8",
        http=True,
    )
    http_auth: Literal["caller", "tokens", "oauth"] = setting(
        "caller",
        "Who may use `http`: whoever brings a key of their own (`caller`), or whoever your `tokens` or your `oauth` issuer "
        "let in, with your key.",
        http=True,
    )
    http_key_prefixes: Annotated[tuple[str, ...], LISTED] = setting(
        (),
        "What callers' own keys begin with; others are refused here.",
        allowed="beginnings of keys such as inf_",
        http=True,
    )
    http_tokens: Annotated[tuple[TokenHash, ...], LISTED] = setting(
        (),
        "The tokens that `tokens` lets in, as `inferencesh-mcp token NAME` writes them.",
        allowed="name:sha256 pairs, separated by commas",
        http=True,
    )
    http_tokens_file: File | None = setting(
        None, "The same in a file, a line each. Read at the start.", allowed="the path of a file", http=True
    )
    oauth_issuer: Address | None = setting(None, "Whose tokens `oauth` lets in.", allowed=ADDRESS, http=True)
    oauth_resource: Address | None = setting(
        None, "This server's public address, which tokens must be made for (`aud`).", allowed=ADDRESS, http=True
    )
    oauth_scopes: Annotated[tuple[Scope, ...], LISTED] = setting(
        (), "Scopes that a token must have.", allowed="names without spaces, separated by commas", http=True
    )
    oauth_jwks_url: Address | None = setting(
        None, "Where the issuer's keys are. Unset: where its metadata says.", allowed=ADDRESS, http=True
    )
    max_runs_in_all: int = setting(
        1000, "Runs that all callers together may have live in one process.", http=True, ge=1, le=10_000
    )
    max_streams: int = setting(64, "Requests one caller of `http` may have open at once.", http=True, ge=1, le=10_000)
    max_connections: int = setting(256, "Connections to `http` from one address.", http=True, ge=1, le=10_000)
    max_body_bytes: int = setting(4 * 1024 * 1024, "The longest message to `http`.", http=True, ge=1024, le=1 << 26)
    header_seconds: float = setting(10, "How long the head of a request to `http` may take.", http=True, ge=0.1, le=60)
    body_seconds: float = setting(30, "How long its body may take.", http=True, ge=0.1, le=600)
    drain_seconds: float = setting(10, "How long `http` may take to end once told to.", http=True, ge=2, le=600)
    metrics_tokens: Annotated[tuple[TokenHash, ...], LISTED] = setting(
        (),
        "Who may read `/metrics` of `http`, as `inferencesh-mcp token NAME` writes it (extra `[metrics]`); unset, there is none.",
        allowed="name:sha256 pairs, separated by commas",
        http=True,
    )
    state_keys: StateKeys = setting(
        (),
        "Seals what clients hand back: questions and MCP tasks. The same for all replicas; the first seals, all open. "
        "Unset: one of this process alone.",
        allowed="different secrets of 32 bytes or more, separated by commas",
        http=True,
    )
    redis_url: RedisUrl | None = setting(
        None,
        "Where replicas tell each other what each caller has live, so that limits hold for all together (extra `[redis]`). "
        "Unset: for each by itself.",
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
            SettingsError: one sentence that names the variable, its value and what is allowed. A variable that is no
                setting is an error only where its name is nearly one; others may belong to other programs.
        """
        given = {name: environ[_variable(name)].strip() for name in FIELDS if _variable(name) in environ}
        for name in unknown_variables(environ):
            if near := _near_miss(name):
                raise SettingsError(message=f"{name} is not a setting. Did you mean {near}?")
        values = {name: value for name, value in given.items() if value and not _UNFILLED.fullmatch(value)}
        return cls(**{name: _read(name, value) for name, value in values.items()}, proxies=_proxies(environ))

    @property
    def pins(self) -> "tuple[Pin, ...]":
        """The apps that have a tool of their own; none where what runs them is not offered."""
        if not self.pin or self.read_only or "apps" not in self.toolsets:
            return ()
        from inferencesh_mcp import pins

        return pins.parsed(self.pin)

    @property
    def credentials(self) -> tuple[str, ...]:
        """What nobody may be shown: the key, what seals states, and the password of Redis."""
        values = [secret.get_secret_value() for secret in (self.api_key, *self.state_keys) if secret]
        password = urlsplit(self.redis_url.get_secret_value()).password if self.redis_url else None
        return (*values, password) if password else tuple(values)

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
        home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where HOME is not known
        if not home.is_absolute():
            home = Path(tempfile.gettempdir())
        downloads = home / "Downloads"
        return (downloads if os.path.isdir(downloads) else home) / "inference"


FIELDS = {setting.name: setting for setting in fields(Settings) if setting.metadata}
"""Every setting by its name."""


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    given = {name: environ.get(name.lower(), environ.get(name, "")).strip() for name in PROXY_VARIABLES}
    return {name: value for name, value in given.items() if value and not _UNFILLED.fullmatch(value)}


def _read(name: str, value: str) -> Any:
    try:
        return read(FIELDS[name], value)
    except ValidationError:  # its text would quote the value, key included
        raise SettingsError(message=_sentence(name, value)) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """The variables with our prefix that are no setting. They may belong to another program, or to Kubernetes."""
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX) and name not in FOREIGN and name.removeprefix(PREFIX).lower() not in FIELDS
    )


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _near_miss(variable: str) -> str:
    """The setting whose name somebody mistyped; empty where the name is not close to any."""
    import difflib

    name = variable.removeprefix(PREFIX).lower()[:40]
    near = difflib.get_close_matches(name, list(FIELDS), n=1, cutoff=NEAR_MISS)
    return _variable(near[0]) if near else ""


def _sentence(name: str, value: str) -> str:
    """Say which variable is wrong, what it holds and what it may hold; a secret is never shown."""
    without_secrets = re.sub(r"[?#].*", "?***", re.sub(r"//[^/@]*@", "//***@", value))[:80]
    shown = "" if name in {*SECRETS, "http_tokens", "metrics_tokens"} else f' is "{without_secrets}", but'
    return f"{PREFIX}{name.upper()}{shown} must be {allowed(FIELDS[name])}."
