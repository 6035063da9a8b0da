"""argv and environment in, exit code out: the only reader of either."""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    # What a start makes is kept: searching it for garbage took a tenth of the time. `cli` ends this when all is made.
    gc.disable()
    from inferencesh_mcp.cli import run

    return run(sys.argv[1:], dict(os.environ))


if __name__ == "__main__":
    sys.exit(main())
