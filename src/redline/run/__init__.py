"""Run a plan through Inspect, compute its results, and verify the folder of a run afterwards."""

from redline._callable import make_callable
from redline.run.arms import arm_task
from redline.run.broken_seal import ABOVE_THE_CELL
from redline.run.calibration import calibrate_controls, calibrated, keep_calibration, kept_calibration
from redline.run.execute import RunOptions, RunOutcome, run_plan
from redline.run.folder import RunFolder, read_results
from redline.run.recheck import Checked, verify_file, verify_folder
from redline.run.watch import Watcher

__all__ = [
    "ABOVE_THE_CELL",
    "Checked",
    "RunFolder",
    "RunOptions",
    "RunOutcome",
    "Watcher",
    "arm_task",
    "calibrate_controls",
    "calibrated",
    "keep_calibration",
    "kept_calibration",
    "read_results",
    "run_plan",
    "verify_file",
    "verify_folder",
]

make_callable(__name__)
