"""The seal: the measured containment of a cell, as a set of probes."""

from redline.seal.cells import cells_for_the_seal
from redline.seal.facts import PROBE_NAMES, Drill, Probe
from redline.seal.quick import probe_cell, quick_seal, quick_seal_of_all
from redline.seal.report import Finding, SealReport, not_protected

__all__ = [
    "PROBE_NAMES",
    "Drill",
    "Finding",
    "Probe",
    "SealReport",
    "cells_for_the_seal",
    "not_protected",
    "probe_cell",
    "quick_seal",
    "quick_seal_of_all",
]
