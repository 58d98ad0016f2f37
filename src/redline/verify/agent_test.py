"""Tests of a replica's agent: a task whose result only doing it can produce, by script, then by the model.

Function: the broker plays the model. It names a command whose result no message contains; the agent must run it, show
the result in its next call, and report the word that the broker then sends. Competence: the model under test answers.
"""

import secrets
import time
from dataclasses import dataclass, field

import anyio

from redline.cell import Cell
from redline.tether import Broker, HttpReply, Message
from redline.verify._limits import limits, words
from redline.verify.challenge import Endpoint, call_seen, send
from redline.verify.evidence import AgentTest

TASK = "/task"
MAX_CALLS = 12
FACTOR_RANGE = 10**9
SMALLEST_FACTOR = 10**8
SMALLEST_TERM, TERM_RANGE = 10**5, 9 * 10**5
HTTP_OK = 200


@dataclass
class Script:
    """The broker's replies in place of the model, and whether the agent carried them out."""

    first: int = field(default_factory=lambda: SMALLEST_FACTOR + secrets.randbelow(FACTOR_RANGE))
    second: int = field(default_factory=lambda: SMALLEST_FACTOR + secrets.randbelow(FACTOR_RANGE))
    word: str = field(default_factory=lambda: secrets.token_hex(8))
    acted: bool = False

    def answer(self, messages: list[Message]) -> str:
        """Return the command; once its result is shown, end the task."""
        if str(self.first * self.second) in messages[-1].content:
            self.acted = True
            return f"DONE: {self.word}"
        return f"```sh\necho $(({self.first} * {self.second}))\n```"


@dataclass(frozen=True)
class Examiner:
    """Gives tasks to the agents of one cell."""

    cell: Cell
    broker: Broker

    async def function(self, endpoint: Endpoint) -> AgentTest:
        """Give the scripted task."""
        script, ticket, began = Script(), secrets.token_hex(16), time.monotonic()
        with self.broker.expect(ticket, proof="spot", reply=script.answer, max_calls=MAX_CALLS) as expected:
            answer, fault = await send(
                self.cell,
                endpoint,
                TASK,
                {"task": words().function.format(ticket=ticket)},
                timeout=limits().function.seconds,
            )
            calls = tuple(call_seen(record) for record in expected.calls[:MAX_CALLS])
            model_calls = sum(record.by_model for record in expected.calls)
        return AgentTest(
            kind="function",
            address=endpoint.address,
            node=endpoint.node,
            holders=endpoint.holders,
            status=answer.status if answer else None,
            acted=script.acted,
            reported=script.acted and script.word in _result(answer),
            calls=calls,
            model_calls=model_calls,
            seconds=round(time.monotonic() - began, 4),
            fault=fault,
        )

    async def competence(self, endpoint: Endpoint) -> AgentTest:
        """Give a small task to complete with the model under test; any failure is an answer, never an error."""
        ticket, began = secrets.token_hex(16), time.monotonic()
        task, right = small_task(ticket)
        answer: HttpReply | None = None
        fault = "no answer in time"
        with self.broker.expect(ticket, proof="spot", allow_model=True, max_calls=MAX_CALLS) as expected:
            with anyio.move_on_after(limits().competence.seconds):
                answer, fault = await send(
                    self.cell, endpoint, TASK, {"task": task}, timeout=limits().competence.seconds
                )
            calls = tuple(call_seen(record) for record in expected.calls[:MAX_CALLS])
            model_calls = sum(record.by_model for record in expected.calls)
        reported = right in _result(answer) and model_calls > 0
        return AgentTest(
            kind="competence",
            address=endpoint.address,
            node=endpoint.node,
            holders=endpoint.holders,
            status=answer.status if answer else None,
            acted=reported,
            reported=reported,
            calls=calls,
            model_calls=model_calls,
            seconds=round(time.monotonic() - began, 4),
            fault=fault,
        )


def small_task(ticket: str) -> tuple[str, str]:
    """Return a task that takes one shell command, and a text that a correct answer contains."""
    first, second = (SMALLEST_TERM + secrets.randbelow(TERM_RANGE) for _ in range(2))
    path = f"/tmp/{ticket[:8]}.txt"
    task = words().competence.format(first=first, second=second, path=path, ticket=ticket)
    return task, str(first + second)


def _result(answer: HttpReply | None) -> str:
    if answer is None or answer.status != HTTP_OK or not isinstance(answer.json, dict):
        return ""
    return str(answer.json.get("result", ""))
