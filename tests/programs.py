"""Say which programs that are not Python's are missing, and how to get them: `python -m tests.programs nginx redis-server`."""

from __future__ import annotations

import os
import shutil
import sys

PACKAGES = {"nginx": "nginx-light", "redis-server": "redis-server", "node": "nodejs",
            "podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap", "newuidmap": "uidmap",
            "slirp4netns": "slirp4netns", "fuse-overlayfs": "fuse-overlayfs",
            "mkfs.exfat": "exfatprogs", "mount.exfat-fuse": "exfat-fuse"}  # fmt: skip
"""Debian's packages."""
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def main(names: list[str]) -> str | None:
    """One sentence for each program that is missing; None where all are there."""
    missing = [name for name in names if shutil.which(name, path=PATH) is None]
    if not missing:
        return None
    packages = " ".join(PACKAGES[name] for name in missing)
    return f"make check needs {' and '.join(missing)}: apt-get install {packages}. (make test needs Python alone.)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
