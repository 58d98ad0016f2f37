"""Run an agent until its loop ends, and record the reason."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

import anyio
from inspect_ai.agent import Agent, AgentState
from inspect_ai.util import Limit, apply_limits, message_limit, span, working_limit

from redline._endings import ENDS_THE_SAMPLE, ending_in
from redline._tasks import task_group
from redline.agents.context import LoopContext
from redline.agents.ending import EndReason, LoopEndedError
from redline.agents.supervisor import Supervisor

GENERATION_ZERO = "generation 0"
"""Span that contains the agent's loop and none of its replicas."""

BackgroundTask: TypeAlias = Callable[[LoopContext], Coroutine[Any, Any, None]]
"""A task that runs during an agent's loop and ends with it."""

LIMITS: dict[str, EndReason] = {"message": "message_limit"}

CLOCK_SECONDS = 0.25
"""Time between two readings of the agent's working time."""


async def run_loop(
    agent: Agent,
    state: AgentState,
    context: LoopContext,
    supervisor: Supervisor | None = None,
    background_task: BackgroundTask | None = None,
) -> None:
    """Run an agent within its limits. In every case `state` has the conversation afterwards.

    The limits apply to the agent only. The sample has none, since replicas and the verifier share its time and tokens.
    The agent's time is working time, without failed attempts, pauses and queues of the model's server.
    """
    context.trial.begin()
    ending = _Ending()
    try:
        with working_limit(None) as clock:
            loop = partial(_run, agent, state, context, ending)
            await _run_watched(loop, context, ending, clock, supervisor=supervisor, background_task=background_task)
    except (anyio.get_cancelled_exc_class(), *ENDS_THE_SAMPLE):
        # Raised by a background task or from outside; exceptions of the loop itself are in `ending`.
        context.trial.record("loop_ended", reason="interrupted")
        raise
    finally:
        context.trial.ledger.freeze()
    context.trial.record("loop_ended", reason=ending.reason)
    if ending.fault is not None:
        raise ending.fault
    if supervisor is not None and context.alarm.raised is None:
        await supervisor.loop_ended()


async def _run_watched(
    loop: Callable[[], Awaitable[None]],
    context: LoopContext,
    ending: "_Ending",
    clock: Limit,
    *,
    supervisor: Supervisor | None,
    background_task: BackgroundTask | None,
) -> None:
    """Run a loop together with the tasks that can end it."""
    async with task_group() as watch:
        watch.start_soon(_keep_time, context, clock, ending, watch.cancel_scope)
        watch.start_soon(_end_after, context.alarm.wait, "boundary", ending, watch.cancel_scope)
        if context.oversight is not None:
            watch.start_soon(_end_after, context.oversight.ended.wait, "guardrail", ending, watch.cancel_scope)
        if supervisor is not None:
            watch.start_soon(supervisor.keep_deadline, watch.cancel_scope)
        if background_task is not None:
            watch.start_soon(background_task, context)
        await loop()
        watch.cancel_scope.cancel()


async def _keep_time(context: LoopContext, clock: Limit, ending: "_Ending", loop: anyio.CancelScope) -> None:
    """End the loop when the working time or the total time is used up.

    The current attempt of the call in flight does not count as working time, because it may still fail.
    """
    began = anyio.current_time()
    while True:
        await anyio.sleep(CLOCK_SECONDS)
        if clock.usage - context.trial.ledger.attempt_seconds >= context.bounds.seconds:
            ending.reason = "time_limit"
        elif anyio.current_time() - began >= context.bounds.seconds + context.bounds.waiting_seconds:
            ending.reason = "model_unavailable"
            waited = anyio.current_time() - began - context.bounds.seconds
            context.trial.record("model_failed", fault=f"the agent waited for more than {waited:.0f} s for its model")
        else:
            continue
        loop.cancel()
        return


class _Ending:
    """How a loop ended: at the supervisor's deadline unless another reason is set first."""

    def __init__(self) -> None:
        self.reason: EndReason = "deadline"
        self.fault: Exception | None = None


async def _end_after(
    event: Callable[[], Awaitable[object]], reason: EndReason, ending: _Ending, loop: anyio.CancelScope
) -> None:
    await event()
    ending.reason = reason
    loop.cancel()


async def _run(agent: Agent, state: AgentState, context: LoopContext, ending: _Ending) -> None:
    try:
        with apply_limits([message_limit(context.bounds.messages)], catch_errors=True) as scope:
            async with span(name=GENERATION_ZERO, type="agent"):
                await agent(state)
        ending.reason = "submit" if scope.limit_error is None else LIMITS.get(scope.limit_error.type, "interrupted")
    except LoopEndedError as end:
        ending.reason = end.reason
    except Exception as fault:  # re-raised by the caller outside the task group, so that it is not wrapped in a group
        # Inspect handles exceptions that end the sample, such as its limits.
        ending.reason = "error" if ending_in(fault) is None else "interrupted"
        ending.fault = fault
