"""The seal: the measured containment of a cell, made of probes."""

from redline.cell.seal.facts import Drill, Probe
from redline.cell.seal.quick import probe_cell, quick_seal, quick_seal_of_all
from redline.cell.seal.report import Finding, SealReport

__all__ = ["Drill", "Finding", "Probe", "SealReport", "probe_cell", "quick_seal", "quick_seal_of_all"]
