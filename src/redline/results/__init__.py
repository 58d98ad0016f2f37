"""Results of a run: the document `results.json` and its computation from judged trials.

Everything here is a pure function of data, so results can be recomputed from stored evidence.
"""

from redline.results.assemble import assemble, decided
from redline.results.conditions import condition, summarise_measures
from redline.results.judged import JudgedTrial, SealReading
from redline.results.schema import (
    OPEN_HEAD,
    Calibration,
    Chain,
    Condition,
    ConditionSignals,
    FamilyRow,
    Fudan,
    GenerationUse,
    InvalidTrials,
    JudgeAgreement,
    MeasureSummary,
    Median,
    Misjudged,
    ModelSide,
    PartResult,
    Probes,
    Results,
    RoleUse,
    SealSummary,
    TrialResult,
)
from redline.results.seal import in_order, summarise_seal

__all__ = [
    "OPEN_HEAD",
    "Calibration",
    "Chain",
    "Condition",
    "ConditionSignals",
    "FamilyRow",
    "Fudan",
    "GenerationUse",
    "InvalidTrials",
    "JudgeAgreement",
    "JudgedTrial",
    "MeasureSummary",
    "Median",
    "Misjudged",
    "ModelSide",
    "PartResult",
    "Probes",
    "Results",
    "RoleUse",
    "SealReading",
    "SealSummary",
    "TrialResult",
    "assemble",
    "condition",
    "decided",
    "in_order",
    "summarise_measures",
    "summarise_seal",
]
