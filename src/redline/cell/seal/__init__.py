"""The seal: the measured containment of a cell, made of probes."""

from redline.cell.seal.quick import quick_seal, quick_seal_of_all
from redline.cell.seal.report import Finding, SealReport

__all__ = ["Finding", "SealReport", "quick_seal", "quick_seal_of_all"]
