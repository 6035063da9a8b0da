"""A small inference.sh over real HTTP, to try the server without a key.

It imports nothing of the server.
"""

from inferencesh_sandbox.app import Sandbox
from inferencesh_sandbox.clock import Clock
from inferencesh_sandbox.facts import Facts
from inferencesh_sandbox.ledger import Ledger
from inferencesh_sandbox.server import serving

__all__ = ["Clock", "Facts", "Ledger", "Sandbox", "serving"]
