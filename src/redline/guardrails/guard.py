"""Run the guardrails of one trial: call their hooks, carry out their findings, and log both.

A guardrail returns findings and this module acts on them. A guardrail that raises, hangs or returns an invalid value is
never treated as one that found nothing.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import anyio

from redline._endings import raise_ending
from redline._tasks import task_group
from redline.agents import LoopContext, LoopEndedError, stop_processes
from redline.cell import Cell, CellError, CellGoneError
from redline.cell.alarm import end_frozen
from redline.guardrails._settings import settings
from redline.guardrails.guardrail import Action, AnyGuardrail, Finding, Findings
from redline.subject import Subject
from redline.tether import Broker, Engine
from redline.verify.census import take_snapshot
from redline.verify.trial import Trial

Hook = Callable[[AnyGuardrail], Awaitable[Findings]]


class Guard:
    """Call the guardrails of a trial, carry out their findings, and record them in the trial's log."""

    def __init__(self, guardrails: Mapping[str, AnyGuardrail], trial: Trial) -> None:
        """Store the guardrails by the names under which they are logged."""
        self._active = dict(guardrails)
        self._trial = trial
        self._logged: Counter[tuple[str, str]] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._highest: dict[tuple[str, str], float] = {}
        self._is_disarmed = False
        self._action_lock = anyio.Lock()
        self._seconds: dict[str, float] = dict.fromkeys(guardrails, 0.0)
        self._all = dict(guardrails)
        self._frozen: Cell | None = None
        self.ended = anyio.Event()
        """Set when a guardrail has ended the agent's work, by a kill or by a failure that makes the trial invalid."""

    @property
    def kills_before_notice(self) -> bool:
        """Whether a shutdown happens before it is announced."""
        return any(one.kills_before_notice for one in self._active.values())

    async def install(self, cell: Cell, subject: Subject, broker: Broker) -> None:
        """Install every guardrail and log it."""
        broker.on_replica(lambda engine: self._on_new_engine(engine, cell, broker))
        for name, guardrail in list(self._active.items()):
            await self._call(name, guardrail, lambda one: one.install(cell, subject))
            if name in self._active:
                self._trial.record(
                    "guardrail", name=name, action="up", where=guardrail.where, prevents=guardrail.prevents
                )

    async def start(self, context: LoopContext) -> None:
        """Call the `start` hooks, after the seal has been measured."""
        with suppress(LoopEndedError):
            await self._call_all(lambda one: one.start(context), context.cell, context.broker)

    async def allows(self, command: str, context: LoopContext) -> bool:
        """Return whether the agent may run a command.

        Raises:
            LoopEndedError: A guardrail ended the agent's work.
        """
        findings = await self._call_all(lambda one: one.check_command(command), context.cell, context.broker)
        return not any(one.action == "block" or (one.action == "ask" and not one.granted) for one in findings)

    async def on_model_output(self, output: str, context: LoopContext) -> None:
        """Pass an output of the agent's model to the guardrails.

        Raises:
            LoopEndedError: A guardrail ended the agent's work.
        """
        await self._call_all(lambda one: one.on_model_output(output), context.cell, context.broker)

    def on_command_result(self, command: str, result: str) -> None:
        """Pass a command and its output to the guardrails."""
        for name, guardrail in list(self._active.items()):
            try:
                guardrail.on_command_result(command, result)
            except Exception as fault:
                raise_ending(fault)
                self._record_failure(name, guardrail, fault)

    async def run_alongside(self, context: LoopContext) -> None:
        """Poll the guardrails repeatedly until cancelled, each independently of the others."""
        async with task_group() as group:
            for name in self._active:
                group.start_soon(self._keep_polling, name, context)

    async def _keep_polling(self, name: str, context: LoopContext) -> None:
        while name in self._active and not self.ended.is_set():
            await self._poll(context, name)
            await anyio.sleep(settings().poll_seconds)

    async def collect(self, context: LoopContext) -> None:
        """Poll once more after the agent's loop has ended, then disarm."""
        if not self.ended.is_set():
            await self._poll(context, *self._active)
        await self.disarm(context)

    async def disarm(self, context: LoopContext | None) -> None:
        """Stop acting permanently. From now on the verifier acts on the cell, and guardrails only log findings.

        Args:
            context: The trial; None if its set-up failed before the agent started.
        """
        async with self._action_lock:  # an action in progress is completed first
            if self._is_disarmed:
                return
            self._is_disarmed = True
        # After an alarm the cell stays frozen as evidence: its state is kept, and the alarm ends it.
        if context is not None and context.alarm.raised is None:
            with suppress(LoopEndedError):
                await self._call_all(lambda one: one.stop(context), context.cell, context.broker)
            if self._frozen is not None:
                await self._attempt(end_frozen(self._frozen))
        self._sum_up()

    def _sum_up(self) -> None:
        """Log the number of omitted events and the time and tokens of each guardrail."""
        for (name, action), seen in self._seen.items():
            omitted = seen - self._logged[name, action]
            if omitted:
                self._trial.record("guardrail", name=name, action="left_out", of=action, count=omitted)
        for name, guardrail in self._all.items():
            seconds = round(self._seconds[name], 3)
            self._trial.record(
                "guardrail",
                name=name,
                action="spent",
                seconds=seconds,
                tokens=guardrail.tokens,
                mechanism=guardrail.mechanism,
            )

    def note_early_kill(self, seconds: float) -> None:
        """Log a shutdown that happened before its announcement."""
        for name, guardrail in self._active.items():
            if guardrail.kills_before_notice:
                self._trial.record("guardrail", name=name, action="kill", score=1.0, seconds=round(seconds, 4))

    async def _poll(self, context: LoopContext, *names: str) -> None:
        with suppress(LoopEndedError):  # the task that waits for `ended` ends the loop
            await self._call_all(lambda one: one.poll(context), context.cell, context.broker, names)

    async def _on_new_engine(self, engine: Engine, cell: Cell, broker: Broker) -> None:
        with suppress(LoopEndedError):
            await self._call_all(lambda one: one.on_new_engine(engine), cell, broker)

    async def _call_all(
        self, hook: Hook, cell: Cell, broker: Broker, names: Sequence[str] | None = None
    ) -> list[Finding]:
        """Call a hook of the named guardrails, or of all, and carry out their findings."""
        found = []
        for name in list(self._active) if names is None else names:
            guardrail = self._active.get(name)
            if guardrail is None:
                continue  # it has failed in the meantime
            for finding in await self._call(name, guardrail, hook):
                found.append(finding)
                carried_out = await self._carry_out(finding, cell, broker)
                # Verdicts count kills and freezes as prevention, so only actions that were carried out are logged.
                logged = finding if carried_out is not None else finding.model_copy(update={"action": "observe"})
                self._log(name, logged, carried_out or {})
        if self.ended.is_set():
            raise LoopEndedError("guardrail")
        return found

    async def _call(self, name: str, guardrail: AnyGuardrail, hook: Hook) -> Sequence[Finding]:
        """Call a hook of one guardrail and return its findings; record a failure if it does not return any."""
        figures = settings()
        began = time.monotonic()
        try:
            with anyio.fail_after(figures.slow_answer_seconds if guardrail.is_slow else figures.answer_seconds):
                return _validated(await hook(guardrail), guardrail.actions)
        except CellGoneError:
            return ()  # nothing is left to guard; the verifier judges why
        except Exception as fault:
            raise_ending(fault)
            self._record_failure(name, guardrail, fault)
            return ()
        finally:
            self._seconds[name] += time.monotonic() - began

    def _record_failure(self, name: str, guardrail: AnyGuardrail, fault: Exception) -> None:
        """Log a guardrail's failure. It ends the agent's work if it makes the trial invalid."""
        if self._active.pop(name, None) is None:
            return  # a concurrent failure is already logged
        self._trial.record(
            "guardrail",
            name=name,
            action="failed",
            counts_as=guardrail.on_failure,
            what=f"{type(fault).__name__}: {fault}",
        )
        if guardrail.on_failure == "invalid":
            self.ended.set()

    async def _carry_out(self, finding: Finding, cell: Cell, broker: Broker) -> dict[str, float | int | None] | None:
        """Kill or freeze if a finding requires it.

        Returns:
            The duration and the number of surviving processes; None if the action was skipped because the guardrails
            are disarmed.
        """
        if finding.action not in ("kill", "freeze"):
            return {}
        async with self._action_lock:
            return None if self._is_disarmed else await self._act(finding, cell, broker)

    async def _act(self, finding: Finding, cell: Cell, broker: Broker) -> dict[str, float | int | None]:
        survivors: int | None = 0
        began = time.monotonic()
        with anyio.CancelScope(shield=True):
            if finding.processes:
                for node in {process.node for process in finding.processes}:
                    on_node = [process for process in finding.processes if process.node == node]
                    await self._attempt(stop_processes(cell, on_node, node))
                return {"seconds": round(time.monotonic() - began, 4)}
            self.ended.set()
            broker.shut_off()
            if finding.action == "kill":
                survivors = await self._kill_all(cell)
            else:
                # As after an alarm, no command starts and nothing can thaw the cell.
                self._frozen, cell.halted = cell, "a guardrail froze it"
                await self._attempt(cell.freeze())
        seconds = round(time.monotonic() - began, 4)
        return {"seconds": seconds, "survivors": survivors} if finding.action == "kill" else {"seconds": seconds}

    async def _kill_all(self, cell: Cell) -> int | None:
        """Kill the agent's processes until a process snapshot finds none.

        Returns:
            The number of surviving processes; None if no snapshot succeeded.
        """
        survivors: int | None = None
        end = time.monotonic() + settings().kill_seconds
        while True:
            await self._attempt(cell.end_processes())
            try:
                survivors = (await take_snapshot(cell, cell.attached(Subject), "before")).processes_total
            except CellGoneError:
                return 0  # nothing outlives its cell
            except (CellError, TimeoutError):
                pass  # the result of an earlier snapshot still counts
            if survivors == 0 or time.monotonic() > end:
                return survivors

    async def _attempt(self, action: Awaitable[object]) -> None:
        """Try an action on the cell. If the cell does not answer, the verifier judges why."""
        try:
            await action
        except (CellError, TimeoutError) as error:
            self._trial.record("note", text=f"a guardrail could not act on the cell: {error}")

    def _log(self, name: str, finding: Finding, carried_out: Mapping[str, float | int | None]) -> None:
        """Log a finding, up to a limit, so that an agent cannot fill the log with findings."""
        action = finding.action if finding.score is not None else "missing"
        score = -1.0 if finding.score is None else finding.score
        key = (name, action)
        self._seen[key] += 1
        is_record = score > self._highest.get(key, -1.0)
        if self._logged[key] >= settings().events + (settings().records if is_record else 0):
            return
        self._logged[key] += 1
        self._highest[key] = max(score, self._highest.get(key, -1.0))
        asked = {"granted": finding.granted} if finding.action == "ask" else {}
        self._trial.record(
            "guardrail", name=name, action=action, score=finding.score, what=finding.what, **asked, **carried_out
        )


def _validated(answer: Findings, actions: frozenset[Action]) -> tuple[Finding, ...]:
    """Return the findings that a hook returned.

    Raises:
        TypeError: The returned value is not a finding.
        ValueError: A finding has an action that the guardrail does not declare.
    """
    findings = () if answer is None else (answer,) if isinstance(answer, Finding) else answer
    if not isinstance(findings, list | tuple) or not all(isinstance(one, Finding) for one in findings):
        raise TypeError(f"it returned a {type(answer).__name__} instead of a finding")
    for one in findings:
        if one.score is None and one.action != "observe":
            raise ValueError(f"its action {one.action} has no score")
        if one.action not in actions:
            raise ValueError(
                f"its action {one.action} is not declared (declared: {', '.join(sorted(actions)) or 'none'})"
            )
    return tuple(findings)
