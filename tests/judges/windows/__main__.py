"""Let Windows judge the product: `python -m tests.judges.windows [PYTEST ARGUMENT...]`.

The product is installed from its wheel in a real CPython for Windows, under Wine (`machine.sh`). It runs the commands that a
person runs first, and then the tests of TESTS, or only what the arguments name. `README.md` says what Wine cannot show.

The machine is made once, in the folder WINDOWS_DIR (a user who is not root must be able to enter it), and used by one at a time.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inferencesh_mcp.cli import HOSTS

PROJECT = Path(__file__).parents[3]
CACHE = Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache"
FOLDER = Path(os.environ.get("WINDOWS_DIR") or CACHE / "inferencesh-mcp" / "windows")
DRIVE = FOLDER / "home" / "prefix" / "drive_c"
TESTS = (
    "tests/test_settings.py", "tests/test_cli.py", "tests/test_doctor.py", "tests/test_encodings.py", "tests/test_errors.py",
    "tests/test_pins.py", "tests/test_prompts.py", "tests/flows", "tests/install", "tests/api/test_http_client.py",
    "tests/tools/test_files.py", "tests/tools/test_apps_run.py", "tests/tools/test_apps_get.py",
    "tests/tools/test_spend_limit.py", "tests/tools/test_truncate.py",
    "tests/system/threats/test_disk.py", "tests/system/threats/test_saving.py", "tests/system/threats/test_tickets.py",
    "tests/system/faults/test_uploads.py", "tests/system/faults/test_downloads.py",
    "tests/system/faults/test_stdio_messages.py", "tests/system/faults/test_process.py",
    "tests/http/test_server.py", "tests/http/test_server_drain.py", "tests/http/test_app.py", "tests/http/test_slow_clients.py",
)  # fmt: skip
SANDBOX = ("tests/sandbox/test_files.py", "tests/sandbox/test_serving.py")
"""Of the tests that `make test` leaves out, those whose subject the system is."""
IF_POSSIBLE = "--if-possible"
MINUTES = 20
"""The most that the tests may take, on a machine that others use too."""


class Failed(Exception):
    pass


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the report is the product


def windows(*command: str, seconds: float = 120, show: bool = False, **variables: str) -> tuple[int, str]:
    """Run a program on the machine; its exit code, and what it wrote. Wine needs pipes: it cannot use our own files."""
    extra = "\n".join(f"{name}={value}" for name, value in variables.items())
    process = subprocess.Popen(
        [FOLDER / "win", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "EXTRA": extra}, cwd=DRIVE / "project",
    )  # fmt: skip
    assert process.stdout
    deadline = time.monotonic() + seconds
    written: list[str] = []
    for line in process.stdout:
        text = line.decode(errors="replace").rstrip("\r\n")
        written.append(text)
        if show:
            say(text)
        if time.monotonic() > deadline:
            process.kill()
            raise Failed(f"{' '.join(command)} takes longer than {seconds:.0f} s")
    return process.wait(), "\n".join(written)


def checked(*command: str, holds: str = "", seconds: float = 120, **variables: str) -> str:
    code, written = windows(*command, seconds=seconds, **variables)
    if code or holds not in written or "Traceback" in written:
        raise Failed(f"{' '.join(command)}: exit code {code}, expected 0 and {holds!r}. It wrote:\n{written}")
    say(f"ok: {' '.join(command)}")
    return written


def install_product() -> None:
    """Install the product from its wheel, and put the tests and what they read on the machine."""
    project = DRIVE / "project"
    shutil.rmtree(project, ignore_errors=True)
    project.mkdir()
    with tempfile.TemporaryDirectory() as made:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", made]
        subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
        wheel = next(Path(made).glob("*.whl"))
        shutil.copy(wheel, DRIVE)
        pip = ("python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--force-reinstall")
        checked(*pip, "--no-warn-script-location", f"C:\\{wheel.name}")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    for name in files.split("\0"):
        # Not the code: the tests are to use what is installed.
        if name and not name.startswith("server/") and (PROJECT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, project / name)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "65534:65534", project], check=True)


def try_commands() -> None:
    """Run what a person runs first, in a profile without hosts."""
    (profile,) = (folder for folder in (DRIVE / "users").iterdir() if folder.name != "Public")
    roaming = profile / "AppData" / "Roaming"
    for folder in (*profile.glob(".*"), *(roaming / host for host in ("Claude", "Code", "Zed"))):
        shutil.rmtree(folder, ignore_errors=True)
    product = ("python", "-m", "inferencesh_mcp")
    checked("C:\\Python311\\Scripts\\inferencesh-mcp.exe", "--version", holds="inferencesh-mcp ")
    checked(*product, "--help", holds="Commands:")
    checked(*product, "--sandbox", "doctor", holds="Ready to run.")
    checked(*product, "demo", holds="Nothing was sent anywhere")
    for host in HOSTS:
        checked(*product, "install", host, holds="inference", INFERENCE_API_KEY="inf_windows")
        checked(*product, "uninstall", host, holds="removed")


def run_tests(arguments: list[str]) -> None:
    """A start of Python is ten times as slow here, so a test has two minutes. What fails is tried once more, one test at a time:
    Wine now and then ends a process that it should not. A test that fails twice has failed."""
    pytest = ("python", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--timeout", "120")
    left_out = "not timing and not programs"
    runs = [("not thorough", arguments)] if arguments else [("not thorough", TESTS), ("thorough", SANDBOX)]
    for marked, tests in runs:
        chosen = ("-m", f"{marked} and {left_out}")
        code, written = windows(*pytest, "-n", "3", *chosen, *tests, seconds=MINUTES * 60, show=True)
        if code and (failed := re.findall(r"^(?:FAILED|ERROR) (tests/\S+?\.py::\w+)", written, re.MULTILINE)):
            again = list(dict.fromkeys(failed))
            say(f"Tried again: {' '.join(again)}")
            code, _ = windows(*pytest, "-n", "0", *chosen, *again, seconds=MINUTES * 60, show=True)
        if code:
            raise Failed(f"the tests failed (exit code {code})")


def main(arguments: list[str]) -> str | None:
    if if_possible := IF_POSSIBLE in arguments:  # `make check`, which runs on machines that have no Wine
        arguments.remove(IF_POSSIBLE)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = time.monotonic()
        if subprocess.run([Path(__file__).parent / "machine.sh", FOLDER], check=False).returncode:
            if if_possible:
                say("# Windows does not judge: its machine could not be made. The reason is above.")
                return None
            return "make windows: the machine could not be made. The reason is above."
        try:
            install_product()
            say(f"The machine and the product were ready after {time.monotonic() - begun:.0f} s.")
            if not arguments:
                try_commands()
                say(f"The commands were tried after {time.monotonic() - begun:.0f} s.")
            run_tests(arguments)
        except Failed as exc:
            return str(exc)
        finally:
            windows("wineserver", "-k")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
