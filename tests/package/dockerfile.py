"""The Dockerfile as its instructions say it; `image.py` builds and runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "Dockerfile"


def values(text: str, word: str) -> Mapping[str, str]:
    """What the image says of itself with one kind of instruction: `LABEL` or `ENV`."""
    last = re.split(r"^FROM .*\n", text, flags=re.MULTILINE)[2].replace("\\\n", " ")
    lines = [line for line in last.splitlines() if line.startswith(f"{word} ")]
    return {
        name: quoted or plain
        for line in lines
        for name, quoted, plain in re.findall(r'([\w.]+)=(?:"([^"]*)"|(\S+))', line)
    }
