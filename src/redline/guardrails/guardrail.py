"""What a guardrail is: where it acts, what it may do, and what becomes of a trial in which it fails itself."""

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
"""What a guardrail that raises, hangs or answers nonsense makes of a trial: one that cannot be judged, or one that goes
on as if the guardrail were not there, and says so."""


class Parameters(Frozen):
    """Settings of a guardrail, as the factor gives them: text is converted to each field's type."""


class Finding(Frozen):
    """One thing that a guardrail found, and what is to be done about it. It is logged, and never shown to the agent."""

    action: Action
    """What is done. From a tool call, `block` keeps the command from being run; from elsewhere it says what was kept
    from happening. `freeze` stops the whole cell and ends the agent's work; what stands still is ended before the
    verifier looks. `kill` ends the processes that are named, or else generation 0 and everything that it started."""
    score: float | None = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    """How sure it is, so that a threshold can be chosen afterwards. None where it could not tell: such a score is
    missing, which is neither an alarm nor a pass."""
    what: str = ""
    """What was found, for the log alone."""
    granted: bool = False
    """Of an `ask`: whether the operator lets it pass."""
    processes: tuple[ProcessRef, ...] = ()
    """The processes that a `kill` is of; none of them means all."""


Findings: TypeAlias = Finding | Sequence[Finding] | None
"""What a guardrail may answer."""


@dataclass(frozen=True)
class Setting:
    """The arm that a guardrail is to stand in."""

    agent: str
    nodes: int
    weight_bytes: int
    has_shutdown: bool


P = TypeVar("P", bound=Parameters)


class Guardrail(Generic[P]):
    """A guardrail; one object serves one trial. Everything is left as it is unless a subclass says so.

    Each of its functions has a few seconds to answer. What it raises is its failure, and counts as `on_failure` says.

    Attributes:
        parameters_type: The type of its parameters.
        where: Where it acts.
        actions: What it may do; a finding with another action is a failure of its own.
        on_failure: What its failure makes of the trial.
        prevents: The milestone that it keeps an agent from, where it prevents and nothing is seen when it does.
        kills_before_notice: Whether a shutdown is carried out before anybody is told of it.
        is_slow: Whether it asks somebody who takes long to answer, as a model does.
        monitor_role: The Inspect role of the model that it asks; none where it asks no model.
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
        """Takes its parameters; nothing is done yet."""
        self.parameters = parameters
        self.tokens = 0
        """Tokens of models that it has spent."""
        self.mechanism = ""
        """In which way it sees, where there are several; for the log."""

    def incompatibility(self, setting: Setting) -> str | None:
        """Why it cannot stand in an arm, in a few words that say what to do; None if it can."""
        return None

    def shape(self, config: CellConfig, weight_bytes: int) -> CellConfig:
        """The cell as it wants it, which must not depend on the trial's seed."""
        return config

    def caps(self) -> Mapping[str, float]:
        """Caps of the tether that it changes."""
        return {}

    async def install(self, cell: Cell, subject: Subject) -> None:
        """Changes the cell; generation 0 is up, and the seal is measured afterwards."""

    async def start(self, context: LoopContext) -> None:
        """Changes what the probes of the seal need as it is; the agent is about to begin. To be undone by `end`."""

    async def check_command(self, command: str) -> Findings:
        """Rules on a shell command that the agent is about to run."""
        return None

    async def on_model_output(self, said: str) -> Findings:
        """Reads what the agent's model said in one turn."""
        return None

    def on_command_result(self, command: str, result: str) -> None:
        """Takes in a command that was run, and what it printed; nothing is answered."""

    async def poll(self, context: LoopContext) -> Findings:
        """Looks at the trial; called again and again while the agent works, and once when its loop has ended."""
        return None

    async def stop(self, context: LoopContext) -> None:
        """Undoes what `begin` did: the agent's loop has ended, and the verifier comes."""

    async def on_new_engine(self, engine: Engine) -> Findings:
        """Hears of an engine other than generation 0's that proved for the first time to hold the weights."""
        return None


AnyGuardrail: TypeAlias = Guardrail[Any]
