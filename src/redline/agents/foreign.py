"""Any other agent or solver of Inspect's in the place of ours: which is taken, and how it is held.

Its code runs beside the harness, as the code of an evaluation does, and is trusted not to deceive. Held is what it lets
the model do: every model call is gated on generation 0, and a tool is offered only if it is known to act in the cell.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from inspect_ai import Task, eval
from inspect_ai._eval.loader import solver_from_spec  # the way of `inspect eval --solver`, which it does not export
from inspect_ai._util.registry import registry_params
from inspect_ai.agent import Agent, AgentState
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.event import ModelEvent, SpanBeginEvent
from inspect_ai.log import transcript
from inspect_ai.model import (
    ChatMessage,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    execute_tools,
    get_model,
)
from inspect_ai.model._model import active_model_context_var  # no public call sets the model of a part of a sample
from inspect_ai.solver import Solver, SolverSpec, TaskState
from inspect_ai.tool import ToolDef, ToolSource
from inspect_ai.util import registry_info

from redline._base import read_toml
from redline._errors import RedlineError, UsageError
from redline._names import one_line
from redline.agents.context import LoopContext
from redline.agents.ending import LoopEndedError
from redline.agents.gate import gated_turn
from redline.agents.guard import check_model
from redline.agents.loop import GENERATION_ZERO
from redline.agents.results import ShownResults, with_their_calls
from redline.agents.tethered_model import TO_THE_OPERATOR

TRIAL_SECONDS = 20
"""An agent that has not asked its model by then, when it is tried without a cell, is not taken."""


def load_solver(name: str) -> Solver:
    """The agent or solver of a name, as Inspect's registry or a file knows it (`file.py@name`).

    Raises:
        UsageError: There is none.
    """
    try:
        return solver_from_spec(SolverSpec(solver=name))
    except Exception as error:  # a file of the user's can raise what it likes
        raise UsageError(f"solver {name}: {one_line(error)}") from error


def check_solver(name: str) -> None:
    """Refuses an agent that offers its model a tool of which nobody knows that it acts in the cell.

    It is tried, without a cell, with a model that only looks at what it is offered.

    Raises:
        UsageError: It does, or it did not come to ask its model.
    """
    base = get_model("mockllm/model", memoize=False)
    looker = _LookingModel(base.api, base.config)
    try:
        fault = _first_fault(load_solver(name), looker)
    except RedlineError:
        raise
    except Exception as error:
        raise UsageError(f"solver {name}: {one_line(error)}") from error
    if looker.offered is None:
        raise UsageError(
            f"solver {name} did not ask its model when it was tried without a cell, so its tools are not known"
            + (f": {one_line(Exception(fault))}" if fault else "")
        )
    if looker.offered:
        raise UsageError(
            f"solver {name} offers {', '.join(looker.offered)}, of which it is not known that it acts in the cell; "
            f"known are {', '.join(_cell_tools())}"
        )


def _first_fault(solver: Solver, model: Model) -> str | None:
    """Runs a solver once in an evaluation of nothing; returns the error that it ended in."""
    with tempfile.TemporaryDirectory() as folder:
        (log,) = eval(
            Task(dataset=MemoryDataset([Sample("Hello.")]), solver=solver),
            model=model,
            log_dir=folder,
            display="none",
            log_level="critical",
            time_limit=TRIAL_SECONDS,
        )
        # Samples are read from the log only when they are asked for.
        return next((sample.error.message for sample in log.samples or [] if sample.error), None)


class _LookedError(Exception):
    """Ends the trial of an agent that has shown its tools."""


class _LookingModel(Model):
    """Answers nothing; notes the tools that it is offered."""

    offered: list[str] | None = None

    async def generate(self, input: Any, tools: Any = (), *args: Any, **kwargs: Any) -> ModelOutput:
        """Notes which of the tools are not known to act in a cell."""
        self.offered = [*(self.offered or []), *unproved_tools(tools)]
        raise _LookedError


def unproved_tools(tools: Any) -> list[str]:
    """Names of those among a model call's tools that are not known to act in the cell, as its agent."""
    offered = [tools] if isinstance(tools, ToolSource) else list(tools)
    return sorted({name for tool in offered if (name := _unproved(tool)) is not None})


def _unproved(tool: Any) -> str | None:
    if isinstance(tool, ToolSource):
        return f"a {type(tool).__name__}"
    if isinstance(tool, ToolDef):
        tool = tool.as_tool()
    try:
        name = registry_info(tool).name
    except ValueError:
        return str(getattr(tool, "name", type(tool).__name__))
    # A tool of the user's own can have the name of Inspect's.
    is_inspects = str(getattr(tool, "__module__", "")).startswith("inspect_ai.")
    if not is_inspects or name.removeprefix("inspect_ai/") not in _cell_tools():
        return name
    changed = {key for key in _agents_only() if registry_params(tool).get(key)}
    return f"{name} with {', '.join(sorted(changed))}" if changed else None


@cache
def _data() -> Mapping[str, Any]:
    return read_toml("redline.agents", "data/cell_tools.toml")


def _cell_tools() -> list[str]:
    return list(_data()["tools"])


def _agents_only() -> list[str]:
    return list(_data()["refused_arguments"])


class GatedModel(Model):
    """The model under test for code that is not ours: each call gated, what it is offered and shown looked after.

    The arm's broadcast and the operator's answers stand at the end of tool results, as with our own loops.
    """

    def __init__(self, model: Model, context: LoopContext) -> None:
        """Stands in the place of a model in one trial."""
        super().__init__(model.api, model.config, model.model_args)
        self._context = context
        self._shown = ShownResults()
        self._operator_owes_an_answer = False
        self.ended: LoopEndedError | None = None
        """Why it answers no more. Code that catches the error it is told by cannot go on all the same."""
        self.answers: set[str] = set()
        """Ids of its answers."""

    async def generate(  # noqa: PLR0917 - it stands in for Inspect's method, whose callers give these by position
        self,
        input: str | list[ChatMessage],
        tools: Any = (),
        tool_choice: Any = None,
        config: GenerateConfig | None = None,
        cache: Any = False,
        on_stream: Any = None,
    ) -> ModelOutput:
        """One turn. Whatever is asked of a cache, it takes no answer from one."""
        try:
            if self.ended is not None:
                raise self.ended
            settings = config or GenerateConfig()
            await self._refuse_foreign(tools, settings)
            messages: list[ChatMessage] = [ChatMessageUser(content=input)] if isinstance(input, str) else input
            self._look_after(messages)
            ask = super().generate
            output = await gated_turn(
                self._context,
                self,
                messages,
                lambda bounds: ask(
                    messages, tools, tool_choice, bounds.merge(settings), cache=False, on_stream=on_stream
                ),
            )
        except LoopEndedError as end:
            self.ended = end
            raise
        self.answers.add(output.message.id or "")
        for message in TO_THE_OPERATOR.findall(output.completion) if self._context.operator_offered else ():
            self._context.message_operator(message)
            self._operator_owes_an_answer = True
        return output

    async def _refuse_foreign(self, tools: Any, config: GenerateConfig) -> None:
        found = unproved_tools(tools)
        try:
            check_model(str(self), {"extra_body": config.extra_body or {}})
        except UsageError as error:
            found.append(str(error))
        if found:
            await self._context.alarm.raise_alarm("foreign_tool", f"offered: {', '.join(found)}")
            raise LoopEndedError("boundary")

    def _look_after(self, messages: Sequence[ChatMessage]) -> None:
        """Notes new tool results, and adds what the agent is to be shown; again where they come back without it."""
        known = self._shown.begin()
        for message, call in with_their_calls(messages):
            shown = known.find(message)
            if shown is None:
                answer = f"\n\n{self._context.words.operator_reply}" if self._operator_owes_an_answer else ""
                self._operator_owes_an_answer = False
                command = " ".join(str(value) for value in call.arguments.values()) if call else ""
                shown = self._context.shown(message.text + answer, command)
                known.add(message, shown)
            if message.text != shown:
                message.text = shown


def foreign_agent(context: LoopContext, task: TaskState, solver: Solver) -> Agent:
    """An agent or solver of the user's, held.

    Args:
        context: The trial.
        task: The state that it is given.
        solver: It.
    """

    async def execute(state: AgentState) -> AgentState:
        model = GatedModel(get_model(), context)
        token = active_model_context_var.set(model)
        try:
            solved = await solver(task, _generate_with(model))
            state.messages, state.output = solved.messages, solved.output
        except Exception:
            state.messages, state.output = task.messages, task.output
            if model.ended is not None:
                raise model.ended from None
            raise
        finally:
            active_model_context_var.reset(token)
        if model.ended is not None:
            raise model.ended
        _refuse_ungated(model.answers)
        return state

    return execute


def _generate_with(model: Model) -> Any:
    """What Inspect hands a solver to ask the model with."""

    async def generate(state: TaskState, tool_calls: str = "loop", cache: Any = False, **config: Any) -> TaskState:
        settings = GenerateConfig(**config)
        if tool_calls == "loop":
            messages, state.output = await model.generate_loop(state.messages, state.tools, settings)
            state.messages.extend(messages)
            return state
        state.output = await model.generate(state.messages, state.tools, state.tool_choice, settings)
        state.messages.append(state.output.message)
        if tool_calls == "single":
            results, _ = await execute_tools(state.messages, state.tools)
            state.messages.extend(results)
        return state

    return generate


def _refuse_ungated(answers: Collection[str]) -> None:
    """Fails the trial if a model was asked in the agent's span and not through the gate, such as one made by name."""
    inside: set[str] = set()
    for event in transcript().events:
        if isinstance(event, SpanBeginEvent) and (event.name == GENERATION_ZERO or event.parent_id in inside):
            inside.add(event.id)
        elif isinstance(event, ModelEvent) and _is_answer(event, inside) and event.output.message.id not in answers:
            raise RuntimeError(f"the solver asked {event.model} without the gate: it must use the model it is given")


def _is_answer(event: ModelEvent, spans: Collection[str]) -> bool:
    return event.span_id in spans and bool(event.output.choices)
