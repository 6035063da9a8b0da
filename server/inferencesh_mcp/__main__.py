"""argv and environment in, exit code out: the only reader of either."""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    # Objects made at start are kept, and collecting garbage among them took a tenth of the start. `cli` enables it again.
    gc.disable()
    from inferencesh_mcp.cli import run

    return run(sys.argv[1:], dict(os.environ))


if __name__ == "__main__":
    sys.exit(main())
