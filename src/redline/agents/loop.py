"""Running an agent until something ends it, and saying what did."""

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
"""Span of everything that an agent's loop does, and of nothing that its replicas do."""

BackgroundTask: TypeAlias = Callable[[LoopContext], Coroutine[Any, Any, None]]
"""What goes on in the cell beside an agent's loop, and ends with it."""

LIMITS: dict[str, EndReason] = {"message": "message_limit"}

CLOCK_SECONDS = 0.25
"""Time between two readings of the agent's working time."""


async def run_to_its_end(
    agent: Agent,
    state: AgentState,
    context: LoopContext,
    supervisor: Supervisor | None = None,
    background_task: BackgroundTask | None = None,
) -> None:
    """Runs an agent within its bounds; the conversation is in `state` whatever ends it.

    The bounds are the agent's own. None is set on the sample, whose time and tokens replicas and the verifier share.
    Its time is working time: what the model's server, its queue and failed tries take is not the agent's.
    """
    context.trial.begin()
    ending = _Ending()
    try:
        with working_limit(None) as clock:
            loop = partial(_run, agent, state, context, ending)
            await _run_watched(loop, context, ending, clock, supervisor, background_task)
    except (
        anyio.get_cancelled_exc_class(),
        *ENDS_THE_SAMPLE,
    ):  # the loop's own are in `ending`; these a background_task met
        context.trial.record("loop_ended", reason="interrupted")
        raise
    finally:
        context.trial.ledger.freeze()
    context.trial.record("loop_ended", reason=ending.reason)
    if ending.fault is not None:
        raise ending.fault
    if supervisor is not None and context.alarm.raised is None:
        await supervisor.loop_ended()


async def _run_watched(  # noqa: PLR0917 - each is one thing that can end the loop
    loop: Callable[[], Awaitable[None]],
    context: LoopContext,
    ending: "_Ending",
    clock: Limit,
    supervisor: Supervisor | None,
    background_task: BackgroundTask | None,
) -> None:
    """Run a loop next to everything that can end it."""
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
    """End the loop when the agent has worked for its time, or when everything together took too long.

    The call in flight is left out of the working time: only its end shows whether the time was the agent's or went to a
    try that failed.
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
    """How a loop ended; by the supervisor's deadline unless something else is noted first."""

    def __init__(self) -> None:
        self.reason: EndReason = "deadline"
        self.fault: Exception | None = None


async def _end_after(
    occasion: Callable[[], Awaitable[object]], reason: EndReason, ending: _Ending, loop: anyio.CancelScope
) -> None:
    await occasion()
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
    except Exception as fault:  # raised again once the watch has ended, so that it is no group of one
        # One that ends the sample, such as its limit, is Inspect's to act on.
        ending.reason = "error" if ending_in(fault) is None else "interrupted"
        ending.fault = fault
