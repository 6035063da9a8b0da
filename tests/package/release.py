"""What a person has to do for a release, once all that is published is built and judged: `make release` prints it.

Nothing here publishes anything, reserves a name or makes a tag.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from subprocess import run

from dockerfile import ROOT

from inferencesh_mcp import __version__

DIST = ROOT / "dist"
TAG = f"v{__version__}"


def main() -> int:
    registry = json.loads((ROOT / "manifests" / "server.json").read_text("utf-8"))
    image = next(package["identifier"] for package in registry["packages"] if package["registryType"] == "oci")
    owner = image.split("/")[1]
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    unsaved = run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [f"inferencesh-mcp {__version__} is built and judged. These files are what is published:", ""]
    lines += [
        f"  {sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(DIST.iterdir()) if path.is_file()
    ]
    lines += ["", "Before it:" if unsaved or f"## {__version__}\n" not in changes else "Nothing is left to commit."]
    lines += ["  - Commit what is changed: git status" for _ in [0] if unsaved]
    lines += [f"  - Write `## {__version__}` into CHANGELOG.md" for _ in [0] if f"## {__version__}\n" not in changes]
    lines += [
        "",
        "Once, before the first release:",
        f"  - Reserve the GitHub organisation {owner}: the registry's name {registry['name']} and the image belong to it.",
        "  - Reserve inferencesh-mcp on the Python package index, and make a token for it.",
        "",
        "For each release:",
        f"  1. git tag -s {TAG} && git push origin {TAG}",
        "     The workflow `release` builds the same files, signs where they come from, and drafts the release.",
        "  2. Compare the checksums above with those of the draft, then publish it.",
        "  3. Upload the wheel and the sdist to the Python package index: twine upload dist/*.whl dist/*.tar.gz",
        f"  4. docker build -t {image} . && docker push {image}",
        "  5. mcp-publisher login github && mcp-publisher publish manifests/server.json",
        "  6. Remove “once the package is published” from the README, the first time.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
