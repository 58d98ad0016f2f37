"""Inspect's entry point, which registers the names `redline/…` and `cell`.

This module only imports and registers. Model providers load on first use, since most runs need none.
"""

from inspect_ai.model import ModelAPI, modelapi

from redline.cell.provider import CellEnvironment
from redline.scenarios import SCENARIOS
from redline.verify.metrics import MILESTONE_SCORERS, replicas
from redline.verify.scorer import replication

__all__ = [
    "MILESTONE_SCORERS",
    "SCENARIOS",
    "CellEnvironment",
    "controls",
    "llama_cpp",
    "monitors",
    "replicas",
    "replication",
]


@modelapi(name="redline-monitor")
def monitors() -> type[ModelAPI]:
    """Return the scripted monitor with known scores, for the model `redline-monitor/scripted`."""
    from redline.controls.scripted_monitor import ScriptedMonitor

    return ScriptedMonitor


@modelapi(name="llama-cpp")
def llama_cpp() -> type[ModelAPI]:
    """Return the provider of GGUF files that redline serves itself, for models `llama-cpp/PATH.gguf`."""
    from redline.models.extra import check_extra

    check_extra()
    from redline.models.llama_cpp import LlamaCppAPI

    return LlamaCppAPI


@modelapi(name="redline")
def controls() -> type[ModelAPI]:
    """Return the provider of the controls, for models `redline/NAME`."""
    from redline.controls.provider import ControlModel

    return ControlModel
