"""A small believable inference.sh, over real HTTP: for trying the bridge without a key, and for testing it.

It imports nothing from the rest of the package.
"""

from inferencesh_sandbox.app import Sandbox
from inferencesh_sandbox.clock import Clock, TurnedClock
from inferencesh_sandbox.facts import Facts
from inferencesh_sandbox.faults import Fault, Faults, Gate
from inferencesh_sandbox.ledger import Ledger
from inferencesh_sandbox.server import serving

__all__ = [
    "Clock", "Facts", "Fault", "Faults", "Gate", "Ledger", "Sandbox", "TurnedClock", "serving",
]  # fmt: skip
