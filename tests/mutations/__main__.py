"""Break each invariant in a copy of the server, one at a time, and see the test go red that guards it: `make mutants`.

`python -m tests.mutations I-1 I-7` breaks these alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

from tests.mutations.table import PACKAGE, TESTS, Mutation, mutations

ROOT = TESTS.parent
SECONDS = 300
"""For one run of pytest; each test has a limit of its own."""
# A statement of the test's own that does not hold, or a wait that came to its end: whatever else breaks a test shows
# that the code does not run, and not that anybody saw what it does.
_FAILED = re.compile(r"^(?:E +| *\|[| ]*)((?:AssertionError|assert |TimeoutError|Failed: ).*)", re.MULTILINE)
_BROKEN = re.compile(
    r"^(?:E +| *\|[| ]*)(ImportError|ModuleNotFoundError|SyntaxError|NameError|UnboundLocalError)", re.MULTILINE
)


class Copy:
    """The server's code in a folder of its own, and a Python that has it instead of ours, in every process it starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._package = folder / PACKAGE
        shutil.copytree(ROOT / PACKAGE, self._package)
        venv.create(folder / "venv", symlinks=True)
        self._python = folder / "venv/bin/python"
        paths = sysconfig.get_paths("venv", {"base": str(folder / "venv"), "platbase": str(folder / "venv")})
        # The copy comes first, then the sandbox beside our own code. A file in these folders that leads elsewhere is not obeyed.
        ours = dict.fromkeys(map(sysconfig.get_path, ("purelib", "platlib")))
        (Path(paths["purelib"]) / "copy.pth").write_text(
            "\n".join((str(self._package.parent), str(ROOT / "server"), *ours)), "utf-8"
        )
        output = self._run("-c", "import inferencesh_mcp; print(inferencesh_mcp.__file__)").stdout
        if Path(output.strip()).parent != self._package:
            raise SystemExit(f"Not the copy is what would be tested, but {output}")

    def green(self, tests: list[str]) -> str:
        """What is wrong with the tests before anything is broken; nothing, if all is well."""
        code, cases, output = self._tested(tests)
        return "" if code == 0 and len(cases) == len(tests) else output

    def verdict(self, mutation: Mutation) -> tuple[bool, str]:
        """Whether the test saw it, and its output."""
        path = self._package / mutation.file
        code_before = path.read_text("utf-8")
        path.write_text(mutation.applied(code_before), "utf-8")
        try:
            code, cases, output = self._tested([mutation.test])
        finally:
            path.write_text(code_before, "utf-8")
        text = "\n".join(failure.text or "" for case in cases for failure in case.iter("failure"))
        failed = _FAILED.search(text)
        if code != 1 or failed is None or _BROKEN.search(text):
            return False, output
        return True, failed[1]

    def _tested(self, tests: list[str]) -> tuple[int, list[ET.Element], str]:
        """pytest's exit code, what it reports of each test, and what it printed."""
        report = self._folder / "report.xml"
        report.unlink(missing_ok=True)
        process = self._run("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={report}", *(f"tests/{test}" for test in tests))  # fmt: skip
        cases = list(ET.parse(report).iter("testcase")) if report.exists() else []
        return process.returncode, cases, process.stdout + process.stderr

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Without bytecode: that of a change could outlive it.
        environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        environ.pop("PYTHONPATH", None)
        return subprocess.run([self._python, *arguments], cwd=ROOT, env=environ, text=True, check=False, timeout=SECONDS, capture_output=True)  # fmt: skip


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the report is the product


def main(names: list[str]) -> int:
    chosen = [mutation for mutation in mutations() if not names or mutation.invariant in names]
    survived: list[str] = []
    with TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        if wrong := copy.green(list(dict.fromkeys(mutation.test for mutation in chosen))):
            say(f"{wrong}\nNot all of the tests are green on the code as it is.")
            return 1
        say(
            "| invariant | what was broken | the test that must see it | its output | |\n| --- | --- | --- | --- | --- |"
        )
        for mutation in chosen:
            killed, output = copy.verdict(mutation)
            end = f"`{output[:80]}` | killed" if killed else "| **survived**"
            say(f"| {mutation.invariant} | {mutation.breaks} | `{mutation.test}` | {end} |")
            if not killed:
                survived.append(f"\n{mutation.invariant} survived; its output:\n{output[-3000:]}")
    say("\n".join([*survived, f"\n{len(chosen) - len(survived)} of {len(chosen)} killed"]))
    return 1 if survived or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
