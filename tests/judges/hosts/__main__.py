"""Let real hosts judge the server: `python -m tests.judges.hosts [HOST...]`, and a table at the end.

Each host comes from npm, reads the configuration that our `install` wrote into a home of its own, and is driven by a
scripted model on this machine. It is judged by what it sends to its model, and by the ledger of a sandbox that stands for
inference.sh: that is a process apart from the server, so that what becomes of a run is seen after the host is gone.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

import anyio
from anyio.abc import Process

from inferencesh_mcp.hosts.catalogue import Machine, process_of
from inferencesh_mcp.hosts.catalogue import table as table_of
from inferencesh_mcp.hosts.install import entry_of, host_named
from inferencesh_mcp.server import TOOLS
from inferencesh_sandbox import Ledger, serving
from tests.judges import npm
from tests.judges.hosts.drivers import DRIVERS, GEMINI_CLI, NAME, Driver, Place
from tests.judges.hosts.scripted_model import DONE, Call, ScriptedModel, scripted_model
from tests.manifests import FOLDER, UVX, commands
from tests.support.sandbox import Sandbox

HERE = Path(__file__).parent
PACKAGES = Path(sys.prefix) / "judges" / "hosts"
KEY = "inf_hosts_judge"
OURS = frozenset(definition.function.__name__ for definition in TOOLS)
LIMIT = 120
"""Seconds for one conversation: a host takes 5 to 15 to start, alone on the machine."""
CANCEL_LIMIT = 30
"""Seconds from the signal to the cancelled run."""
MESSAGE = "out of paint, as asked"
DRAW = Call("app_run", {"app": "sandbox/draw", "input": {"prompt": "a kite"}})
FAIL = Call("app_run", {"app": "sandbox/fail", "input": {"message": MESSAGE}})
LAST_LONG = Call("app_run", {"app": "sandbox/slow", "input": {"seconds": 600}})
COMPLETED, FAILED, CANCELLED = 10, 11, 12
COLUMNS = ("connected", "tools", "picture", "failing", "cancelled", "its own line")


class Judgement:
    """What is known of one host, by column of the table."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.cells: dict[str, str] = {}
        self.failures: list[str] = []

    def check(self, column: str, look: Callable[[], str]) -> None:
        """Put down what was seen, or that it was not right and why."""
        try:
            self.cells[column] = look()
        except Exception as exc:  # noqa: BLE001 - whatever is not as expected is the result
            self.fail(column, "".join(traceback.format_exception(exc, limit=-1)))

    def fail(self, column: str, why: str) -> None:
        self.cells[column] = "FAILED"
        self.failures.append(f"{self.driver.title}, {column}: {why.strip()[-2000:]}")


class Session:
    """One host with a home of its own, its model, and the sandbox."""

    def __init__(self, driver: Driver, place: Place, model: ScriptedModel, ledger: Ledger, upstream: str) -> None:
        self.driver = driver
        self.place = place
        self.model = model
        self.ledger = ledger
        self._upstream = upstream
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(place.home),
            "INFERENCE_API_KEY": KEY,
            "NO_PROXY": "127.0.0.1",
            **driver.environ(place),
        }

    async def install(self, *, sandbox: bool = False) -> None:
        """Have our own command write the configuration, beside what the host's user has in it.

        With `sandbox` as for whoever tries it without a key; else for the sandbox whose ledger is read here.
        """
        command = [sys.executable, "-m", "inferencesh_mcp", "install", self.driver.installed_as, f"--name={NAME}"]
        command.append("--sandbox" if sandbox else f"--base-url={self._upstream}")
        done = await anyio.run_process(command, env=self._environ, stdin=DEVNULL, stderr=STDOUT, check=False)
        assert done.returncode == 0, done.stdout.decode()

    async def run(self, command: list[str]) -> str:
        """Run the host to its end; returns all that it wrote."""
        written = b""
        async with self._started(command) as process:
            assert process.stdout
            with anyio.move_on_after(LIMIT):
                async for part in process.stdout:
                    written += part
                await process.wait()
        return written.decode(errors="replace")

    async def interrupt(self, command: list[str], once: Callable[[], object], until: Callable[[], object]) -> None:
        """Send Ctrl-C's signal to the host alone, once this is so, and wait until that is."""
        async with self._started(command) as process, anyio.create_task_group() as group:
            group.start_soon(_drain, process)
            with anyio.fail_after(LIMIT):
                await _until(once)
            process.send_signal(signal.SIGINT)
            with anyio.fail_after(CANCEL_LIMIT):
                await _until(until)
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def _started(self, command: list[str]) -> AsyncIterator[Process]:
        """The host in a group of processes of its own, which ends with the block."""
        process = await anyio.open_process(
            command,
            cwd=self.place.work,
            env=self._environ,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        async with process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):  # it has ended
                    os.killpg(process.pid, signal.SIGKILL)


async def _drain(process: Process) -> None:
    assert process.stdout
    async for _ in process.stdout:
        pass


async def _until(true: Callable[[], object]) -> None:
    while not true():
        await anyio.sleep(0.1)


@asynccontextmanager
async def session(driver: Driver, packages: Path, *script: Call) -> AsyncIterator[Session]:
    """A host that is set up, and has done nothing yet."""
    sandbox = Sandbox()
    with tempfile.TemporaryDirectory() as folder, scripted_model(*script) as model:
        place = Place(packages, Path(folder, "home"), Path(folder, "work"), model.url)
        place.home.mkdir()
        place.work.mkdir()
        async with serving(sandbox) as upstream:
            driver.prepare(place)
            yield Session(driver, place, model, sandbox.ledger, upstream)


def status_of(ledger: Ledger, task_id: str) -> int:
    return next(change.status for change in reversed(ledger.changes) if change.task_id == task_id)


async def judge(driver: Driver, packages: Path) -> Judgement:
    judgement = Judgement(driver)
    for part, columns in (
        (judge_answers, COLUMNS[:4]),
        (judge_cancelling, COLUMNS[4:5]),
        (judge_own_line, COLUMNS[5:]),
    ):
        try:
            await part(judgement, packages)
        except Exception as exc:  # noqa: BLE001 - a host that cannot be driven is a result as well
            for column in columns:
                if column not in judgement.cells:
                    judgement.fail(column, "".join(traceback.format_exception(exc, limit=-2)))
    return judgement


async def judge_answers(judgement: Judgement, packages: Path) -> None:
    """It connects, lists, and runs two apps in one conversation."""
    driver = judgement.driver
    async with session(driver, packages, DRAW, FAIL) as host:
        await host.install(sandbox=True)
        health = await host.run([*driver.program(host.place), "mcp", "list"])
        await host.install()
        written = await host.run(driver.turn(host.place))

        def connected() -> str:
            assert re.search(rf"{NAME}\b.*{driver.connected}", health), health
            return "yes" if driver.connected else "listed"

        def tools() -> str:
            listed = {name for name in OURS for tool in host.model.tools if tool.is_named(name)}
            assert listed == OURS, f"missing: {sorted(OURS - listed)}\n{written}"
            return f"{len(listed)} of {len(OURS)}"

        def picture() -> str:
            drawn = [start.task_id for start in host.ledger.starts if start.app == "sandbox/draw"]
            assert len(drawn) == 1, f"{len(drawn)} runs\n{written}"
            assert status_of(host.ledger, drawn[0]) == COMPLETED
            shown = host.model.results[0]
            assert drawn[0] in shown, shown
            assert re.search(r"http://127\.0\.0\.1:\d+/\S+?\.png", shown), shown
            whole = str([request.body for request in host.model.requests])
            return "address and pixels" if "iVBORw0KGgo" in whole else "address"

        def failing() -> str:
            failed = [start.task_id for start in host.ledger.starts if start.app == "sandbox/fail"]
            assert len(failed) == 1, f"{len(failed)} runs\n{written}"
            assert status_of(host.ledger, failed[0]) == FAILED
            shown = host.model.results[1]
            assert failed[0] in shown, shown
            assert MESSAGE in shown, shown
            assert DONE in written, f"the conversation did not end:\n{written}"
            return "id and reason"

        for column, seen in zip(COLUMNS, (connected, tools, picture, failing), strict=False):
            judgement.check(column, seen)


async def judge_cancelling(judgement: Judgement, packages: Path) -> None:
    """Ctrl-C while a run is on: it is cancelled, and nothing else was started."""
    driver = judgement.driver
    async with session(driver, packages, LAST_LONG) as host:
        await host.install()
        ledger = host.ledger

        def is_on() -> bool:
            return any(start.app == "sandbox/slow" for start in ledger.starts)

        def is_cancelled() -> bool:
            return bool(ledger.cancels) and status_of(ledger, ledger.cancels[0].task_id) == CANCELLED

        await host.interrupt(driver.turn(host.place), once=is_on, until=is_cancelled)
        assert len(ledger.starts) == len(ledger.cancels) == 1, ledger.starts
        judgement.cells["cancelled"] = "yes"


async def judge_own_line(judgement: Judgement, packages: Path) -> None:
    """The host's line on the README adds what `install` would, but for the key's place."""
    driver = judgement.driver
    if not driver.adds_as:
        return
    async with session(driver, packages) as host:
        [line] = [line for line in commands().splitlines() if line.startswith(f"{driver.adds_as} ")]
        written = await host.run(
            ["sh", "-c", shlex.join(driver.program(host.place)) + line.removeprefix(driver.adds_as)]
        )
        entry = entry_of(host_named(driver.installed_as), NAME, Machine("linux", host.place.home, {}))
        words, variables = process_of(table_of(entry))
        assert words == [UVX.command, *UVX.args], written
        assert "INFERENCE_API_KEY" in variables, written
        if driver is GEMINI_CLI:  # our extension for it, by its own judge
            judged = await host.run([*driver.program(host.place), "extensions", "validate", str(FOLDER)])
            assert "successfully validated" in judged, judged
        judgement.cells["its own line"] = "yes"


def table(judgements: list[Judgement]) -> str:
    rows = [("host", *COLUMNS)]
    rows += [(judged.driver.title, *(judged.cells.get(column, "-") for column in COLUMNS)) for judged in judgements]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


async def main(names: list[str]) -> int:
    packages = npm.install(HERE, PACKAGES)
    judgements = []
    for driver in DRIVERS:
        if not names or driver.title in names:
            print(f"{driver.title} …", file=sys.stderr, flush=True)  # noqa: T201
            judgements.append(await judge(driver, packages))
    failures = [failure for judgement in judgements for failure in judgement.failures]
    for failure in failures:
        print(f"\n# {failure}", file=sys.stderr)  # noqa: T201
    print(table(judgements))  # noqa: T201
    return 1 if failures or not judgements else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, sys.argv[1:]))
