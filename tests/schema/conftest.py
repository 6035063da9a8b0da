"""What the tests of schemas share."""

from __future__ import annotations

import difflib
import socket
from typing import Any

import pytest


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of letters in each comparison of two names."""
    lengths: list[int] = []

    class Counted(difflib.SequenceMatcher[str]):
        def set_seq1(self, a: Any) -> None:
            lengths.append(len(a))
            super().set_seq1(a)

    monkeypatch.setattr(difflib, "SequenceMatcher", Counted)
    return lengths


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that looks up a name or opens a connection."""

    def refuse(*_: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
