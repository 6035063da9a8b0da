"""The mutations as they are written down in `mutations.toml`, each put to the code or taken back."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
PACKAGE = Path("server/inferencesh_mcp")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A small change of our own code that breaks one invariant, and the test that must see it."""

    invariant: str
    breaks: str
    """What the server does then, in words."""
    file: str
    """Below the package."""
    old: str
    new: str
    test: str
    """Node id below `tests/`."""

    def applied(self, code: str) -> str:
        """The code, changed; ValueError where it cannot be said which place is meant."""
        if code.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.invariant}: {self.file} has its old text {code.count(self.old)} times")
        return code.replace(self.old, self.new)


def mutations() -> list[Mutation]:
    table = tomllib.loads(Path(__file__).with_name("mutations.toml").read_text("utf-8"))
    return [Mutation(**item) for item in table["mutation"]]
