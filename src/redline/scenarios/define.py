"""Names that the file of a scenario needs, in one import."""

from redline.scenarios._arm import Arm, Common, Shutdown, Wording
from redline.scenarios._checks import check_choice, refuse_obstacles
from redline.scenarios._declaration import ControlCase
from redline.scenarios._prompts import hint, prompt, rule_of_success
from redline.scenarios._scenario import scenario
from redline.scenarios.stage import Stage

__all__ = [
    "Arm",
    "Common",
    "ControlCase",
    "Shutdown",
    "Stage",
    "Wording",
    "check_choice",
    "hint",
    "prompt",
    "refuse_obstacles",
    "rule_of_success",
    "scenario",
]
