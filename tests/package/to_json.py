"""Print YAML files as JSON, a list of documents for each: `to_json.py FILE…`. Runs where PyYAML is.

A name that stands twice in a mapping is an error: YAML takes the last, and nobody sees the first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml


class Strict(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := {name for name in names if names.count(name) > 1}:
            raise yaml.constructor.ConstructorError(problem=f"{twice} twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


files = [Path(name).read_text("utf-8") for name in sys.argv[1:]]
sys.stdout.write(json.dumps([list(yaml.load_all(text, Strict)) for text in files]))
