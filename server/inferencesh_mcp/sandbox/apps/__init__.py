"""The sandbox's apps: all of them, by name, in one tuple."""

from __future__ import annotations

from inferencesh_mcp.sandbox.apps.calculating import NOTEBOOK
from inferencesh_mcp.sandbox.apps.draw import DRAW
from inferencesh_mcp.sandbox.apps.llm import LLM
from inferencesh_mcp.sandbox.apps.outputs import OUTPUTS
from inferencesh_mcp.sandbox.apps.picture_info import PICTURE_INFO
from inferencesh_mcp.sandbox.apps.refusing import NEEDS_SECRET
from inferencesh_mcp.sandbox.apps.remembering import COUNT, MEMORY
from inferencesh_mcp.sandbox.apps.ticking import FAIL, SLOW, STREAM_TEXT
from inferencesh_mcp.sandbox.apps.words import ECHO, TEMPLATE

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
