"""A run: plan, then Inspect's eval set, then results; and what can be done with its folder afterwards."""

from redline.run.broken_seal import ABOVE_THE_CELL
from redline.run.calibration import Misjudged, calibrate_controls, misjudged
from redline.run.execute import Options, Outcome, arm_task, run_plan
from redline.run.folder import RunFolder, read_results
from redline.run.recheck import verify_file, verify_folder
from redline.run.watch import Watcher

__all__ = [
    "ABOVE_THE_CELL",
    "Misjudged",
    "Options",
    "Outcome",
    "RunFolder",
    "Watcher",
    "arm_task",
    "calibrate_controls",
    "misjudged",
    "read_results",
    "run_plan",
    "verify_file",
    "verify_folder",
]
