"""argv and environment in, exit code out: the only reader of either."""

from __future__ import annotations

import os
import sys


def main() -> int:
    from inferencesh_mcp.cli import run

    return run(sys.argv[1:], dict(os.environ))


if __name__ == "__main__":
    sys.exit(main())
