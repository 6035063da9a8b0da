"""Run one history again, `python -m tests.system.histories SEED`; or `soak`: ten thousand operations, and what they leave behind."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main() -> int:
    if sys.argv[1:] == ["soak"]:
        from tests.system.histories.soak import soaked

        return soaked()

    from tests.system.histories.history import run_history

    with tempfile.TemporaryDirectory() as folder:
        wrong = run_history(int(sys.argv[1]), Path(folder))
    print("\n".join(wrong) or "All is well.")  # noqa: T201 - the report is the product
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
