"""The sandbox's apps: all of them, by name, in one tuple."""

from __future__ import annotations

from inferencesh_sandbox.apps.calculator import NOTEBOOK
from inferencesh_sandbox.apps.draw import DRAW
from inferencesh_sandbox.apps.llm import LLM
from inferencesh_sandbox.apps.memory_app import COUNT, MEMORY
from inferencesh_sandbox.apps.outputs import OUTPUTS
from inferencesh_sandbox.apps.picture_info import PICTURE_INFO
from inferencesh_sandbox.apps.refusals import NEEDS_SECRET
from inferencesh_sandbox.apps.slow_app import FAIL, SLOW, STREAM_TEXT
from inferencesh_sandbox.apps.words import ECHO, TEMPLATE

APPS = (
    ECHO,
    TEMPLATE,
    DRAW,
    PICTURE_INFO,
    SLOW,
    FAIL,
    NEEDS_SECRET,
    STREAM_TEXT,
    COUNT,
    MEMORY,
    NOTEBOOK,
    OUTPUTS,
    LLM,
)
