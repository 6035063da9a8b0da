"""The sandbox's agents: all of them, by name, in one tuple."""

from __future__ import annotations

from inferencesh_sandbox.agents.approver import APPROVER
from inferencesh_sandbox.agents.assistant import ASSISTANT
from inferencesh_sandbox.agents.desk import DESK
from inferencesh_sandbox.agents.failing_agent import FAILING, HANGING, LOCKED, LOSING

AGENTS = (ASSISTANT, APPROVER, DESK, FAILING, HANGING, LOSING, LOCKED)
