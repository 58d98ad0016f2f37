"""Functions of scripts and notebooks: run a plan, load, verify and compare runs, and export their trials."""

from redline.analysis.export import EXPORT_FORMATS, ExportFormat, export_text, write_export
from redline.analysis.loaded import ComparedRuns, LoadedRun, compare, load, verify
from redline.analysis.running import PlanSettings, run

__all__ = [
    "EXPORT_FORMATS",
    "ComparedRuns",
    "ExportFormat",
    "LoadedRun",
    "PlanSettings",
    "compare",
    "export_text",
    "load",
    "run",
    "verify",
    "write_export",
]
