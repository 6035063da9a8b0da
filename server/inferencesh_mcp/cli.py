"""The commands. Each imports what it needs when it runs, so that stdio's first reply waits for nothing else."""

from __future__ import annotations

import gc
import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from inferencesh_mcp import __version__
from inferencesh_mcp.errors import CallError, InferenceError, SettingsError
from inferencesh_mcp.settings import FIELDS, PREFIX, SECRETS, Settings, unknown_variables
from inferencesh_mcp.settings.types import choices_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


EXIT_CODES = (
    "Exit codes: 0 done, or the host closed stdin or stdout; 1 failed; 2 wrong use or an invalid setting; "
    "129, 130, 143 ended by SIGHUP, SIGINT, SIGTERM, after live runs were cancelled or reported by id."
)
VARIABLES = f"Each setting is also a variable: --wait-seconds is {PREFIX}WAIT_SECONDS. Secrets are only variables: {PREFIX}API_KEY."
HOSTS = ("claude-desktop", "claude-code", "cursor", "vscode", "codex", "gemini", "windsurf", "zed", "opencode", "copilot",
         "cline", "qwen")  # fmt: skip
GC_GEN2_THRESHOLD = 50  # collections of generation 1 per collection of generation 2; Python's default is 10
STDIO_ONLY = frozenset({"allowed_dirs", "save_dir", "cache_dir"})
"""Settings without effect in `http`, which never uses this machine's disk."""


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command and return its exit code, one of `EXIT_CODES`. A server does not return: it exits the process."""
    _replace_unencodable()
    try:
        code: int | None = _group.main(
            args=list(arguments), prog_name="inferencesh-mcp", obj=environ, standalone_mode=False
        )
    except click.ClickException as exc:
        exc.show(file=sys.stderr)
        return 2
    except InferenceError as exc:
        click.echo(f"inferencesh-mcp: {exc} {exc.next_step}".rstrip(), err=True)
        return 2 if isinstance(exc, (SettingsError, CallError)) else 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code or 0


def _replace_unencodable() -> None:
    """Let no character end a command: on Windows the output to a pipe or file is cp1252, for example."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _setting_option(name: str, *, hidden: bool = False) -> click.Option:
    """The option of one setting, with its choices. `Settings` reads its value and reports errors."""
    field = FIELDS[name]
    flag = name.replace("_", "-")
    switch = field.type is bool
    choices = choices_of(field)
    metavar = f"[{'|'.join(choices)}]" if choices else "VALUE"
    return click.Option(
        [f"--{flag}/--no-{flag}" if switch else f"--{flag}"],
        default=None,
        metavar=None if switch else metavar,
        hidden=hidden,
        help=field.metadata["about"].partition(". ")[0].rstrip(".") + ".",  # server/README.md has all of it
    )


def _settings_options(names: Iterable[str]) -> Callable[[click.Command], click.Command]:
    """Add the options of these settings to a command. Secrets have none, because command lines are visible to others."""

    def add(command: click.Command) -> click.Command:
        command.params.extend(_setting_option(name) for name in names if name not in SECRETS)
        command.epilog = VARIABLES
        return command

    return add


STDIO_SETTINGS = tuple(name for name, field in FIELDS.items() if not field.metadata["http"])
HTTP_SETTINGS = tuple(name for name in FIELDS if name not in STDIO_ONLY)
LOG_SETTINGS = ("log_level", "log_format")


def _environ(environ: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, str]:
    """The environment, with each given option in place of its variable."""
    variables = {
        f"{PREFIX}{name.upper()}": str(value).lower() if isinstance(value, bool) else value
        for name, value in options.items()
        if value is not None
    }
    return {**environ, **variables}


def _settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings of a command.

    Raises:
        SettingsError: a setting is invalid, or this must not run as root.
    """
    settings = Settings.from_environ(environ)
    if settings.refuse_root and sys.platform != "win32" and os.geteuid() == 0:
        raise SettingsError(message=f"{PREFIX}REFUSE_ROOT is set, so this must not run as root. Use another user.")
    return settings


def _start_logging(settings: Settings, environ: Mapping[str, str]) -> None:
    """Log to stderr, starting with the variables that are ignored."""
    from inferencesh_mcp import logs

    logs.configure(settings, sys.stderr)
    if ignored := unknown_variables(environ):
        logging.getLogger(__name__).warning("Ignored, because they are not settings: %s", ", ".join(ignored))


def _enable_gc() -> None:
    """Enable garbage collection (see `__main__`): skip the objects made at start, and scan old objects rarely.

    A scan of a thousand live runs blocks all callers for over half a second and finds almost nothing: a call leaves
    some twenty objects.
    """
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], GC_GEN2_THRESHOLD)
    gc.enable()


def _start_traces(settings: Settings) -> Callable[[], None]:
    """Start traces if the settings say so. Returns a function that sends the last ones."""
    if not settings.traces:
        return lambda: None
    try:
        from inferencesh_mcp import telemetry
    except ImportError as exc:
        raise SettingsError(message="INFERENCE_TRACES needs the extra: install inferencesh-mcp[otel].") from exc
    return telemetry.configure()


def _listen_options(port: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a command that serves."""
    host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
    kind = click.IntRange(0, 65535)
    port_option = click.option("--port", default=port, show_default=True, type=kind, help="Port; 0 picks a free one.")
    return lambda command: host(port_option(command))


@click.group(
    invoke_without_command=True,
    params=[_setting_option(name, hidden=True) for name in FIELDS if name not in SECRETS],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"Options of a command: inferencesh-mcp COMMAND --help. {VARIABLES}\n\n{EXIT_CODES}",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def _group(context: click.Context, /, **options: Any) -> None:
    """Run inference.sh apps from any MCP host.

    Without a command it serves MCP on stdin and stdout, which is how hosts start it. To try it without a key: inferencesh-mcp demo
    """
    context.obj = _environ(context.obj, options)
    if not context.invoked_subcommand:
        _serve_stdio(context.obj)
    elif context.invoked_subcommand != http.name:
        _enable_gc()


@_settings_options(STDIO_SETTINGS)
@_group.command()
@click.pass_obj
def stdio(environ: dict[str, str], /, **options: Any) -> None:
    """Serve MCP on stdin and stdout. The same as no command."""
    _serve_stdio(_environ(environ, options))


def _serve_stdio(environ: dict[str, str]) -> None:
    from inferencesh_mcp import stdio
    from inferencesh_mcp.server import build

    settings = _settings(environ)
    _start_logging(settings, environ)
    end_traces = _start_traces(settings)
    server = build(settings)
    _enable_gc()
    stdio.serve(server, at_end=end_traces)


@_settings_options(HTTP_SETTINGS)
@_group.command()
@_listen_options(8000)
@click.pass_obj
def http(environ: dict[str, str], /, host: str, port: int, **options: Any) -> None:
    """Serve MCP over HTTP on /mcp. Callers send their own keys, unless INFERENCE_HTTP_AUTH says otherwise."""
    from inferencesh_mcp.flows.run_limits import Drain
    from inferencesh_mcp.http.server import serve
    from inferencesh_mcp.server import build
    from inferencesh_mcp.shutdown import exit_now

    environ = _environ(environ, options)
    settings = _settings(environ)
    _start_logging(settings, environ)
    end_traces = _start_traces(settings)
    drain = Drain()
    server = build(settings, remote=True, drain=drain)
    _enable_gc()
    try:
        code = serve(
            server,
            settings,
            drain,
            host=host,
            port=port,
            ready=lambda url: click.echo(f"serving MCP at {url}", err=True),
        )
    finally:
        end_traces()
    exit_now(code)


@_group.command()
@click.argument("name")
def token(name: str) -> None:
    """Make a token for a caller of `http`. It is shown once; the server stores only its hash."""
    from inferencesh_mcp.http import tokens
    from inferencesh_mcp.settings.types import TOKEN

    new_token = tokens.mint()
    line = tokens.line(name, new_token)
    if not TOKEN.fullmatch(line):
        raise SettingsError(message="NAME must be 1 to 64 letters, digits, or any of . _ @ -")
    click.echo(new_token)
    click.echo(f"Give the token above to {name}. The server needs only its hash, the line below.", err=True)
    click.echo("To call tools, add it to INFERENCE_HTTP_TOKENS or its file. To read /metrics, add it to", err=True)
    click.echo("INFERENCE_METRICS_TOKENS.", err=True)
    click.echo(line, err=True)


@_settings_options(LOG_SETTINGS)
@_group.command()
@_listen_options(8787)
@click.pass_obj
def sandbox(environ: dict[str, str], /, host: str, port: int, **options: Any) -> None:
    """Serve only the embedded inference.sh sandbox. Any key that begins with inf_ works."""
    from contextlib import AsyncExitStack

    import anyio

    from inferencesh_mcp.http.server import cannot_listen
    from inferencesh_mcp.server import embedded_sandbox

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            try:
                url = await stack.enter_async_context(embedded_sandbox(host, port))
            except OSError as exc:
                raise cannot_listen(host, port, exc) from exc
            click.echo(f"sandbox ready at {url}", err=True)
            await anyio.sleep_forever()

    environ = _environ(environ, options)
    _start_logging(_settings(environ), environ)
    anyio.run(serve)


@_group.command()
@click.option(
    "--to",
    type=click.Path(file_okay=False),
    default=None,
    help="Folder for the pictures. Default: a new temporary folder.",
)
def demo(to: str | None) -> int:
    """Show a whole run without a key or a network: a picture in and a picture out."""
    from inferencesh_mcp.demo import show
    from inferencesh_mcp.terminal import is_terminal

    if to:  # the server would refuse it too, but its error would not be shown
        Settings.from_environ({f"{PREFIX}SAVE_DIR": os.path.abspath(to)})  # noqa: PTH100 - links stay as they are
    return show(to, sys.stdout, width=os.get_terminal_size().columns if is_terminal(sys.stdout) else None)


@_settings_options(STDIO_SETTINGS)
@_group.command()
@click.argument("host", type=click.Choice(HOSTS), required=False)
@click.option("--http", "url", default=None, metavar="URL", help="URL of a remote server to use instead of this one.")
@click.option("--sign-in", is_flag=True, help="With --http: write no key; the host signs in with OAuth.")
@click.option("--name", default="inference", show_default=True, help="Name of the server in the host.")
@click.option("--print", "only_show", is_flag=True, help="Show the entry and its file, and write nothing.")
@click.pass_obj
def install(
    environ: dict[str, str],
    /,
    host: str | None,
    url: str | None,
    sign_in: bool,
    name: str,
    only_show: bool,
    **options: Any,
) -> int:
    """Write this server into a host's configuration, with the settings given here. Without HOST, offer those on this machine.

    The rest of the file is not changed, and a backup is kept beside it. Your key goes into the host's own secret store,
    if it has one.
    """
    from inferencesh_mcp.hosts.catalogue import Machine
    from inferencesh_mcp.hosts.command import install, offer

    environ = _environ(environ, options)
    _settings(environ)  # a wrong setting must not be written into a host's file
    machine = Machine.this(sys.platform, environ)
    if host is None:
        if only_show:
            raise click.UsageError("--print needs a HOST.")
        return offer(name, url, sign_in=sign_in, machine=machine)
    install(host, name, url, sign_in=sign_in, only_show=only_show, machine=machine)
    return 0


@_group.command()
@click.argument("host", type=click.Choice(HOSTS), required=False)
@click.option("--name", default="inference", show_default=True, help="Name of the server in the host.")
@click.pass_obj
def uninstall(environ: dict[str, str], /, host: str | None, name: str) -> int:
    """Remove this server from a host's configuration. Without HOST, offer the hosts that have it."""
    from inferencesh_mcp.hosts.catalogue import Machine
    from inferencesh_mcp.hosts.command import offer_removal, uninstall

    machine = Machine.this(sys.platform, environ)
    if host is None:
        return offer_removal(name, machine)
    uninstall(host, name, machine)
    return 0


@_settings_options(FIELDS)
@_group.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.pass_obj
def doctor(environ: dict[str, str], /, as_json: bool, **options: Any) -> int:
    """Check the key, network, folders and hosts, and say what to fix."""
    from inferencesh_mcp.doctor import examine
    from inferencesh_mcp.hosts.catalogue import Machine

    environ = _environ(environ, options)
    machine = Machine.this(sys.platform, environ)
    return examine(_settings(environ), machine, sys.stdout, as_json=as_json)
