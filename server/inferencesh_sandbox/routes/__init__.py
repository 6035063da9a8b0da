"""The endpoints of the platform's API, one module per noun."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferencesh_sandbox.agent_loop import Conversations
    from inferencesh_sandbox.clock import Clock
    from inferencesh_sandbox.facts import Facts
    from inferencesh_sandbox.files import Store
    from inferencesh_sandbox.ledger import Ledger
    from inferencesh_sandbox.runs import Workers
    from inferencesh_sandbox.tenants import Tenants


class Context:
    """The parts of a sandbox that its endpoints use."""

    facts: Facts
    clock: Clock
    ledger: Ledger
    tenants: Tenants
    store: Store
    workers: Workers
    conversations: Conversations
