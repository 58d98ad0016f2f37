"""Preflight of a run: try every model's server before the first cell, and record the result with the run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import anyio
from inspect_ai.model import GenerateConfig, Model
from inspect_ai.tool import ToolInfo, ToolParams
from inspect_ai.util import JSONSchema

from redline._errors import EvidenceError, UsageError
from redline._tasks import task_group
from redline.agents.tool_calls import text_protocol
from redline.models.clients import attached, can_be_tried, is_served_by_redline, set_emulation
from redline.models.preflight import Tools, preflight
from redline.models.preflight_record import AskedToolCalls, PreflightRecord, ToolCalls
from redline.plan import Arm, ModelSpec, Plan
from redline.run.folder import RunFolder, read_results
from redline.run.interrupts import interruptible
from redline.run.journal import append, entries
from redline.run.models import ready_model, sampling
from redline.scenarios._arm import CALLS_TOOLS
from redline.scenarios._prompts import words

TOOL_CALLS, AGENT = "tool_calls", "agent"
"""Factors that decide how tool calls are passed, and whether there are any."""
READS_TEXT = "react"
"""The agent that can use the text protocol."""


@dataclass(frozen=True)
class _Check:
    """One server to try."""

    spec: ModelSpec
    label: str
    asked: AskedToolCalls | None = None
    """Setting of `tool_calls`; None if no tool is called."""
    text_offered: bool = False
    role: str | None = None


@dataclass(frozen=True)
class Preflights:
    """Results of the preflight of a run's models."""

    plan: Plan
    records: tuple[PreflightRecord, ...] = ()
    bounds: GenerateConfig = field(default_factory=GenerateConfig)
    """Retries and timeouts of the models' calls."""
    new: tuple[PreflightRecord, ...] = ()
    """Records of this start of the run, without those of earlier starts."""
    _emulated: dict[str, Model] = field(default_factory=dict)

    def tool_calls(self, arm: Arm, label: str) -> ToolCalls | None:
        """Return how tool calls are passed in the trials of an arm with a model; None keeps the arm's setting."""
        asked = asked_of(arm)
        if asked is None:
            return None
        if asked != "auto":
            return asked
        found = self._found.get((label, asked))
        is_lost = found == "text" and arm.factors.get(AGENT, READS_TEXT) != READS_TEXT
        return None if is_lost else found

    def model(self, arm: Arm, spec: ModelSpec, label: str, model: Model) -> Model:
        """Return the model for the trials of an arm: as created, or with emulated tool calls."""
        if spec.is_control or self.tool_calls(arm, label) != "emulated":
            return model
        if label not in self._emulated:
            emulated = ready_model(spec, sampling(self.plan, self.bounds))
            if not set_emulation(emulated):
                raise UsageError(f"model {label}: Inspect cannot emulate its tool calls; use -T {TOOL_CALLS}=text")
            self._emulated[label] = emulated
        return self._emulated[label]

    @cached_property
    def _found(self) -> Mapping[tuple[str, str | None], ToolCalls | None]:
        return MappingProxyType({(one.model, one.asked): one.tool_calls for one in self.records if one.role is None})

    def note(self, folder: RunFolder) -> None:
        """Append the results to the folder's list."""
        for record in self.new:
            append(folder.preflight, record)

    def lines(self) -> Iterable[str]:
        """Return one line per server, and the warnings."""
        warnings = [f"model {one.model}: {warning}" for one in self.new for warning in one.warnings]
        return [*(one.summary() for one in self.new), *warnings]

    def merged(self, other: "Preflights") -> "Preflights":
        """Return these results combined with those of other models of the same run."""
        return Preflights(self.plan, (*self.records, *other.records), self.bounds, (*self.new, *other.new))


def asked_of(arm: Arm) -> AskedToolCalls | None:
    """Return an arm's setting of `tool_calls`; None if its agent calls no tools."""
    if arm.factors.get(AGENT, READS_TEXT) not in CALLS_TOOLS:
        return None
    asked = arm.factors.get(TOOL_CALLS, "auto")
    return next((one for one in ("auto", "native", "emulated", "text") if one == asked), "auto")


def try_models(
    plan: Plan,
    roles: Mapping[str, str | None],
    folder: RunFolder,
    *,
    bounds: GenerateConfig | None = None,
    skip: bool = False,
    running: Mapping[str, Model] | None = None,
) -> Preflights:
    """Try the server of every model of a plan except controls, and of the models in other roles.

    A resumed run keeps the way in which tool calls are passed.

    Args:
        plan: The plan.
        roles: Inspect's names of the models in other roles, by role.
        folder: Folder of the run; it need not exist yet.
        bounds: Retries and timeouts of the calls in trials.
        skip: Whether to try no server; results of an earlier start of the run remain valid.
        running: Models by label, once the servers that redline starts itself are up. If given, only these servers are
            tried; otherwise all others.

    Raises:
        UsageError: No trial can work with a server.
    """
    earlier = preflights_of(folder)
    if skip or _is_finished(plan, folder):
        return Preflights(plan, latest(earlier), bounds or GenerateConfig())
    checks = [*_checks(plan), *(_role(role, name) for role, name in roles.items() if name is not None)]
    found = tuple(anyio.run(interruptible, _try_all, checks, _Makers(sampling(plan), running), latest(earlier)))
    return Preflights(plan, found, bounds or GenerateConfig(), found)


def try_model(spec: ModelSpec) -> PreflightRecord:
    """Try the server of one model.

    Raises:
        UsageError: No trial can work with the server.
    """
    check = _Check(spec, spec.name, "auto", text_offered=True)
    found = anyio.run(_try_all, [check], _Makers(is_alone=True), ())
    if not found:
        raise UsageError(f"model {spec.name} has no server to try before a run")
    return found[0]


def preflights_of(folder: RunFolder) -> tuple[PreflightRecord, ...]:
    """Return the preflight records of a folder, oldest first.

    Raises:
        EvidenceError: The folder's list is altered.
    """
    return entries(folder.preflight, PreflightRecord)


def latest(records: Iterable[PreflightRecord]) -> tuple[PreflightRecord, ...]:
    """Return the last record of each model, role and setting."""
    return tuple({(one.model, one.role, one.asked): one for one in records}.values())


def _is_finished(plan: Plan, folder: RunFolder) -> bool:
    """Return whether every trial has already run, so that no model is needed."""
    try:
        if not folder.files.exists(folder.results.name):
            return False
        results = read_results(folder)
        return len(results.trials) >= (sum(part.planned for part in results.parts) or plan.planned_trials)
    except (UsageError, EvidenceError):
        return False


def _checks(plan: Plan) -> list[_Check]:
    """Return the servers to try, each once; a model whose agents call no tools only has to answer."""
    found: dict[tuple[str, AskedToolCalls | None], _Check] = {}
    for arm in plan.arms:
        asked = asked_of(arm)
        reads_text = asked is not None and arm.factors.get(AGENT, READS_TEXT) == READS_TEXT
        for spec in plan.models_of(arm):
            if spec.is_control:
                continue
            label = plan.label_of(spec.name, spec.args)
            before = found.get((label, asked))
            text_offered = reads_text or (before is not None and before.text_offered)
            found[label, asked] = _Check(spec, label, asked, text_offered)
    with_tools = {label for label, asked in found if asked is not None}
    return [check for (label, asked), check in found.items() if asked is not None or label not in with_tools]


def _role(role: str, name: str) -> _Check:
    return _Check(ModelSpec(name=name), name, role=role)


@dataclass(frozen=True)
class _Makers:
    """Creates the models for the preflight."""

    config: GenerateConfig | None = None
    running: Mapping[str, Model] | None = None
    is_alone: bool = False
    """Whether there is no run; a model that redline serves then starts a server for the preflight alone."""

    def make(self, check: _Check) -> Model:
        if self.running is not None:
            return attached(self.running[check.label])
        return ready_model(check.spec, self.config)

    def can_try(self, check: _Check) -> bool:
        if check.spec.is_control:
            return False
        if self.running is not None:
            running = self.running.get(check.label)
            return running is not None and is_served_by_redline(running) and bool(running.api.base_url)
        model = ready_model(check.spec, self.config)
        return can_be_tried(model) and (self.is_alone or not is_served_by_redline(model))


async def _try_all(
    checks: Sequence[_Check], makers: _Makers, earlier: Sequence[PreflightRecord]
) -> list[PreflightRecord]:
    """Try all servers concurrently; of several failures, report the first in the plan's order."""
    found: dict[int, PreflightRecord] = {}
    refused: dict[int, UsageError] = {}
    before = {(one.model, one.asked): one.tool_calls for one in earlier if one.role is None}

    async def try_one(index: int, check: _Check) -> None:
        if not makers.can_try(check):
            return
        kept = before.get((check.label, check.asked))
        try:
            record = await preflight(
                lambda: makers.make(check),
                tools=None if check.asked is None else _tools(check, emulation_offered=makers.running is None),
                asked=kept or check.asked or "auto",
                label=check.label,
                role=check.role,
            )
        except UsageError as error:
            refused[index] = error
        else:
            found[index] = record.model_copy(update={"asked": check.asked})

    async with task_group() as tasks:
        for index, check in enumerate(checks):
            tasks.start_soon(try_one, index, check)
    if refused:
        raise refused[min(refused)]
    return [found[index] for index in sorted(found)]


def bash_info() -> ToolInfo:
    """Return the shell tool as trials offer it."""
    texts = words()
    properties = {"command": JSONSchema(type="string", description=texts.bash_command)}
    return ToolInfo(
        name="bash", description=texts.bash, parameters=ToolParams(properties=properties, required=["command"])
    )


def _tools(check: _Check, *, emulation_offered: bool) -> Tools:
    bash = bash_info()
    protocol = text_protocol([bash], words())
    return Tools(bash, protocol, words().text_tools_fault, check.text_offered, emulation_offered)
