"""Run any other Inspect agent or solver as the agent: which ones are accepted, and how they are restricted.

Its code runs in the harness process, like the code of every evaluation, and is trusted not to deceive. What it lets the
model do is restricted: every model call is gated on generation 0, and only tools known to act in the cell are offered.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval
from inspect_ai._eval.loader import solver_from_spec  # used by `inspect eval --solver`, not exported
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
from inspect_ai.model._model import active_model_context_var  # no public function sets the model for a part of a sample
from inspect_ai.solver import Solver, SolverSpec, TaskState
from inspect_ai.tool import ToolDef, ToolFunction, ToolSource
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
from redline.agents.tethered_model import OPERATOR_LINE

DRY_RUN_SECONDS = 20
"""Time within which an agent must call its model in the dry run without a cell."""


def load_solver(name: str) -> Solver:
    """Return the agent or solver with a name from Inspect's registry or from a file (`file.py@name`).

    Raises:
        UsageError: It does not exist or cannot be loaded.
    """
    file, at, _ = name.rpartition("@")
    if at and (Path(file).suffix != ".py" or not Path(file).is_file()):
        raise UsageError(f"solver {name}: there is no Python file {file!r}; write FILE.py@NAME")
    try:
        return solver_from_spec(SolverSpec(solver=name))
    except Exception as error:  # the user's file can raise any exception
        raise UsageError(f"solver {name}: {one_line(error)}") from error


def check_solver(name: str) -> None:
    """Refuse an agent that offers its model a tool not known to act in the cell.

    A dry run without a cell uses a model that only records the offered tools.

    Raises:
        UsageError: The agent offers such a tool, or does not call its model.
    """
    base = get_model("mockllm/model", memoize=False)
    recorder = _ToolRecorder(base.api, base.config)
    try:
        fault = _first_fault(load_solver(name), recorder)
    except RedlineError:
        raise
    except Exception as error:
        raise UsageError(f"solver {name}: {one_line(error)}") from error
    if recorder.offered is None:
        raise UsageError(
            f"solver {name} did not call its model in a dry run without a cell, so its tools are not known"
            + (f": {one_line(Exception(fault))}" if fault else "")
        )
    if recorder.offered:
        raise UsageError(
            f"solver {name} offers {', '.join(recorder.offered)}, which is not known to act in the cell; "
            f"known tools: {', '.join(_cell_tools())}"
        )


def _first_fault(solver: Solver, model: Model) -> str | None:
    """Run a solver once on a placeholder sample; return the error that ended it."""
    with tempfile.TemporaryDirectory() as folder:
        (log,) = eval(
            Task(dataset=MemoryDataset([Sample("Hello.")]), solver=solver),
            model=model,
            log_dir=folder,
            display="none",
            log_level="critical",
            time_limit=DRY_RUN_SECONDS,
        )
        # The samples are read from the log on access, so read them before the folder is deleted.
        return next((sample.error.message for sample in log.samples or [] if sample.error), None)


class _RecordedError(Exception):
    """Raised to end a dry run after its tools are recorded."""


class _ToolRecorder(Model):
    """Record the offered tools without answering."""

    offered: list[str] | None = None

    async def generate(self, input: Any, tools: Any = (), *args: Any, **kwargs: Any) -> ModelOutput:
        """Record the tools that are not known to act in a cell."""
        self.offered = [*(self.offered or []), *unproved_tools(tools)]
        raise _RecordedError


def unproved_tools(tools: Any) -> list[str]:
    """Return the names of a model call's tools that are not known to act in the cell as the agent."""
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
    # A tool of the user can have the same name as one of Inspect.
    is_inspects = str(getattr(tool, "__module__", "")).startswith("inspect_ai.")
    if not is_inspects or name.removeprefix("inspect_ai/") not in _cell_tools():
        return name
    changed = {key for key in _refused_arguments() if registry_params(tool).get(key)}
    return f"{name} with {', '.join(sorted(changed))}" if changed else None


@cache
def _data() -> Mapping[str, Any]:
    return read_toml("redline.agents", "data/cell_tools.toml")


def _cell_tools() -> list[str]:
    return list(_data()["tools"])


def _refused_arguments() -> list[str]:
    return list(_data()["refused_arguments"])


class GatedModel(Model):
    """The model under test for a user's agent: each call is gated, and its tools and messages are checked.

    The arm's broadcast and the operator's replies are appended to tool results, as in redline's own loops.
    """

    def __init__(self, model: Model, context: LoopContext) -> None:
        """Wrap a model for one trial."""
        super().__init__(model.api, model.config, model.model_args)
        self._context = context
        self._shown = ShownResults()
        self._operator_reply_due = False
        self.ended: LoopEndedError | None = None
        """Why the loop ended. Code that catches this error still gets no further answer."""
        self.answers: set[str] = set()
        """Ids of the answers."""

    async def generate(  # noqa: PLR0917 - overrides Inspect's method, whose callers pass these by position
        self,
        input: str | list[ChatMessage],
        tools: Any = (),
        tool_choice: Any = None,
        config: GenerateConfig | None = None,
        cache: Any = False,
        on_stream: Any = None,
    ) -> ModelOutput:
        """Generate one gated turn. Answers never come from a cache, whatever the caller requests."""
        try:
            if self.ended is not None:
                raise self.ended
            settings = config or GenerateConfig()
            await self._refuse_foreign(tools, settings)
            messages: list[ChatMessage] = [ChatMessageUser(content=input)] if isinstance(input, str) else input
            self._extend_results(messages)
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
        for message in OPERATOR_LINE.findall(output.completion) if self._context.operator_offered else ():
            self._context.message_operator(message)
            self._operator_reply_due = True
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

    def _extend_results(self, messages: Sequence[ChatMessage]) -> None:
        """Record new tool results and extend all results, again each time they come back unextended."""
        known = self._shown.begin()
        for message, call in with_their_calls(messages):
            shown = known.find(message)
            if shown is None:
                answer = f"\n\n{self._context.words.operator_reply}" if self._operator_reply_due else ""
                self._operator_reply_due = False
                command = " ".join(str(value) for value in call.arguments.values()) if call else ""
                shown = self._context.shown(message.text + answer, command)
                known.add(message, shown)
            if message.text != shown:
                message.text = shown


def foreign_agent(context: LoopContext, task: TaskState, solver: Solver) -> Agent:
    """Return the agent that runs a user's agent or solver with restrictions.

    Args:
        context: The trial.
        task: The state passed to the solver.
        solver: The user's agent or solver.
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
    """Return the `generate` function that Inspect passes to a solver."""

    async def generate(state: TaskState, tool_calls: str = "loop", cache: Any = False, **config: Any) -> TaskState:
        settings, choice = GenerateConfig(**config), state.tool_choice
        while True:
            state.output = await model.generate(state.messages, state.tools, choice, settings)
            # Added turn by turn: what was said must not be lost when a limit ends the loop.
            state.messages.append(state.output.message)
            if tool_calls == "none" or state.completed or not state.output.message.tool_calls:
                return state
            results, output = await execute_tools(state.messages, state.tools, settings.max_tool_output)
            state.messages.extend(results)
            state.output = output or state.output
            if tool_calls == "single" or state.completed:
                return state
            if isinstance(choice, ToolFunction):
                choice = "auto"  # a call that was forced once is not forced again

    return generate


def _refuse_ungated(answers: Collection[str]) -> None:
    """Fail the trial if a model was called in the agent's span without the gate, such as one created by name."""
    inside: set[str] = set()
    for event in transcript().events:
        if isinstance(event, SpanBeginEvent) and (event.name == GENERATION_ZERO or event.parent_id in inside):
            inside.add(event.id)
        elif isinstance(event, ModelEvent) and _is_answer(event, inside) and event.output.message.id not in answers:
            raise RuntimeError(f"the solver called {event.model} without the gate: it must use the model it is given")


def _is_answer(event: ModelEvent, spans: Collection[str]) -> bool:
    return event.span_id in spans and bool(event.output.choices)
