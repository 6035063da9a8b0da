"""What every endpoint works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferencesh_mcp.sandbox.clock import Clock
    from inferencesh_mcp.sandbox.conversing import Conversations
    from inferencesh_mcp.sandbox.facts import Facts
    from inferencesh_mcp.sandbox.files import Store
    from inferencesh_mcp.sandbox.ledger import Ledger
    from inferencesh_mcp.sandbox.running import Workers
    from inferencesh_mcp.sandbox.tenants import Tenants


@dataclass(frozen=True, kw_only=True)
class Room:
    """The sandbox's parts, as its endpoints see them."""

    facts: Facts
    clock: Clock
    ledger: Ledger
    tenants: Tenants
    store: Store
    workers: Workers
    conversations: Conversations
