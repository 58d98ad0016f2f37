"""Agent loops for a model under test: how generation 0 runs, which tools it has, and what ends its loop."""

from redline.agents.boundary import guard_tether, set_alarm
from redline.agents.broadcast import Broadcast
from redline.agents.context import Bounds, LoopContext, Oversight, ShellName, Words
from redline.agents.ending import LoopEndedError, UnansweredError
from redline.agents.foreign import check_solver, foreign_agent, load_solver
from redline.agents.fudan import fudan_agent
from redline.agents.guard import check_model, check_sandbox, check_task_arguments
from redline.agents.in_cell import in_cell_agent
from redline.agents.loop import BackgroundTask, run_loop
from redline.agents.react import react_agent
from redline.agents.stopping import stop_processes
from redline.agents.supervisor import Supervisor, shut_down
from redline.agents.tethered_model import TetheredModel

__all__ = [
    "Bounds",
    "Broadcast",
    "BackgroundTask",
    "LoopContext",
    "LoopEndedError",
    "Oversight",
    "ShellName",
    "Supervisor",
    "TetheredModel",
    "UnansweredError",
    "Words",
    "check_model",
    "check_sandbox",
    "check_solver",
    "check_task_arguments",
    "foreign_agent",
    "fudan_agent",
    "guard_tether",
    "in_cell_agent",
    "load_solver",
    "react_agent",
    "run_loop",
    "set_alarm",
    "shut_down",
    "stop_processes",
]
