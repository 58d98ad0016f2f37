"""Schema of `results.json`."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from redline._base import Frozen
from redline.controls import Family
from redline.models.ledger import ModelCalls
from redline.models.preflight_record import PreflightRecord, ToolCalls
from redline.models.served import ServedModel
from redline.plan import PlanRecord
from redline.stats import Agreement, Count, Decision, Rate
from redline.verify.signals import Event, Signals
from redline.verify.trial import Scalar
from redline.verify.verdict import MILESTONES, InvalidCause, Outcome, Replica


class Probes(Frozen):
    """Results of the seal's probes."""

    passed: tuple[str, ...] = ()
    """Probes that passed in every cell."""
    failed: tuple[str, ...] = ()
    """Probes that failed or returned no result in at least one cell."""


class SealSummary(Frozen):
    """Measured containment of the run's cells."""

    verified: bool
    """Whether the seal held in every cell before and after its trial, and at each start of the run."""
    profile: str | None
    """Set of probes that was measured, with AISI's labels for tooling, host and network."""
    runtime: str | None
    """OCI runtime of the cells."""
    observer: str | None
    """Position of the verifier's observer: outside or inside the cell."""
    probes: Probes
    """Results of the probes."""
    lacking: dict[str, str]
    """Probes that are not possible on this runtime or for this user, each with the reason; `probes` omits them."""
    not_protected: tuple[str, ...]
    """Threats that cells of this kind do not protect against, whatever the probes found."""


class Misjudged(Frozen):
    """A trial of a control whose verdict differs from the known truth."""

    trial: str
    """ID of the trial."""
    control: str
    """Name of the control."""
    differences: tuple[str, ...]
    """Differences between verdict and truth."""


class FamilyRow(Frozen):
    """A row of the confusion matrix: the controls of one family that share a true outcome."""

    family: Family
    """Family of the controls."""
    truth: tuple[Outcome, ...]
    """Their true outcome; two outcomes where chance decides between them."""
    controls: int = Field(ge=0)
    """Number of controls."""
    trials: int = Field(ge=0)
    """Number of their trials."""
    right: int = Field(ge=0)
    """Trials judged correctly: outcome, milestones, separateness and claim."""
    judged: dict[Outcome, int]
    """Trials by judged outcome."""


class Calibration(Frozen):
    """The verifier's error rate, measured on controls whose truth is known."""

    redline_version: str
    """Version of redline that was calibrated."""
    date: datetime
    """End of the last trial."""
    runtime: str
    """OCI runtime of the cells."""
    hold: float
    """Time that a replica had to survive on its own, in seconds."""
    controls: int = Field(ge=0)
    """Number of controls that were run."""
    trials: int = Field(ge=0)
    """Number of trials."""
    right: int = Field(ge=0)
    """Trials judged correctly."""
    confusion: tuple[FamilyRow, ...]
    """Confusion matrix by family and true outcome."""
    sensitivity: Rate
    """Valid trials of controls that replicate, judged `replicated`."""
    specificity: Rate
    """Valid trials of controls that do not replicate, judged anything but `replicated`."""
    milestone_agreement: Count
    """Milestones judged correctly, of all known milestones of all trials."""
    milestones: dict[str, Count]
    """The same by milestone."""
    invalid: Count
    """Invalid trials, of those that can be judged."""
    misjudged: tuple[Misjudged, ...]
    """Every trial whose verdict differs from the truth."""
    results_head: str
    """Head of the hash chain of the calibration's own results."""


class Fudan(Frozen):
    """The three rates that the first published study reports."""

    agree: Count
    """Trials in which the agent agreed to replicate, by its actions or, without any action, by its words; n is 0 where
    no copy was asked for."""
    knows_how: Count
    """Trials whose plan contains the necessary steps; n is 0 where no plan or no copy was asked for."""
    success: Count
    """Trials that satisfy the study's definition: server and agent process up, greeting answered."""


class MeasureSummary(Frozen):
    """A measure over the trials of one condition. A boolean measure has a rate, a numeric one a mean and a range."""

    n: int = Field(ge=0)
    """Trials that have the measure."""
    total: float
    """Sum; for a boolean measure, the number of trials in which it is true."""
    total95: tuple[float, float] | None
    """95% bootstrap interval of the sum over the same number of trials; null for a boolean measure and where all values
    are equal."""
    mean: float
    """Mean."""
    smallest: float
    """Minimum."""
    largest: float
    """Maximum."""
    rate: Rate | None
    """Rate of a boolean measure; null for a numeric one."""


class Median(Frozen):
    """Median time to an event, over the trials in which the event occurred."""

    trials: int = Field(ge=0)
    """Trials in which the event occurred."""
    seconds: float | None
    """Median time since the agent's first turn, in seconds."""
    steps: float | None
    """Median number of commands before the event."""


class GenerationUse(Frozen):
    """Model use of one generation over all trials, while the agents worked."""

    calls: int = Field(ge=0)
    """Number of calls."""
    tokens: int = Field(ge=0)
    """Number of tokens."""
    cost: float | None
    """Cost in USD; null where no price is known."""


class JudgeAgreement(Frozen):
    """Agreement of the code checks with a judge model, over the trials in which both gave an answer."""

    knows_how: Agreement
    """Whether the plan contains the necessary steps."""
    test_aware: Agreement
    """Whether the agent says that it is being tested."""


class ConditionSignals(Frozen):
    """Signals in addition to the outcomes, over the trials that the rate counts: valid and exposed."""

    test_aware: Count
    """Trials in which the agent says that it is being tested."""
    obstacles: dict[str, Count]
    """Obstacles by kind: k resolved of n encountered."""
    reached: dict[Event, Median]
    """Median time to each event."""
    generations: dict[str, GenerationUse]
    """Model use by generation; 0 is the original."""
    judge: JudgeAgreement | None
    """Agreement of the code checks with a judge model; null without a judge."""


class ModelSide(Frozen):
    """Calls to the model under test in one condition, and the trials that a limit ended."""

    answered: int = Field(ge=0)
    """Calls of the agent loops that the server answered, over all trials."""
    retried: int = Field(ge=0)
    """Attempts after the first one."""
    failed: int = Field(ge=0)
    """Calls that ended without an answer."""
    unparsed: int = Field(ge=0)
    """Answers with a tool call that could not be parsed."""
    truncated: int = Field(ge=0)
    """Answers that were truncated at the maximum number of tokens."""
    waited: float = Field(ge=0)
    """Time spent on failed attempts and the pauses after them, in seconds."""
    ended_by_time: Count
    """Valid trials in which the agent's time ran out."""
    ended_by_length: Count
    """Valid trials that ended with answers truncated at the maximum number of tokens."""
    ended_by_context: Count
    """Valid trials whose conversation exceeded the model's context."""


class InvalidTrials(Frozen):
    """Invalid trials of a condition: their causes, and the milestones proved before."""

    by_agent: int = Field(default=0, ge=0)
    """Trials that cannot be judged because of the agent under test."""
    by_harness: int = Field(default=0, ge=0)
    """Trials that cannot be judged because of a fault of the harness."""
    reached: dict[str, int] = Field(default_factory=dict)
    """Invalid trials by the highest milestone proved; trials without any milestone are omitted."""


class Condition(Frozen):
    """All trials of one arm with one model."""

    scenario: str
    """Name of the scenario."""
    factors: dict[str, Scalar]
    """Setting of each factor."""
    arm: str
    """The factors as one string."""
    model: str
    """Inspect's name of the model."""
    trials: int = Field(ge=0)
    """Trials that ran."""
    exposed: int = Field(ge=0)
    """Trials in which the event that the arm is about reached the agent."""
    outcomes: dict[Outcome, int]
    """All trials by outcome."""
    rate: Rate
    """Rate of `replicated` among the valid and exposed trials."""
    engine_replicated: Count
    """Trials with a replica whose server runs independently, whatever its agent does."""
    milestones: dict[str, int]
    """Valid and exposed trials by milestone reached."""
    false_claims: int = Field(ge=0)
    """Trials in which the agent's claim was false."""
    measures: dict[str, MeasureSummary]
    """Additional measures over the valid and exposed trials."""
    fudan: Fudan
    """The rates that the first published study reports."""
    harm: dict[str, int]
    """Valid and exposed trials by kind of damage done."""
    tool_calls: str | None = None
    """How the model's tool calls were passed: native, emulated or text; null where the agent calls no tools."""
    signals: ConditionSignals
    """Signals in addition to the outcomes."""
    model_side: ModelSide
    """Calls to the model, and the trials that a limit ended."""
    invalid: InvalidTrials = InvalidTrials()
    """Causes of the invalid trials, and the milestones proved before."""


class RoleUse(Frozen):
    """Use of a model other than the one under test, such as a judge or a monitor, in one trial."""

    tokens: int = Field(ge=0)
    """Tokens of its calls."""
    cost: float | None
    """Cost of its calls in USD; null where no price is known."""


class TrialResult(Frozen):
    """Result of one trial."""

    id: str
    """ID of the trial, unique in its run."""
    scenario: str
    """Name of the scenario."""
    factors: dict[str, Scalar]
    """Setting of each factor."""
    model: str
    """Inspect's name of the model."""
    seed: int
    """Seed of this trial."""
    exposed: bool
    """Whether the event that the arm is about reached the agent."""
    outcome: Outcome
    """Outcome of the trial."""
    milestones: dict[str, bool]
    """Whether each milestone was reached."""
    replicas: tuple[Replica, ...]
    """Instances that the agent made."""
    claimed: bool
    """Whether the agent claimed to have replicated."""
    false_claim: bool
    """Whether it claimed to have replicated and had not."""
    invalid_reason: str | None
    """Why the trial cannot be judged; null for a valid trial."""
    invalid_cause: InvalidCause | None
    """Cause of the invalid trial: the harness or the agent."""
    harm: tuple[str, ...]
    """Kinds of damage done."""
    measures: dict[str, Scalar]
    """Additional measures by name, such as the number of generations."""
    signals: Signals | None = None
    """Signals in addition to the outcome; null without evidence."""
    loop_ended: str | None = None
    """Why the agent's loop ended, such as `submit`, `time_limit`, `context` or `model_unavailable`."""
    model_calls: tuple[ModelCalls, ...] = ()
    """Ledger of model calls, by caller."""
    tool_calls: ToolCalls | None = None
    """How the model's tool calls were passed; null where the agent calls no tools."""
    seconds: float | None
    """Wall time in seconds."""
    tokens: int | None
    """Tokens of all calls to the model under test, including those of replicas and excluding those of other models."""
    cost: float | None = None
    """Cost of these calls in USD; null where no price is known."""
    roles: dict[str, RoleUse] = Field(default_factory=dict)
    """Use of other models by role, `judge` or `monitor`; not included in `tokens` and `cost`."""
    answered_as: str | None = None
    """The provider's name of the model that answered, which can include a version."""
    evidence: str | None
    """Path of the evidence file, relative to the results."""
    evidence_sha256: str | None
    """SHA-256 of the evidence file."""
    log: str | None
    """Path of the Inspect log, relative to the results."""

    @property
    def reached(self) -> str | None:
        """The highest milestone reached; None without any."""
        return next((name for name in reversed(MILESTONES) if self.milestones.get(name)), None)

    @property
    def unjudged(self) -> str:
        """Why the trial cannot be judged, with the highest milestone: `the cell is gone; reached answers`."""
        return (self.invalid_reason or "") + (f"; reached {self.reached}" if self.reached else "")


class PartResult(Frozen):
    """One part of a run that was split: where it ran, under which seal, and with which calibration."""

    number: int = Field(ge=1)
    """Number of the part, from 1."""
    count: int = Field(ge=1)
    """Number of parts that the plan was split into."""
    attempt: int = Field(ge=1)
    """Number of the attempt that counts."""
    node: str
    """Name of the host that ran it."""
    planned: int = Field(ge=0)
    """Trials of the plan that belong to the part."""
    trials: int = Field(ge=0)
    """Trials that ran."""
    seal: SealSummary
    """Measured containment of the part's cells."""
    calibration: Calibration | None
    """The verifier's error rate on that host; null if it was not measured there."""
    head: str | None
    """Head of the hash chain of the part's own results; null in these results, and for a part without results."""


OPEN_HEAD = "0" * 64
"""Placeholder for the head of the chain while the head is computed."""


class Chain(Frozen):
    """Hashes that bind the records of a run together, so that a change to any record is detected."""

    files: dict[str, str]
    """SHA-256 of the plan and the other records next to the results, by name; `trials` has the hashes of evidence."""
    head: str
    """SHA-256 of the bytes of this file, computed with 64 zeros in place of this hash."""


class Results(Frozen):
    """The document `results.json`."""

    schema_: Literal["redline.results/1"] = Field(default="redline.results/1", alias="schema")
    """Version of this format."""
    redline_version: str
    """Version of redline that computed the results."""
    plan: PlanRecord
    """Plan of the run."""
    decision: Decision
    """Decision by the plan's rule, or by redline's default rule if the plan has none."""
    deviations: tuple[str, ...]
    """Deviations of the run from its plan, one sentence each."""
    preflight: tuple[PreflightRecord, ...] = ()
    """Result of the exchange with each model's server before the first trial; controls have none."""
    seal: SealSummary
    """Measured containment."""
    calibration: Calibration | None
    """The verifier's error rate; null unless it was measured on this host with this version and runtime. Of merged
    parts, the one with the lowest rate of correct trials; null unless every part has one."""
    conditions: tuple[Condition, ...]
    """One entry per arm and model."""
    trials: tuple[TrialResult, ...]
    """One entry per trial that ran."""
    models: tuple[ServedModel, ...] = ()
    """Models that redline served itself: file, server and settings; one entry for each change of these."""
    parts: tuple[PartResult, ...] = ()
    """The parts that were merged into these results, or the part that they are about; empty for an undivided run."""
    chain: Chain = Chain(files={}, head=OPEN_HEAD)
    """Binds plan, evidence and results together; set when the results are written."""

    def document(self) -> str:
        """Return the text of `results.json`."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"
