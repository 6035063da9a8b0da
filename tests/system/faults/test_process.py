"""The process ends when it is told to, with its runs taken care of, and survives its host: rows X-33, X-34."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import cycle, islice
from pathlib import Path

import anyio
import pytest

from tests.conftest import Upstream, on_stdio, until
from tests.support.faults import Stall, Status, Swallow
from tests.support.systems import EXIT_CODES, PAGE, POSIX, SIGNALS, small_pipe, stop
from tests.system.faults.process import HELLO, Piped, piped
from tests.system.threats.fuzzing import MALFORMED

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("fresh")]
LONG = {"seconds": 60, "steps": 60}
FIRST, *MORE = SIGNALS
STOPPED = EXIT_CODES[FIRST.name]
Started = Callable[..., AbstractAsyncContextManager[Piped]]


@pytest.fixture
def server(environ: dict[str, str], tmp_path: Path) -> Started:
    """`async with server(INFERENCE_ON_CANCEL="keep") as pipe:`."""

    def started(
        *arguments: str, reading: bool = True, stdout: int = subprocess.PIPE, stderr: int | None = None,
        command: tuple[str, ...] = (), **changed: str,
    ) -> AbstractAsyncContextManager[Piped]:  # fmt: skip
        return piped(
            environ | changed, tmp_path / "stderr", reading=reading, arguments=arguments, stdout=stdout, stderr=stderr,
            command=command,
        )  # fmt: skip

    return started


async def running(pipe: Piped, upstream: Upstream, count: int, before: int = 0) -> None:
    """Have so many runs under way, whose ids are known here and there; `before` it there were others."""
    await pipe.greet()
    for number in range(count):
        await pipe.run(number, "slow", **LONG)
    streams = before + count
    await until(lambda: len(upstream.sandbox.ledger.requests("GET", "/tasks/*/stream")) == streams)


def judge(upstream: Upstream, pipe: Piped, *, starts: int, cancels: int) -> None:
    ledger, log = upstream.sandbox.ledger, pipe.log.read_text(encoding="utf-8")
    assert (starts, cancels) == (len(ledger.starts), len(ledger.cancels)), log[-2000:]
    assert len({cancel.task_id for cancel in ledger.cancels}) == cancels
    assert not [start for start in ledger.starts if start.task_id not in log], "I-2: each id is in the log"
    assert pipe.messages is not None, "I-12: nothing but JSON came out"


@pytest.mark.fault("X-34")
@pytest.mark.finding("F22")
@pytest.mark.parametrize(
    ("kind", "runs"),
    [(FIRST, 0), (FIRST, 50), *((kind, 1) for kind in MORE)],
)
async def test_a_signal_cancels_the_runs_and_ends_the_process(
    server: Started, upstream: Upstream, kind: signal.Signals, runs: int
) -> None:
    """Each run is cancelled upstream, its id is in the log, and the process is gone within ten seconds."""
    async with server(INFERENCE_MAX_CONCURRENT_RUNS="60") as pipe:
        await running(pipe, upstream, runs)
        await stop(pipe.process, kind)

        assert await pipe.over() == EXIT_CODES[kind.name]
    judge(upstream, pipe, starts=runs, cancels=runs)


@pytest.mark.finding("S2")
@pytest.mark.parametrize(("kind", "others"), [(FIRST, 9), *((kind, 1) for kind in MORE)])
async def test_more_signals_do_not_stop_the_cleanup(
    server: Started, upstream: Upstream, kind: signal.Signals, others: int
) -> None:
    """They come while the runs are being cancelled; all thirty are cancelled, and the code is the first signal's."""
    gate = upstream.sandbox.faults.hold("POST", "/tasks/*/cancel")
    async with server() as pipe:
        await running(pipe, upstream, 30)
        await stop(pipe.process, kind)
        await gate.reached.wait()
        await stop(pipe.process, *islice(cycle(SIGNALS), others))
        await until(lambda: "the shutdown is under way" in pipe.log.read_text(encoding="utf-8"))
        gate.release()

        assert await pipe.over() == EXIT_CODES[kind.name]
    judge(upstream, pipe, starts=30, cancels=30)


@pytest.mark.finding("S2")
async def test_a_second_signal_does_not_lose_the_ids_of_runs_that_go_on(server: Started, upstream: Upstream) -> None:
    async with server(INFERENCE_ON_CANCEL="keep") as pipe:
        await running(pipe, upstream, 30)
        await stop(pipe.process, FIRST, FIRST)

        assert await pipe.over() == STOPPED
    judge(upstream, pipe, starts=30, cancels=0)


@POSIX
@pytest.mark.finding("F22")
async def test_a_server_under_nohup_ignores_a_hangup(server: Started) -> None:
    async with server(command=("nohup",)) as pipe:
        await pipe.greet()
        pipe.process.send_signal(signal.SIGHUP)
        await pipe.run("after", "echo", n=1)
        assert "result" in await pipe.answered("after")
        await pipe.close()
        assert await pipe.over() == 0


@pytest.mark.finding("S14")
async def test_a_host_that_does_not_read_stderr_does_not_stop_the_server(server: Started, upstream: Upstream) -> None:
    """Its pipe is full after a few lines of DEBUG. Calls are answered as before, and a signal cancels what runs and ends it."""
    mine, its = small_pipe()
    async with server(stderr=its) as pipe:
        os.close(its)
        await running(pipe, upstream, 3)
        for number in range(100):
            call = {"name": "task_list", "arguments": {"cursor": "x" * 2000}}
            await pipe.send({"id": f"call {number}", "method": "tools/call", "params": call})
        await pipe.send({"id": "last", "method": "tools/list"})
        await pipe.answered("last")
        await until(lambda: all(pipe.answers(f"call {number}") for number in range(100)))
        await stop(pipe.process)

        assert await pipe.over() == STOPPED
    output = b""
    while chunk := os.read(mine, 65536):
        output += chunk
    os.close(mine)
    assert len(output) > PAGE - 200, "the pipe was full"
    assert (3, 3) == (len(upstream.sandbox.ledger.starts), len(upstream.sandbox.ledger.cancels))


@pytest.mark.fault("X-33")
@pytest.mark.parametrize(("policy", "cancels"), [("cancel", 1), ("keep", 0)])
async def test_a_host_that_closes_stdin_during_a_run_ends_the_process(
    server: Started, upstream: Upstream, policy: str, cancels: int
) -> None:
    """End of input: the operator's choice is carried out, and the process ends."""
    async with server(INFERENCE_ON_CANCEL=policy) as pipe:
        await running(pipe, upstream, 1)
        await pipe.close()

        assert 0 == await pipe.over()
    judge(upstream, pipe, starts=1, cancels=cancels)


@pytest.mark.fault("X-33")
async def test_a_host_that_closes_stdout_ends_the_process(server: Started, upstream: Upstream) -> None:
    """With the next word that cannot be said, its run is cancelled, and the process ends without a traceback."""
    mine, its = os.pipe()
    async with server(reading=False, stdout=its) as pipe:
        os.close(its)
        await pipe.send({"id": 0, "method": "initialize", "params": HELLO}, {"method": "notifications/initialized"})
        await pipe.run(1, "slow", **LONG)
        await until(lambda: upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))
        os.close(mine)

        assert 0 == await pipe.over()
    judge(upstream, pipe, starts=1, cancels=1)
    assert "Traceback" not in pipe.log.read_text(encoding="utf-8")


@pytest.mark.fault("X-35")
async def test_a_run_of_a_killed_process_is_listed_and_not_adopted(server: Started, upstream: Upstream) -> None:
    """Nobody is left to cancel it, or to know of it: the same call is a second start, and the first task is there to see."""
    async with server() as pipe:
        await running(pipe, upstream, 1)
        pipe.process.kill()
        await pipe.over()
    (first,) = upstream.sandbox.ledger.starts

    async with server() as pipe:
        await running(pipe, upstream, 1, before=1)
        await pipe.send({"id": "list", "method": "tools/call", "params": {"name": "task_list", "arguments": {}}})
        listed = (await pipe.answered("list"))["result"]["structuredContent"]["tasks"]
        await pipe.close()
        assert 0 == await pipe.over()

    _, second = upstream.sandbox.ledger.starts
    assert {first.task_id, second.task_id} == {task["task_id"] for task in listed}
    assert [second.task_id] == [cancel.task_id for cancel in upstream.sandbox.ledger.cancels]


@pytest.mark.fault("X-34")
@pytest.mark.parametrize("lost", [False, True])
async def test_the_shutdown_waits_for_a_start_request(server: Started, upstream: Upstream, lost: bool) -> None:
    """The signal comes between request and reply: the task's id is still learned, or looked for, and cancelled."""
    gate = upstream.sandbox.faults.hold("POST", "/apps/run")
    if lost:
        upstream.sandbox.faults.add(Swallow(), path="/apps/run")
    async with server() as pipe:
        await pipe.greet()
        await pipe.run(1, "slow", **LONG)
        await gate.reached.wait()
        await stop(pipe.process)
        with anyio.move_on_after(0.3):  # the process would be gone by then, did it not wait
            await pipe.process.wait()
        gate.release()

        assert await pipe.over() == STOPPED
    judge(upstream, pipe, starts=1, cancels=1)


@pytest.mark.fault("X-34")
async def test_a_silent_platform_does_not_delay_the_exit(server: Started, upstream: Upstream) -> None:
    """Neither the start nor a cancel is ever answered: within ten seconds the process has gone all the same."""
    upstream.sandbox.faults.add(Stall(), path="/tasks/*/cancel", times=-1)
    async with server() as pipe:
        await running(pipe, upstream, 1)
        upstream.sandbox.faults.add(Stall(), path="/apps/run", times=-1)
        await pipe.run("stalled", "slow", **LONG)
        await until(lambda: len(upstream.sandbox.ledger.requests("POST", "/apps/run")) == 2)
        await stop(pipe.process)
        await pipe.over()
    judge(upstream, pipe, starts=1, cancels=0)
    assert "may still run" in pipe.log.read_text(encoding="utf-8")


async def test_a_silent_trace_collector_does_not_delay_the_exit(server: Started, upstream: Upstream) -> None:
    """It takes the connection and the last spans, and never answers: the process does not wait a minute for it."""
    with socket.create_server(("127.0.0.1", 0)) as collector:
        otel = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "60",
        }
        async with server(INFERENCE_TRACES="true", **otel) as pipe:
            await running(pipe, upstream, 1)
            await stop(pipe.process)

            assert await pipe.over(within=20) == STOPPED
    judge(upstream, pipe, starts=1, cancels=1)


async def test_a_host_that_does_not_read_stdout_does_not_delay_the_exit(server: Started, upstream: Upstream) -> None:
    """stdout is full and stays so; input ends; the runs are cancelled and the process ends."""
    async with server(reading=False) as pipe:
        await pipe.send({"id": 0, "method": "initialize", "params": HELLO}, {"method": "notifications/initialized"})
        await pipe.run("run", "slow", **LONG)
        for number in range(1, 60):  # each answer is longer than a page of the pipe
            await pipe.send({"id": number, "method": "tools/list"})
        await until(lambda: upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))
        await pipe.close()
        await pipe.over()
    assert 1 == len(upstream.sandbox.ledger.cancels)


ERAS = {
    "2025": {},
    "2026": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "plain", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    },
}


@pytest.mark.parametrize("again", [0, "0"], ids=["same", "as text"])
@pytest.mark.parametrize("era", ERAS)
async def test_a_request_id_in_use_is_refused(server: Started, upstream: Upstream, era: str, again: int | str) -> None:
    """Two requests with one id would both be paid, and their answers could not be told apart. The first can still be
    cancelled by it, and then it is free."""
    async with server() as pipe:
        if era == "2025":
            await pipe.greet()
        await pipe.run(0, "slow", **LONG, meta=ERAS[era])
        await pipe.run(again, "slow", **LONG, meta=ERAS[era])  # before the first has begun
        refused = await pipe.answered(again)
        await until(lambda: upstream.sandbox.ledger.requests("GET", "/tasks/*/stream"))
        await pipe.run(again, "slow", **LONG, meta=ERAS[era])
        await until(lambda: len(pipe.answers(again)) == 2)
        assert not upstream.sandbox.ledger.cancels

        await pipe.send({"method": "notifications/cancelled", "params": {"requestId": 0}})
        await until(lambda: upstream.sandbox.ledger.cancels)
        await pipe.run(0, "echo", n=1, meta=ERAS[era])
        await until(lambda: [answer for answer in pipe.answers(0) if "result" in answer])

        assert "in use" in refused["error"]["message"]
        await pipe.close()
        assert 0 == await pipe.over()
    judge(upstream, pipe, starts=2, cancels=1)


@pytest.mark.fault("X-43")
async def test_the_server_survives_garbage_on_stdin(server: Started, upstream: Upstream) -> None:
    """After each line that is no message, and after all of them, a request is answered; stdout holds JSON alone."""
    async with server() as pipe:
        await pipe.greet()
        for number, line in enumerate(MALFORMED.values()):
            await pipe.send(line)
            await pipe.run(f"after-{number}", "echo", n=number)
            answer = await pipe.answered(f"after-{number}")

            assert {"n": number} == answer["result"]["structuredContent"]["output"], line[:80]
        await pipe.close()
        assert 0 == await pipe.over()
    judge(upstream, pipe, starts=len(MALFORMED), cancels=0)
    assert {"2.0"} == {message["jsonrpc"] for message in pipe.messages}


async def test_a_call_with_half_a_surrogate_pair_is_answered(server: Started) -> None:
    """Hosts cut texts in the middle of an emoji, and JavaScript writes the half as it is."""
    async with server() as pipe:
        await pipe.greet()
        await pipe.run("cut", "echo", text="whole \U0001f600, half \ud83d")
        answer = await pipe.answered("cut")
        await pipe.close()
        assert 0 == await pipe.over()

    assert {"text": "whole \U0001f600, half ?"} == answer["result"]["structuredContent"]["output"]


ODD = r"a\nb\r\nc\u2028d\u2029e\u0085f\u000bg\u0000h\u001b[31mi\ud800j\u202ek"
ODD_TASK = (
    f'{{"id": "t1", "status": 10, "output": {{"text": "{ODD}", "{ODD}": [{"9" * 400}], "frame": '
    r'"\n{\"jsonrpc\": \"2.0\", \"id\": 1, \"result\": {}}\n"}, "error": "' + ODD + '"}'
)


async def test_text_from_an_app_cannot_break_the_frames(server: Started, upstream: Upstream) -> None:
    """Line ends of every kind, lone surrogates, NUL, numbers that JSON has not: one frame a message, all of it JSON."""
    upstream.sandbox.faults.add(Status(code=200, body=ODD_TASK), path="/tasks/t1", times=-1)
    upstream.sandbox.faults.add(
        Status(code=200, body=ODD_TASK.replace('10, "out', '11, "out')), path="/tasks/t2", times=-1
    )
    upstream.sandbox.faults.add(Status(code=200, body=ODD_TASK.replace("[9", "[1e400, -1e400, 9")), path="/tasks/t3")
    async with server() as pipe:
        await pipe.greet()
        for number in (1, 2, 3):
            arguments = {"name": "task_get", "arguments": {"task_id": f"t{number}"}}
            await pipe.send({"id": number, "method": "tools/call", "params": arguments})
            await pipe.answered(number)
        await pipe.close()
        assert 0 == await pipe.over()
    assert [1, 1, 1] == [len(pipe.answers(number)) for number in (1, 2, 3)]
    assert all("result" in message for message in pipe.messages)
    shown, _, refused = (pipe.answers(number)[0]["result"]["structuredContent"] for number in (1, 2, 3))
    assert ("h\ufffd[31mi?j\ufffd", "upstream_error") == (shown["output"]["text"][-11:-1], refused["error"]["code"])
    assert not [line for line in pipe.lines if b"\x1b" in line or b"\\u001b" in line]


NOISY = """
import os, socket, subprocess, sys

def speak(event, arguments):
    if event == "socket.__new__" and arguments[3] == socket.IPPROTO_TCP:
        print("a library prints", flush=True)
        os.write(1, b"somebody writes to descriptor 1\\n")
        subprocess.run([sys.executable, "-c", "print('a child speaks')"], check=True)

sys.addaudithook(speak)
from inferencesh_mcp.__main__ import main
sys.exit(main())
"""


@pytest.mark.fault("X-44")
async def test_prints_of_other_code_do_not_reach_stdout(server: Started, upstream: Upstream) -> None:
    """A library, a bare write and a child, each time that a connection is made: what comes out is frames alone."""
    async with server("-c", NOISY) as pipe:
        await pipe.greet()
        await pipe.run(1, "echo", n=1)
        assert {"n": 1} == (await pipe.answered(1))["result"]["structuredContent"]["output"]
        await pipe.close()
        assert 0 == await pipe.over()
    judge(upstream, pipe, starts=1, cancels=0)
    assert {"2.0"} == {message["jsonrpc"] for message in pipe.messages}
    log = pipe.log.read_text(encoding="utf-8")
    assert all(noise in log for noise in ("a library prints", "somebody writes", "a child speaks"))


async def test_a_short_message_does_not_overtake_a_long_one(server: Started) -> None:
    """Two answers, the first too long to be written while everything waits, come as they were given."""
    async with server() as pipe:
        await pipe.greet()
        await pipe.send({"id": "x" * 9000, "method": "ping"}, {"id": "short", "method": "ping"})
        await pipe.answered("short")
        await pipe.close()
        assert 0 == await pipe.over()
    assert ["x" * 9000, "short"] == [message["id"] for message in pipe.messages][-2:]


@POSIX
@pytest.mark.parametrize("closed", ["<&-", ">&-"])
async def test_the_server_does_not_start_without_stdin_or_stdout(environ: dict[str, str], closed: str) -> None:
    parameters = on_stdio(environ)
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", parameters.command, *parameters.args]
    process = await anyio.run_process(shell, env=parameters.env, check=False)
    assert (2, b"needs stdin and stdout" in process.stderr) == (process.returncode, True)


@POSIX
async def test_a_closed_stderr_does_not_stop_the_server(server: Started) -> None:
    async with server(command=("sh", "-c", 'exec "$@" 2>&-', "sh")) as pipe:
        await pipe.greet()
        await pipe.run(1, "echo", n=1)
        assert "result" in await pipe.answered(1)
        await pipe.close()
        assert await pipe.over() == 0


async def test_end_of_input_before_the_first_message_ends_the_process(server: Started) -> None:
    async with server() as pipe:
        await pipe.close()
        assert 0 == await pipe.over(within=30)  # the start included
    assert [] == pipe.lines
