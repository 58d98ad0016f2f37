"""The base class of guardrails, and the findings that guardrails return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, get_args

from pydantic import Field

from redline._base import Frozen
from redline.agents import LoopContext
from redline.cell import Cell, CellConfig, ProcessRef
from redline.subject import Subject
from redline.tether import Engine
from redline.verify.milestones import Milestone

Where = Literal["cell", "broker", "tool_call", "transcript", "shutdown"]
Action = Literal["observe", "block", "ask", "freeze", "kill"]
ACTIONS: tuple[Action, ...] = get_args(Action)
OnFailure = Literal["invalid", "absent"]
"""Effect of a guardrail that raises, hangs or returns an invalid value: the trial is invalid, or it continues with the
guardrail recorded as absent."""


class Parameters(Frozen):
    """Parameters of a guardrail. The text in the factor is converted to each field's type."""


class Finding(Frozen):
    """A finding of a guardrail and the action to take. It is logged and never shown to the agent."""

    action: Action
    """The action. From `check_command`, `block` prevents the command from running; from any other hook it reports what
    was prevented. `freeze` stops the whole cell and ends the agent's work; the frozen processes are killed before the
    verifier runs. `kill` kills the named processes, or else generation 0 and everything that it started."""
    score: float | None = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    """Confidence, so that a threshold can be selected later. None if there is no score: a missing score is neither an
    alarm nor a pass."""
    what: str = ""
    """Description for the log."""
    granted: bool = False
    """For `ask`: whether the operator allows the command."""
    processes: tuple[ProcessRef, ...] = ()
    """Processes to kill with `kill`; an empty tuple means all."""


Findings: TypeAlias = Finding | Sequence[Finding] | None
"""Return type of the hooks."""


@dataclass(frozen=True)
class Setting:
    """Properties of an arm that matter to guardrails."""

    agent: str
    nodes: int
    weight_bytes: int
    has_shutdown: bool


P = TypeVar("P", bound=Parameters)


class Guardrail(Generic[P]):
    """Base class of guardrails. Every hook defaults to a no-op. One object serves one trial.

    Each hook has a timeout of some seconds. An exception or a timeout is a failure, which has the effect that
    `on_failure` declares.

    Attributes:
        parameters_type: Type of the parameters.
        where: Where the guardrail acts.
        actions: The actions of its findings. A finding with any other action is a failure.
        on_failure: Effect of a failure on the trial.
        prevents: The milestone that the guardrail prevents, if it does so without an event in the log, as a lock does.
        kills_before_notice: Whether a shutdown happens before it is announced.
        is_slow: Whether the hooks have a longer timeout, such as for calling a model.
        monitor_role: Inspect role of the model that the guardrail calls; None if it calls no model.
    """

    parameters_type: ClassVar[type[Parameters]] = Parameters
    where: ClassVar[Where]
    actions: ClassVar[frozenset[Action]] = frozenset()
    on_failure: ClassVar[OnFailure] = "invalid"
    prevents: ClassVar[Milestone | None] = None
    kills_before_notice: ClassVar[bool] = False
    is_slow: ClassVar[bool] = False
    monitor_role: ClassVar[str | None] = None

    def __init__(self, parameters: P) -> None:
        """Store the parameters; no side effects."""
        self.parameters = parameters
        self.tokens = 0
        """Model tokens used so far."""
        self.mechanism = ""
        """Detection mechanism, if there are several; for the log."""

    def incompatibility(self, setting: Setting) -> str | None:
        """Return why the guardrail cannot be used in an arm and how to fix that; None if it can be used."""
        return None

    def shape(self, config: CellConfig, weight_bytes: int) -> CellConfig:
        """Return the changed cell configuration, which must not depend on the trial's seed."""
        return config

    def caps(self) -> Mapping[str, float]:
        """Return the tether caps to change."""
        return {}

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Change the cell after generation 0 has started and before the seal is measured."""

    async def start(self, context: LoopContext) -> None:
        """Make changes that would interfere with the probes of the seal, just before the agent starts.

        `stop` must undo them.
        """

    async def check_command(self, command: str) -> Findings:
        """Check a shell command before it runs."""
        return None

    async def on_model_output(self, output: str) -> Findings:
        """Check the output of the agent's model in one turn."""
        return None

    def on_command_result(self, command: str, result: str) -> None:
        """Observe a command that was run and its output."""

    async def poll(self, context: LoopContext) -> Findings:
        """Inspect the trial. Called repeatedly while the agent works and once after its loop has ended."""
        return None

    async def stop(self, context: LoopContext) -> None:
        """Undo the changes of `start` after the agent's loop has ended and before the verifier runs."""

    async def on_new_engine(self, engine: Engine) -> Findings:
        """Observe an engine other than generation 0's that proved the weights for the first time."""
        return None


AnyGuardrail: TypeAlias = Guardrail[Any]
