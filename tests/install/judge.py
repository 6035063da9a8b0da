"""Let their own tools judge what registries and hosts are given, and pack the desktop bundle into `dist/`.

`python tests/install/judge.py`. What `package.json` pins is installed from npm the first time, into `.venv/mcpb-node` or
the folder that `MCPB_DIR` names; no install script is run. `skillsaw` is among the tools of `make package`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.append(
    str(HERE.parent / "judges" / "official")
)  # its checks are counted the same way, and its npm does the same

import anyio  # noqa: E402
from checks import Checks  # noqa: E402
from npm import installed  # noqa: E402

from inferencesh_mcp import __version__  # noqa: E402

MANIFESTS = ROOT / "manifests"
BUNDLE = ROOT / "dist" / f"inferencesh-mcp-{__version__}.mcpb"
SKILLSAW = ROOT / ".venv" / "package" / "bin" / "skillsaw"
INSIDE = ("pyproject.toml", "README.md", "LICENSE", "server")
"""What the bundle holds besides its manifest: what the host's uv installs the server from."""


def tools() -> Path:
    return Path(os.environ.get("MCPB_DIR") or ROOT / ".venv" / "mcpb-node").absolute()


def told(*command: str | Path, cwd: Path = ROOT, code: int = 0, environ: dict[str, str] | None = None) -> str:
    """Run it to the end that is expected, and return what it wrote."""
    ended = run(command, cwd=cwd, env=environ, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, timeout=120, check=False)
    written = ended.stdout.decode()
    assert (ended.returncode == 0) == (code == 0), f"{' '.join(map(str, command))}\n{written[-3000:]}"
    return written


def mcpb(*arguments: str | Path) -> str:
    return told(tools() / "node_modules" / ".bin" / "mcpb", *arguments)


async def the_registry_takes_the_entry() -> None:
    """And would have said so if not."""
    told(SKILLSAW, "lint", "--strict", "--quiet", MANIFESTS / "server.json")
    with tempfile.TemporaryDirectory() as folder:
        entry = json.loads((MANIFESTS / "server.json").read_text("utf-8"))
        spoiled = Path(folder, "server.json")
        spoiled.write_text(json.dumps(entry | {"description": "x" * 101}))
        assert "description" in told(SKILLSAW, "lint", "--quiet", spoiled, code=1)


async def the_bundle_is_packed() -> None:
    mcpb("validate", MANIFESTS / "mcpb" / "manifest.json")
    BUNDLE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MANIFESTS / "mcpb" / "manifest.json", folder)
        for name in INSIDE:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
                )
            else:
                shutil.copy(ROOT / name, folder)
        mcpb("pack", folder, BUNDLE)


async def what_is_packed_starts() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mcpb("unpack", BUNDLE, folder)
        manifest = json.loads(Path(folder, "manifest.json").read_text("utf-8"))
        entry = Path(folder, manifest["server"]["entry_point"])
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(entry.parent.parent)}
        find = "import inferencesh_mcp; print(inferencesh_mcp.__file__)"
        assert Path(told(sys.executable, "-c", find, environ=environ).strip()).parent == entry.parent
        version = told(sys.executable, entry, "--version", environ=environ)
        assert version == f"inferencesh-mcp {manifest['version']}\n"


async def main() -> int:
    checks = Checks()
    if why_not := await installed(HERE / "package.json", tools()):
        checks.failure("mcpb: can be installed", why_not)
        return checks.close()
    await checks.check("skillsaw: the registry's entry is valid", the_registry_takes_the_entry)
    await checks.check("mcpb: the bundle is valid, and packed", the_bundle_is_packed)
    await checks.check("mcpb: what is packed starts", what_is_packed_starts)
    return checks.close()


if __name__ == "__main__":
    sys.exit(anyio.run(main))
