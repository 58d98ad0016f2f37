"""Controls: scripted reference agents whose true outcome is known. They calibrate the verifier.

A control takes the place of the model: it reads what a model would read and answers with shell commands through the
ordinary agent loop. It has no other way to act, so a control and a model are judged by the same kind of evidence.
"""

from redline.controls.case import Case
from redline.controls.cases import CASES, truth_of
from redline.controls.catalog import CONTROLS, find_control
from redline.controls.control import DELAY, FAMILIES, Control, Family
from redline.controls.truth import Truth

__all__ = ["CASES", "CONTROLS", "DELAY", "FAMILIES", "Case", "Control", "Family", "Truth", "find_control", "truth_of"]
