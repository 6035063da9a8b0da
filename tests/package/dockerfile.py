"""The Dockerfile's build stage, run here: there is no daemon in CI, but its steps are only a shell's."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, STDOUT, run
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"
MADE = "/opt/inferencesh"  # what the second stage takes from the first
OURS = {"PIP_NO_CACHE_DIR"}  # left out: what was fetched once need not be fetched again


class Failed(Exception):
    """A step did not do what it should; its text is what it wrote."""


@dataclass
class Stage:
    """A folder in the place of the image's root."""

    root: Path
    environ: dict[str, str]
    here: Path = field(init=False)

    def __post_init__(self) -> None:
        self.here = self.root

    @property
    def made(self) -> Path:
        return self.root / MADE.strip("/")

    def build(self) -> None:
        """Carry out each instruction of the build stage.

        Raises:
            Failed: a step ended with another code than 0.
        """
        for word, rest in build_stage(DOCKERFILE.read_text("utf-8")):
            getattr(self, f"_{word.lower()}")(self._inside(rest))

    def _inside(self, text: str) -> str:
        return re.sub(r'(?<![\w"}])/(?=opt/|build)', f"{self.root}/", text).replace('"/build', f'"{self.root}/build')

    def _workdir(self, rest: str) -> None:
        self.here = Path(rest)
        self.here.mkdir(parents=True)
        self.made.parent.mkdir(parents=True)

    def _env(self, rest: str) -> None:
        for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|(\S+))', rest):
            if name not in OURS:
                self.environ[name] = quoted or plain

    def _copy(self, rest: str) -> None:
        *sources, to = rest.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, self.here / to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, self.here / to)

    def _run(self, rest: str) -> None:
        done = run(["sh", "-ec", rest], cwd=self.here, env=self.environ, stdout=PIPE, stderr=STDOUT, check=False)
        if done.returncode:
            raise Failed(f"RUN {rest}\n{done.stdout.decode()[-3000:]}")


def build_stage(text: str) -> Iterator[tuple[str, str]]:
    """Its instructions in order, as word and rest; the first FROM to the second."""
    stage = re.split(r"^FROM .*\n", text, flags=re.MULTILINE)[1]
    lines = "\n".join(line for line in stage.splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield word, rest


def values(text: str, word: str) -> Mapping[str, str]:
    """What the image says of itself with one kind of instruction: `LABEL` or `ENV`."""
    last = re.split(r"^FROM .*\n", text, flags=re.MULTILINE)[2].replace("\\\n", " ")
    lines = [line for line in last.splitlines() if line.startswith(f"{word} ")]
    return {
        name: quoted or plain
        for line in lines
        for name, quoted, plain in re.findall(r'([\w.]+)=(?:"([^"]*)"|(\S+))', line)
    }
