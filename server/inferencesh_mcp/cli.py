"""The commands. What each does is imported when it is asked for: the first reply of stdio waits for nothing else."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from inferencesh_mcp import __version__
from inferencesh_mcp.errors import CallError, InferenceError, SettingsError
from inferencesh_mcp.settings import FIELDS, PREFIX, SECRETS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


EXIT_CODES = (
    "Exit codes: 0 done, or the host closed stdin or stdout; 1 failed; 2 wrong use or a wrong setting; "
    "129, 130, 143 ended by SIGHUP, SIGINT, SIGTERM, after live runs were cancelled or handed over."
)
HOSTS = ("claude-desktop", "claude-code", "cursor", "vscode", "codex", "gemini", "windsurf", "zed")
SELDOM = 50  # collections of the middle generation to one of the oldest; Python's own is 10
TOLD = "inferencesh_mcp.told"
"""Where a command finds the environment, flags included."""


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the arguments say and return the exit code, one of `EXIT_CODES`. A server does not return: it exits itself."""
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


def _flags() -> list[click.Parameter]:
    """A flag for each setting but the secrets, which must not stand on a command line."""
    return [_flag(name) for name in FIELDS if name not in SECRETS]


def _flag(name: str) -> click.Option:
    field = FIELDS[name]
    words = name.replace("_", "-")
    switch = field.type is bool
    return click.Option(
        [f"--{words}/--no-{words}" if switch else f"--{words}"], default=None, metavar=None if switch else "…",
        help=f"{field.metadata['about']}  [{PREFIX}{name.upper()}]",
    )  # fmt: skip


def _told(environ: Mapping[str, str], flags: Mapping[str, Any]) -> dict[str, str]:
    """One way in for both: a flag that was given stands in for its variable."""
    given = {f"{PREFIX}{name.upper()}": str(value).lower() if isinstance(value, bool) else value
             for name, value in flags.items() if value is not None}  # fmt: skip
    return {**environ, **given}


def _collect() -> None:
    """Look for garbage from now on (see `__main__`), never in what the start has made, and seldom in what has lived long.

    To look through a thousand live runs takes more than half a second, in which nobody is answered, and finds next to
    nothing: a call that ends leaves some twenty objects to be found.
    """
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], SELDOM)
    gc.enable()


def _traced(settings: Settings) -> Callable[[], None]:
    """Begin to trace where the settings want it; what is returned sends the last of it."""
    if not settings.traces:
        return lambda: None
    try:
        from inferencesh_mcp import traces
    except ImportError as exc:
        raise SettingsError(message="INFERENCE_TRACES needs the extra: install inferencesh-mcp[otel].") from exc
    return traces.configure()


def _listens_on(port: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a command that serves."""
    host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
    kind = click.IntRange(0, 65535)
    chosen = click.option("--port", default=port, show_default=True, type=kind, help="Port; 0 picks a free one.")
    return lambda command: host(chosen(command))


@click.group(
    invoke_without_command=True,
    params=_flags(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"Every option is a variable too. The key is a variable only: {PREFIX}API_KEY.\n\n{EXIT_CODES}",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def _group(context: click.Context, /, **flags: Any) -> None:
    """Run inference.sh apps from any MCP host.

    Without a command it speaks MCP on stdin and stdout, as hosts launch it. To try it with no key: inferencesh-mcp demo
    """
    told = _told(context.obj, flags)
    settings = Settings.from_environ(told)
    if settings.refuse_root and os.name == "posix" and os.geteuid() == 0:
        raise SettingsError(
            message=f"This must not run as root, since {PREFIX}REFUSE_ROOT is set. Give it another user."
        )
    if context.invoked_subcommand:
        context.obj, context.meta[TOLD] = settings, told
        if context.invoked_subcommand != http.name:
            _collect()
        return
    from inferencesh_mcp import logs, stdio
    from inferencesh_mcp.app import build

    logs.configure(settings, sys.stderr)
    end_traces = _traced(settings)
    server = build(settings)
    _collect()
    stdio.serve(server, at_end=end_traces)


@_group.command()
@_listens_on(8000)
@click.pass_obj
def http(settings: Settings, host: str, port: int) -> None:
    """Serve MCP on /mcp for many. They bring keys of their own, unless INFERENCE_HTTP_AUTH says otherwise."""
    from inferencesh_mcp import logs
    from inferencesh_mcp.app import build
    from inferencesh_mcp.ending import exit_now
    from inferencesh_mcp.flows.stopping import Stopping
    from inferencesh_mcp.web.serving import serve

    logs.configure(settings, sys.stderr)
    end_traces = _traced(settings)
    stopping = Stopping()
    server = build(settings, stopping=stopping)
    _collect()
    try:
        code = serve(
            server,
            settings,
            stopping,
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
    """Make a token for a caller of `http`: shown once, and kept by the server as a hash."""
    from inferencesh_mcp.settings.kinds import TOKEN
    from inferencesh_mcp.web import tokens

    made = tokens.mint()
    line = tokens.line(name, made)
    if not TOKEN.fullmatch(line):
        raise SettingsError(message="NAME must be 1 to 64 letters, digits, or any of . _ @ -")
    click.echo(made)
    click.echo(
        f"Give this token to {name}, and the server the line below: who calls tools, in INFERENCE_HTTP_TOKENS", err=True
    )
    click.echo("or its file; who reads /metrics alone, in INFERENCE_METRICS_TOKENS.", err=True)
    click.echo(line, err=True)


@_group.command()
@_listens_on(8787)
@click.pass_obj
def sandbox(settings: Settings, host: str, port: int) -> None:
    """Serve the embedded inference.sh alone. Any key that begins with inf_ works."""
    from contextlib import AsyncExitStack

    import anyio

    from inferencesh_mcp import logs
    from inferencesh_mcp.sandbox import Sandbox, serving
    from inferencesh_mcp.web.serving import cannot_listen

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            try:
                url = await stack.enter_async_context(serving(Sandbox(), host=host, port=port))
            except OSError as exc:
                raise cannot_listen(host, port, exc) from exc
            click.echo(f"sandbox ready at {url}", err=True)
            await anyio.sleep_forever()

    logs.configure(settings, sys.stderr)
    anyio.run(serve)


@_group.command()
@click.option(
    "--to", type=click.Path(file_okay=False), default=None, help="Folder for the pictures; default: a new one."
)
def demo(to: str | None) -> int:
    """Show it all, with no key and no network: a real host, this server, a picture in and a picture out."""
    from inferencesh_mcp.demo import show

    if to:  # the server would refuse it too, but without a person to say so to
        Settings.from_environ({f"{PREFIX}SAVE_DIR": os.path.abspath(to)})  # noqa: PTH100 - links stay as they are
    return show(to, sys.stdout, width=os.get_terminal_size().columns if sys.stdout.isatty() else None)


@_group.command()
@click.argument("host", type=click.Choice(HOSTS))
@click.option("--http", "url", default=None, metavar="URL", help="A server that runs elsewhere, instead of this one.")
@click.option("--sign-in", is_flag=True, help="With --http: no key goes in, you sign in there (OAuth).")
@click.option("--name", default="inference", show_default=True, help="What the host shall call it.")
@click.option("--print", "only_show", is_flag=True, help="Only show what would be written, and where.")
@click.pass_context
def install(context: click.Context, host: str, url: str | None, sign_in: bool, name: str, only_show: bool) -> None:
    """Write this server into a host's configuration, with the settings given here.

    Everything else in the file stays, and a backup beside it. Your key goes in by the host's own means for secrets,
    where it has one.
    """
    from inferencesh_mcp.hosts.commanding import install, show

    do = show if only_show else install
    do(host, name, url, sign_in=sign_in, program=sys.executable, platform=sys.platform, environ=context.meta[TOLD])


@_group.command()
@click.argument("host", type=click.Choice(HOSTS))
@click.option("--name", default="inference", show_default=True, help="What the host calls it.")
@click.pass_context
def uninstall(context: click.Context, host: str, name: str) -> None:
    """Take this server out of a host's configuration again."""
    from inferencesh_mcp.hosts.commanding import uninstall

    uninstall(host, name, platform=sys.platform, environ=context.meta[TOLD])


@_group.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> int:
    """Check what stands between here and a first run, and say what to do about it."""
    from inferencesh_mcp.doctor import examine
    from inferencesh_mcp.hosts import Machine

    machine = Machine.this(sys.platform, context.meta[TOLD])
    return examine(context.obj, machine, sys.stdout, as_json=as_json)
