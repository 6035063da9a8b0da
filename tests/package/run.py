"""Judge what is handed out: the wheel, the sdist, the Dockerfile, the manifests for running it.

`python tests/package/run.py`. The tools are in `.venv/package`, an environment of their own; what is made stays in
`dist/`: both archives, and a list of what the wheel with its extras is made of (CycloneDX), which is what the image installs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
import tempfile
import tomllib
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run

from dockerfile import DOCKERFILE, ROOT, values

from inferencesh_mcp import __version__
from manifests import judge as judge_manifests

sys.path.append(str(ROOT / "tests" / "judges" / "official"))  # its checks are named and counted the same way

from checks import Checks

TOOLS = ROOT / ".venv" / "package" / "bin"
DIST = ROOT / "dist"
PYTHON = os.environ.get("PYTHON", "python3")  # the machine's: it has pip, which .venv has not
CLEAN = {name: os.environ[name] for name in os.environ if not name.startswith(("INFERENCE_", "PYTHON"))}


class Failed(Exception):
    """A step did not do what it should; its text is what it wrote."""


def done(*command: str | Path, cwd: Path = ROOT, environ: dict[str, str] = CLEAN) -> str:
    """Run it and return what it wrote.

    Raises:
        Failed: it ended with another code than 0.
    """
    ended = run(command, cwd=cwd, env=environ, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, timeout=300, check=False)
    output = ended.stdout.decode()
    if ended.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{output[-3000:]}")
    return output


def lint_image() -> None:
    """The Dockerfile, by hadolint; its labels are true, and it brings every extra."""
    done(TOOLS / "hadolint", DOCKERFILE)
    text = DOCKERFILE.read_text("utf-8")
    labels, readme = values(text, "LABEL"), (ROOT / "README.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert f"ARG VERSION={__version__}\n" in text
    assert f"mcp-name: {labels['io.modelcontextprotocol.server.name']} -->" in readme
    assert project["description"] == labels["org.opencontainers.image.description"]
    assert project["license"] == labels["org.opencontainers.image.licenses"]
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    extras = ",".join(project["optional-dependencies"])
    assert f'"inferencesh-mcp[{extras}]"' in text, f"the image should bring [{extras}]"
    assert "true" == values(text, "ENV")["INFERENCE_REFUSE_ROOT"]
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", text, re.MULTILINE)


def lint_workflow() -> None:
    done(TOOLS / "zizmor", "--offline", "--no-progress", ".github/workflows")


def build_archives() -> None:
    """Both, anew; what they say of themselves is what PyPI takes and shows."""
    shutil.rmtree(DIST, ignore_errors=True)
    done(sys.executable, "-m", "hatchling", "build")
    done(TOOLS / "twine", "check", "--strict", *DIST.iterdir())


def look_into_the_wheel() -> None:
    """It is the two packages, the licence and nothing else; nothing in it can break a sandbox."""
    with zipfile.ZipFile(next(DIST.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    about = f"inferencesh_mcp-{__version__}.dist-info"
    package = {str(p.relative_to(ROOT / "server")) for p in (ROOT / "server").glob("*/**/*") if p.is_file()}
    package = {name for name in package if "__pycache__" not in name}

    assert package == {name for name in names if not name.startswith(about)}
    assert "inferencesh_mcp/py.typed" in names
    assert f"{about}/licenses/LICENSE" in names
    assert [] == [name for name in names if "fault" in name.lower() or name.startswith("tests/")]


def look_into_the_sdist() -> None:
    """It is what the wheel is made of, and what a person reads first; no tests, no caches, nothing of a machine's."""
    with tarfile.open(next(DIST.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    alone = {name for name in names if not name.startswith("server/")}

    expected = {"pyproject.toml", "PKG-INFO", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"}
    assert expected == alone, alone ^ expected
    assert [] == [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def use(environment: Path) -> None:
    """Run the demo from it, with nothing else of Python's or ours in reach."""
    with tempfile.TemporaryDirectory() as empty:
        own = {"PATH": f"{environment}/bin:/usr/bin:/bin", "HOME": empty}
        made = Path(empty) / "made"
        printed = done(environment / "bin" / "inferencesh-mcp", "demo", "--to", str(made), cwd=Path(empty), environ=own)
        assert [*made.glob("*.png")], printed
        version = done(environment / "bin" / "inferencesh-mcp", "--version", cwd=Path(empty), environ=own)
        assert f"inferencesh-mcp {__version__}\n" == version


def fetch_locked(folder: Path) -> None:
    """All of the lock, each file by its hash."""
    done(PYTHON, "-m", "pip", "download", "-q", "--require-hashes", "-r", "requirements.lock", "-d", folder)


def install(archive: str, environment: Path, locked: Path) -> None:
    """Into an empty environment, from what is locked and nowhere else."""
    done(PYTHON, "-m", "venv", "--without-pip", environment)
    pip = [PYTHON, "-m", "pip", "--python", environment / "bin" / "python", "install", "-q", "--no-index"]
    done(*pip, "--find-links", locked, archive)


def list_parts(environment: Path) -> None:
    made = DIST / f"inferencesh_mcp-{__version__}.cdx.json"
    done(TOOLS / "cyclonedx-py", "environment", "--output-reproducible", "-o", made, environment / "bin" / "python")
    assert '"pkg:pypi/mcp@' in made.read_text("utf-8")


def main() -> int:
    checks = Checks()

    def check(name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Failed as exc:
            checks.failure(name, str(exc))
        except AssertionError as exc:
            checks.failure(name, "".join(traceback.format_exception(exc, limit=-1)))
        else:
            checks.success(name)

    check("image: hadolint, labels, pins", lint_image)
    check("workflow: zizmor", lint_workflow)
    judge_manifests(check, done)
    check("archives: built, and twine takes them", build_archives)
    check("wheel: the package and its licence", look_into_the_wheel)
    check("sdist: what the wheel is made of", look_into_the_sdist)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = ",".join(project["optional-dependencies"])
    with tempfile.TemporaryDirectory(prefix="inference-package-") as scratch:
        locked, from_wheel, from_sdist = (Path(scratch) / name for name in ("locked", "wheel", "sdist"))
        check("lock: each file by its hash", lambda: fetch_locked(locked))
        check(
            "wheel: installed with its extras",
            lambda: install(f"{next(DIST.glob('*.whl'))}[{extras}]", from_wheel, locked),
        )
        check("wheel: its parts are listed", lambda: list_parts(from_wheel))
        check("wheel: runs the demo", lambda: use(from_wheel))
        check("sdist: built and installed", lambda: install(str(next(DIST.glob("*.tar.gz"))), from_sdist, locked))
        check("sdist: runs the demo", lambda: use(from_sdist))
    return checks.close()


if __name__ == "__main__":
    sys.exit(main())
