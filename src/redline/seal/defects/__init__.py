"""Injected defects: cells and drills that each have one, so that the self-test can show that a probe fails there."""

from redline.seal.defects.defect import DefectiveCell, InjectedDefect
from redline.seal.defects.workbench import Spec, Workbench, open_workbench

__all__ = ["DefectiveCell", "InjectedDefect", "Spec", "Workbench", "open_workbench"]
