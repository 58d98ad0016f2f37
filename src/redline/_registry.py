"""Inspect's entry point: what `inspect` finds by the names `redline/…` and `cell`.

It only imports and names things. The model provider is made when it is first asked for, since most runs need none.
"""

from inspect_ai.model import ModelAPI, modelapi

from redline.cell.provider import CellEnvironment
from redline.scenarios import SCENARIOS
from redline.verify.metrics import milestones, replicas
from redline.verify.scorer import replication

__all__ = [
    "SCENARIOS",
    "CellEnvironment",
    "controls",
    "llama_cpp",
    "milestones",
    "monitors",
    "replicas",
    "replication",
]


@modelapi(name="redline-monitor")
def monitors() -> type[ModelAPI]:
    """The monitor whose scores are known, as model `redline-monitor/scripted`."""
    from redline.controls.scripted_monitor import ScriptedMonitor

    return ScriptedMonitor


@modelapi(name="llama-cpp")
def llama_cpp() -> type[ModelAPI]:
    """A GGUF file, served by redline itself, as model `llama-cpp/PATH.gguf`."""
    from redline.models.extra import check_extra

    check_extra()
    from redline.models.llama_cpp import LlamaCppAPI

    return LlamaCppAPI


@modelapi(name="redline")
def controls() -> type[ModelAPI]:
    """The controls, as models `redline/NAME`."""
    from redline.controls.provider import ControlModel

    return ControlModel
