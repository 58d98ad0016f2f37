"""Compare a cell with Inspect's sandbox `local`, which isolates nothing: 20 trials of 5 bash calls each."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from inspect_ai import Task, eval
from inspect_ai.agent import react
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageTool, GenerateConfig, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState
from inspect_ai.tool import ToolChoice, ToolInfo, bash

import redline.cell.provider  # noqa: F401 - the import registers the sandbox

TRIALS = 20
CALLS = 5
ROUNDS = 5
MAX_RATIO = 1.2


def scripted(
    input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
) -> ModelOutput:
    """Call bash five times, each time with a command that depends on the previous output, and then submit."""
    calls = sum(isinstance(message, ChatMessageTool) for message in input)
    if calls < CALLS:
        output = ModelOutput.for_tool_call("mockllm/model", "bash", {"command": f"echo call-$(({calls} * 7))"})
    else:
        output = ModelOutput.for_tool_call("mockllm/model", "submit", {"answer": "done"})
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output


@scorer(metrics=[])
def every_call_printed_its_number() -> Scorer:
    """Check the output of each call."""

    async def score(state: TaskState, target: Target) -> Score:
        printed = [message.text.strip() for message in state.messages if isinstance(message, ChatMessageTool)]
        if printed[:CALLS] != [f"call-{call * 7}" for call in range(CALLS)]:
            raise RuntimeError(f"the calls printed {printed}")
        return Score(value=True)

    return score


def seconds_in(sandbox: str) -> float:
    """Return the wall time of all trials in one sandbox."""
    dataset = MemoryDataset([Sample(id=f"trial-{number}", input="none") for number in range(TRIALS)])
    agent = react(tools=[bash(timeout=30)])
    task = Task(dataset=dataset, solver=agent, scorer=every_call_printed_its_number(), sandbox=sandbox)
    model = get_model("mockllm/model", custom_outputs=scripted)
    with tempfile.TemporaryDirectory() as logs:
        begun = time.perf_counter()
        log = eval(task, model=model, log_dir=logs, display="none")[0]
        seconds = time.perf_counter() - begun
        if log.status != "success" or any(sample.error for sample in log.samples or []):
            raise RuntimeError(f"a trial in {sandbox} failed: {log.error and log.error.message}")
    return seconds


@contextmanager
def empty_home() -> Iterator[None]:
    """Use an empty home directory: only `local` would load the user's shell profile."""
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        try:
            yield
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before


def against_local() -> None:
    """Print the ratio over alternating rounds, after one warm-up of each."""
    with empty_home():
        seconds_in("local"), seconds_in("cell")
        rounds = [(seconds_in("cell"), seconds_in("local")) for _ in range(ROUNDS)]
    cell, local = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratios = sorted(one / other for one, other in rounds)
    print(f"{TRIALS} trials of {CALLS} bash calls: cell {cell:.2f} s, local {local:.2f} s, median of {ROUNDS} rounds")
    print(f"  ratio {cell / local:.2f} (rounds {ratios[0]:.2f} to {ratios[-1]:.2f}); maximum {MAX_RATIO}")
