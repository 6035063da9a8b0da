"""`doctor`: what it checks, and how it reports what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from anyio import to_thread

from tests.conftest import KEY, Upstream
from tests.support.faults import Status
from tests.test_cli import call


def test_doctor_asks_for_a_key_and_says_where_to_get_one() -> None:
    result = call("doctor")

    assert 1 == result.returncode
    assert "failure  key: INFERENCE_API_KEY is not set" in result.stdout
    assert "https://inference.sh" in result.stdout


@pytest.mark.anyio
async def test_doctor_reports_a_good_installation(upstream: Upstream, environ: dict[str, str], tmp_path: Path) -> None:
    """And what programs read has a stable shape."""
    pins = {"INFERENCE_PIN": "sandbox/echo, mine=sandbox/gone"}
    result = await to_thread.run_sync(lambda: call("doctor", "--json", HOME=str(tmp_path), **environ | pins))

    assert 0 == result.returncode, result.stdout
    report = json.loads(result.stdout)
    assert (True, {"ok", "findings"}) == (report["ok"], report.keys())
    assert all({"check", "verdict", "found", "do"} == finding.keys() for finding in report["findings"])
    findings = {finding["check"]: finding["verdict"] for finding in report["findings"]}
    checks = ("versions", "settings", "api", "key", "clock", "save folder", "host")
    assert dict.fromkeys(checks, "ok") | {"pin": "warning"} == findings
    pinned = [finding["found"] for finding in report["findings"] if finding["check"] == "pin"]
    assert "sandbox/echo is the tool echo" == pinned[0]
    assert pinned[1].startswith("sandbox/gone cannot be the tool mine: ")
    assert KEY not in result.stdout + result.stderr


@pytest.mark.anyio
async def test_a_refused_key_is_a_failure(upstream: Upstream, environ: dict[str, str]) -> None:
    result = await to_thread.run_sync(lambda: call("doctor", **environ | {"INFERENCE_API_KEY": "sk-other"}))

    assert 1 == result.returncode
    assert "ok       api:" in result.stdout
    assert "failure  key:" in result.stdout
    assert "does not begin with inf_" in result.stdout
    assert "sk-other" not in result.stdout + result.stderr


@pytest.mark.anyio
@pytest.mark.finding("S1")
async def test_a_key_of_the_newer_form_is_accepted_as_a_key(upstream: Upstream, environ: dict[str, str]) -> None:
    key = "1nfsh-01jxq7w3tdk5m8v2zr9e4hbgnc"
    upstream.sandbox.faults.add(Status(code=401, body=f'{{"detail": "{key} is unknown"}}'), times=-1)
    result = await to_thread.run_sync(lambda: call("doctor", **environ | {"INFERENCE_API_KEY": key}))

    assert "failure  key:" in result.stdout
    assert "does not begin with" not in result.stdout
    assert key not in result.stdout + result.stderr


def test_an_unreachable_api_is_a_failure() -> None:
    result = call("doctor", INFERENCE_API_KEY="inf_k", INFERENCE_BASE_URL="http://127.0.0.1:1")

    assert 1 == result.returncode
    assert "failure  api: http://127.0.0.1:1" in result.stdout
    assert re.search(r"\(.*(Connect call failed|WinError 1225)", result.stdout), "what the system said"


def test_contradictory_settings_are_a_failure() -> None:
    result = call("doctor", INFERENCE_SANDBOX="true", INFERENCE_PIN="app_run=sandbox/echo")

    assert 1 == result.returncode
    assert 'failure  settings: INFERENCE_PIN has a tool called "app_run"' in result.stdout


def test_settings_that_stop_http_are_a_warning() -> None:
    result = call("doctor", INFERENCE_SANDBOX="true", INFERENCE_HTTP_AUTH="tokens")

    assert 0 == result.returncode, "what a host starts runs all the same"
    assert "warning  http settings: INFERENCE_HTTP_TOKENS or" in result.stdout


def test_a_missing_folder_is_a_warning(tmp_path: Path) -> None:
    result = call("doctor", INFERENCE_SANDBOX="true", INFERENCE_ALLOWED_DIRS=str(tmp_path / "gone"))

    assert 0 == result.returncode
    assert "warning  allowed folder" in result.stdout
