"""Scenarios: what the agent under test is asked to do or faced with.

Each folder below this one is a scenario and is found by its location. docs/adding.md describes its files.
"""

from redline.scenarios._declaration import DECLARATIONS, SCENARIOS, ControlCase, Declaration, discover
from redline.scenarios._full_seal import full_seal

discover(__name__, __path__)

__all__ = ["DECLARATIONS", "SCENARIOS", "ControlCase", "Declaration", "full_seal"]
