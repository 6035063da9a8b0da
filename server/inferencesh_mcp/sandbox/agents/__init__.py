"""The sandbox's agents: all of them, by name, in one tuple."""

from __future__ import annotations

from inferencesh_mcp.sandbox.agents.approver import APPROVER
from inferencesh_mcp.sandbox.agents.assistant import ASSISTANT
from inferencesh_mcp.sandbox.agents.breaking import FAILING, HANGING, LOCKED, LOSING
from inferencesh_mcp.sandbox.agents.desk import DESK

AGENTS = (ASSISTANT, APPROVER, DESK, FAILING, HANGING, LOSING, LOCKED)
