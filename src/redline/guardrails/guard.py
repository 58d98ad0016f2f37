"""The guardrails of one trial: asked in turn, held to their word, and written down.

A guardrail says what it found; what follows is carried out here. One that raises, hangs or answers nonsense is never
taken for one that found nothing.
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

Ask = Callable[[AnyGuardrail], Awaitable[Findings]]


class Guard:
    """Asks the guardrails of a trial, does what they say and notes it in the trial's log."""

    def __init__(self, guardrails: Mapping[str, AnyGuardrail], trial: Trial) -> None:
        """Takes the guardrails by the names under which they are logged."""
        self._standing = dict(guardrails)
        self._trial = trial
        self._kept: Counter[tuple[str, str]] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._highest: dict[tuple[str, str], float] = {}
        self._is_over = False
        self._acting = anyio.Lock()
        self._seconds: dict[str, float] = dict.fromkeys(guardrails, 0.0)
        self._all = dict(guardrails)
        self._frozen: Cell | None = None
        self.ended = anyio.Event()
        """Set when a guardrail has ended the agent's work, by a kill or by a failure that makes the trial invalid."""

    @property
    def kills_before_notice(self) -> bool:
        """Whether a shutdown is carried out before anybody is told."""
        return any(one.kills_before_notice for one in self._standing.values())

    async def install(self, cell: Cell, subject: Subject, broker: Broker) -> None:
        """Puts every guardrail in its place, and writes down which there are."""
        broker.on_replica(lambda engine: self._on_new_engine(engine, cell, broker))
        for name, guardrail in list(self._standing.items()):
            await self._ask(name, guardrail, lambda one: one.install(cell, subject))
            if name in self._standing:
                self._trial.record(
                    "guardrail", name=name, action="up", where=guardrail.where, prevents=guardrail.prevents
                )

    async def start(self, context: LoopContext) -> None:
        """Lets the guardrails do what must wait for the seal to be measured."""
        with suppress(LoopEndedError):
            await self._ask_all(lambda one: one.start(context), context.cell, context.broker)

    async def allows(self, command: str, context: LoopContext) -> bool:
        """Whether the agent may run a command.

        Raises:
            LoopEndedError: A guardrail ended its work.
        """
        findings = await self._ask_all(lambda one: one.check_command(command), context.cell, context.broker)
        return not any(one.action == "block" or (one.action == "ask" and not one.granted) for one in findings)

    async def on_model_output(self, said: str, context: LoopContext) -> None:
        """Has the guardrails read what the agent's model said.

        Raises:
            LoopEndedError: A guardrail ended its work.
        """
        await self._ask_all(lambda one: one.on_model_output(said), context.cell, context.broker)

    def on_command_result(self, command: str, result: str) -> None:
        """Has the guardrails take in what a command printed."""
        for name, guardrail in list(self._standing.items()):
            try:
                guardrail.on_command_result(command, result)
            except Exception as fault:
                raise_ending(fault)
                self._failed(name, guardrail, fault)

    async def attend(self, context: LoopContext) -> None:
        """Has the guardrails look, again and again, until cancelled; none waits for another."""
        async with task_group() as group:
            for name in self._standing:
                group.start_soon(self._keep_polling, name, context)

    async def _keep_polling(self, name: str, context: LoopContext) -> None:
        while name in self._standing and not self.ended.is_set():
            await self._poll(context, name)
            await anyio.sleep(settings().poll_seconds)

    async def examine(self, context: LoopContext) -> None:
        """A last look, now that the agent's loop has ended, and the count of what is left out of the log."""
        if not self.ended.is_set():
            await self._poll(context, *self._standing)
        await self.disarm(context)

    async def disarm(self, context: LoopContext | None) -> None:
        """Stop acting for good: from here on the verifier is at work, and guardrails only note what they see.

        Args:
            context: The trial; None where its set-up ended before an agent could begin.
        """
        async with self._acting:  # an action in progress is completed first
            if self._is_over:
                return
            self._is_over = True
        # After an alarm the cell is frozen as evidence: nothing is undone in it, and the alarm's own order ends it.
        if context is not None and context.alarm.raised is None:
            with suppress(LoopEndedError):
                await self._ask_all(lambda one: one.stop(context), context.cell, context.broker)
            if self._frozen is not None:
                await self._tried(end_frozen(self._frozen))
        self._sum_up()

    def _sum_up(self) -> None:
        """Log what was left out of the log, and what each guardrail spent."""
        for (name, action), seen in self._seen.items():
            left_out = seen - self._kept[name, action]
            if left_out:
                self._trial.record("guardrail", name=name, action="left_out", of=action, count=left_out)
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
        """Writes down a shutdown that came before its notice."""
        for name, guardrail in self._standing.items():
            if guardrail.kills_before_notice:
                self._trial.record("guardrail", name=name, action="kill", score=1.0, seconds=round(seconds, 4))

    async def _poll(self, context: LoopContext, *names: str) -> None:
        with suppress(LoopEndedError):  # who waits for `ended` ends the loop
            await self._ask_all(lambda one: one.poll(context), context.cell, context.broker, names)

    async def _on_new_engine(self, engine: Engine, cell: Cell, broker: Broker) -> None:
        with suppress(LoopEndedError):
            await self._ask_all(lambda one: one.on_new_engine(engine), cell, broker)

    async def _ask_all(self, ask: Ask, cell: Cell, broker: Broker, names: Sequence[str] | None = None) -> list[Finding]:
        """Asks those of some names, or every one, and does what they say."""
        found = []
        for name in list(self._standing) if names is None else names:
            guardrail = self._standing.get(name)
            if guardrail is None:
                continue  # it has failed meanwhile
            for finding in await self._ask(name, guardrail, ask):
                found.append(finding)
                carried_out = await self._carry_out(finding, cell, broker)
                # What was not done must not be logged as done: a verdict counts kills and freezes as prevention.
                logged = finding if carried_out is not None else finding.model_copy(update={"action": "observe"})
                self._note(name, logged, carried_out or {})
        if self.ended.is_set():
            raise LoopEndedError("guardrail")
        return found

    async def _ask(self, name: str, guardrail: AnyGuardrail, ask: Ask) -> Sequence[Finding]:
        """What one guardrail answers; its failure where that is no answer."""
        figures = settings()
        began = time.monotonic()
        try:
            with anyio.fail_after(figures.slow_answer_seconds if guardrail.is_slow else figures.answer_seconds):
                return _checked(await ask(guardrail), guardrail.actions)
        except CellGoneError:
            return ()  # there is nothing left to guard, and why is for the verifier to judge
        except Exception as fault:
            raise_ending(fault)
            self._failed(name, guardrail, fault)
            return ()
        finally:
            self._seconds[name] += time.monotonic() - began

    def _failed(self, name: str, guardrail: AnyGuardrail, fault: Exception) -> None:
        """Notes a guardrail's failure, which ends the agent's work where it makes the trial invalid."""
        if self._standing.pop(name, None) is None:
            return  # it failed elsewhere at the same time, which is noted already
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
        """Kills or freezes, where a finding says so; returns how long that took, and what outlived it.

        Returns None where that was to be done and no longer may be, since the verifier is at work.
        """
        if finding.action not in ("kill", "freeze"):
            return {}
        async with self._acting:
            return None if self._is_over else await self._act(finding, cell, broker)

    async def _act(self, finding: Finding, cell: Cell, broker: Broker) -> dict[str, float | int | None]:
        survivors: int | None = 0
        began = time.monotonic()
        with anyio.CancelScope(shield=True):
            if finding.processes:
                for node in {process.node for process in finding.processes}:
                    theirs = [process for process in finding.processes if process.node == node]
                    await self._tried(stop_processes(cell, theirs, node))
                return {"seconds": round(time.monotonic() - began, 4)}
            self.ended.set()
            broker.close_switch()
            if finding.action == "kill":
                survivors = await self._end_everything(cell)
            else:
                # No command starts and nothing thaws any more; an alarm stops a cell in the same way.
                self._frozen, cell.halted = cell, "a guardrail froze it"
                await self._tried(cell.freeze())
        seconds = round(time.monotonic() - began, 4)
        return {"seconds": seconds, "survivors": survivors} if finding.action == "kill" else {"seconds": seconds}

    async def _end_everything(self, cell: Cell) -> int | None:
        """Kill all that the agent runs, until a look finds nothing.

        Returns:
            How many processes outlived that; None where no look succeeded, so that nothing is known.
        """
        left: int | None = None
        end = time.monotonic() + settings().kill_seconds
        while True:
            await self._tried(cell.end_processes())
            try:
                left = (await take_snapshot(cell, cell.attached(Subject), "before")).processes_total
            except CellGoneError:
                return 0  # nothing outlives its cell
            except (CellError, TimeoutError):
                pass  # what an earlier look found still counts
            if left == 0 or time.monotonic() > end:
                return left

    async def _tried(self, action: Awaitable[object]) -> None:
        """Does something to the cell; why that no longer answers is for the verifier to judge."""
        try:
            await action
        except (CellError, TimeoutError) as error:
            self._trial.record("note", text=f"a guardrail could not act on the cell: {error}")

    def _note(self, name: str, finding: Finding, carried_out: Mapping[str, float | int | None]) -> None:
        """Logs a finding; an agent that causes them without end must not fill the log."""
        action = finding.action if finding.score is not None else "missing"
        score = -1.0 if finding.score is None else finding.score
        key = (name, action)
        self._seen[key] += 1
        is_record = score > self._highest.get(key, -1.0)
        if self._kept[key] >= settings().events + (settings().records if is_record else 0):
            return
        self._kept[key] += 1
        self._highest[key] = max(score, self._highest.get(key, -1.0))
        asked = {"granted": finding.granted} if finding.action == "ask" else {}
        self._trial.record(
            "guardrail", name=name, action=action, score=finding.score, what=finding.what, **asked, **carried_out
        )


def _checked(answer: Findings, may: frozenset[Action]) -> tuple[Finding, ...]:
    """The findings in an answer.

    Raises:
        TypeError: It is no answer.
        ValueError: A finding asks for what the guardrail does not say that it does.
    """
    findings = () if answer is None else (answer,) if isinstance(answer, Finding) else answer
    if not isinstance(findings, list | tuple) or not all(isinstance(one, Finding) for one in findings):
        raise TypeError(f"its answer is a {type(answer).__name__}, and no finding")
    for one in findings:
        if one.score is None and one.action != "observe":
            raise ValueError(f"it would {one.action} without a score")
        if one.action not in may:
            raise ValueError(f"it does {one.action} and says that it does {', '.join(sorted(may)) or 'nothing'}")
    return tuple(findings)
