"""Which tests are for which system."""

from __future__ import annotations

import sys

import pytest

POSIX = pytest.mark.skipif(
    sys.platform == "win32", reason="not on Windows: links, modes, special files or limits of POSIX"
)
WINDOWS = pytest.mark.skipif(sys.platform != "win32", reason="runs in make windows")
