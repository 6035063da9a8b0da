"""What Prometheus reads: counts and times, for readers with a token, and nothing that tells on anybody."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import anyio
import pytest

from inferencesh_mcp.errors import InferenceError
from inferencesh_mcp.http import tokens
from inferencesh_sandbox import serving
from tests.conftest import until
from tests.http.asking import ERAS, Face, envelope, facing, message_of
from tests.http.conftest import THEIRS
from tests.support.faults import Status
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.anyio

READER = tokens.mint()


@pytest.fixture
async def counted() -> AsyncIterator[Face]:
    sandbox = Sandbox()
    async with (
        serving(sandbox) as url,
        facing({"INFERENCE_BASE_URL": url, "INFERENCE_METRICS_TOKENS": tokens.line("prometheus", READER)}, sandbox,
               {"authorization": f"Bearer {THEIRS}"}) as face,
    ):  # fmt: skip
        yield face


async def read(face: Face) -> dict[str, float]:
    response = await face.http.get(f"{face.url}/metrics", headers={"authorization": f"Bearer {READER}"})
    assert (200, True) == (response.status_code, response.headers["content-type"].startswith("text/plain"))
    assert THEIRS not in response.text
    found = re.findall(r"^(inferencesh\w+(?:\{[^}]*\})?) (\S+)$", response.text, re.MULTILINE)
    return {name: float(value) for name, value in found}


@pytest.mark.parametrize("era", ERAS)
async def test_calls_are_counted_by_tool_and_how_they_ended(counted: Face, era: str) -> None:
    await counted.call("app_run", era, app="sandbox/echo", input={})
    await counted.call("app_run", era, app="sandbox/echo", inputs={})
    await counted.call("task_get", era, task_id="t" * 26)
    await counted.ask("tools/call", era, name=f"made_up_{THEIRS}", arguments={})
    await counted.ask("tools/list", era)

    told = await read(counted)

    calls = {name: value for name, value in told.items() if name.startswith("inferencesh_calls_total")}
    assert {
        'inferencesh_calls_total{outcome="ok",tool="app_run"}': 1,
        'inferencesh_calls_total{outcome="invalid_input",tool="app_run"}': 1,
        'inferencesh_calls_total{outcome="not_found",tool="task_get"}': 1,
        'inferencesh_calls_total{outcome="failed",tool="other"}': 1,
    } == calls
    assert (1, 2) == (told["inferencesh_runs_total"], told['inferencesh_call_seconds_count{tool="app_run"}'])


async def test_live_runs_and_upstream_failures_are_counted(counted: Face) -> None:
    before = await read(counted)
    counted.sandbox.faults.add(Status(code=503), path="/apps/**", times=1)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: counted.call("app_run", app="sandbox/slow", input={"seconds": 30, "steps": 2}))
        await until(lambda: counted.sandbox.ledger.starts)
        during = await read(counted)
        group.cancel_scope.cancel()
    with anyio.fail_after(10):
        while (after := await read(counted))["inferencesh_open_requests"]:
            await anyio.sleep(0.02)

    names = ("inferencesh_live_runs", "inferencesh_open_requests")
    assert [(0, 0), (1, 1), (0, 0)] == [tuple(one[name] for name in names) for one in (before, during, after)]
    assert 1 == during['inferencesh_upstream_errors_total{code="unavailable"}']
    assert 1 == after['inferencesh_calls_total{outcome="cancelled",tool="app_run"}']


async def test_a_pinned_app_is_counted_by_the_name_of_its_tool() -> None:
    sandbox = Sandbox()
    environ = {"INFERENCE_METRICS_TOKENS": tokens.line("prometheus", READER), "INFERENCE_PIN": "echo=sandbox/echo"}
    async with (
        serving(sandbox) as url,
        facing(environ | {"INFERENCE_BASE_URL": url}, sandbox, {"authorization": f"Bearer {THEIRS}"}) as face,
    ):
        await face.call("app_list")
        await face.call("echo")

        assert 1 == (await read(face))['inferencesh_calls_total{outcome="ok",tool="echo"}']


@pytest.mark.parametrize("headers", [{}, {"authorization": f"Bearer {THEIRS}"}, {"authorization": f"Basic {READER}"},
                                     {"authorization": f"Bearer {READER}x"}], ids=["none", "a caller's", "basic", "nearly"])  # fmt: skip
async def test_the_metrics_need_a_metrics_token(counted: Face, headers: dict[str, str]) -> None:
    response = await counted.http.get(f"{counted.url}/metrics", headers=headers)

    assert (401, False) == (response.status_code, "inferencesh" in response.text)


async def test_a_metrics_token_admits_no_calls(counted: Face) -> None:
    assert 401 == (await counted.ask(headers={"authorization": f"Bearer {READER}"})).status_code


async def test_no_label_takes_a_value_from_a_caller(counted: Face) -> None:
    """Every series there can be: tools by outcomes that the code knows."""
    for number in range(20):
        await counted.ask("tools/call", name=f"tool{number}", arguments={})

    told = await read(counted)

    assert 1 == len([name for name in told if name.startswith("inferencesh_calls_total")])
    assert len(set(_codes(InferenceError))) < 40


def _codes(kind: type[InferenceError]) -> list[str]:
    return [kind.code, *(code for one in kind.__subclasses__() for code in _codes(one))]


@pytest.mark.finding("S14")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", [[], {}, 5, None])
async def test_an_invalid_tool_name_is_a_protocol_error(
    counted: Face, era: str, name: object, caplog: pytest.LogCaptureFixture
) -> None:
    headers, message = envelope("tools/call", era, arguments={})
    told = json.loads(message)
    told["params"]["name"] = name

    response = await counted.http.post(
        f"{counted.url}/mcp", headers={**headers, **counted.headers, "mcp-name": "x"}, content=json.dumps(told)
    )

    assert "error" in message_of(response)
    assert [] == [record for record in caplog.records if record.exc_info]
