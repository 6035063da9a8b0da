"""Whether a person is at the other end of a standard stream."""

from __future__ import annotations

import sys
from typing import TextIO

if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _console_mode = ctypes.WinDLL("kernel32").GetConsoleMode
    _console_mode.argtypes = (wintypes.HANDLE, wintypes.LPDWORD)
    _console_mode.restype = wintypes.BOOL

    def is_terminal(stream: TextIO) -> bool:
        """`isatty` is also true of NUL: a prompt would wait there, and it has no width."""
        return stream.isatty() and bool(_console_mode(msvcrt.get_osfhandle(stream.fileno()), wintypes.DWORD()))

else:

    def is_terminal(stream: TextIO) -> bool:
        """Whether it is a terminal."""
        return stream.isatty()
