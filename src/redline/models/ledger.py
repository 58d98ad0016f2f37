"""The ledger of a trial's model calls: the answers, their durations and the failures.

Without it, a trial whose model did not answer looks like a trial whose agent did nothing.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from inspect_ai.model import ChatMessage, ContentReasoning, ModelOutput
from pydantic import NonNegativeFloat, NonNegativeInt

from redline._base import Frozen
from redline.models.faults import Fault
from redline.models.limits import limits
from redline.models.markup import looks_like_call

Role = Literal["agent", "engine", "replica", "verifier", "judge", "monitor"]
"""The caller: the loop of generation 0, other programs through generation 0's engine, a replica, the verifier's
competence task, the judge, or the monitor."""

TurnKind = Literal["call", "text", "unparsed", "empty"]
"""Content of an answer: a well-formed call, text only, a call that was not parsed, or nothing."""

SUBMIT = "submit"
"""The tool that ends an agent's work. A call of it is not an action in the cell."""


class ModelCalls(Frozen):
    """Model calls of one role in one trial."""

    role: Role
    """The caller: `agent` is the loop of generation 0, `engine` any other program that uses generation 0's engine."""
    generation: int | None = None
    """Generation of the replica, or null."""
    process: int | None = None
    """Pid of the replica's engine, or null."""
    answered: NonNegativeInt = 0
    """Calls that the server answered."""
    retried: NonNegativeInt = 0
    """Attempts after the first one, summed over all calls."""
    failed: NonNegativeInt = 0
    """Calls that ended without an answer."""
    acted: NonNegativeInt = 0
    """Answers with a well-formed action other than the one that ends the work."""
    unparsed: NonNegativeInt = 0
    """Answers with a tool call that was not parsed."""
    truncated: NonNegativeInt = 0
    """Answers truncated at the maximum number of tokens."""
    empty: NonNegativeInt = 0
    """Answers with neither text nor a call."""
    unparsed_at_end: NonNegativeInt = 0
    """Unparsed answers after the last well-formed call."""
    empty_at_end: NonNegativeInt = 0
    """Empty answers after the last well-formed call."""
    words_at_end: NonNegativeInt = 0
    """Text-only answers after the last well-formed call."""
    truncated_at_end: NonNegativeInt = 0
    """Truncated answers after the last well-formed call."""
    seconds: NonNegativeFloat = 0.0
    """Time between requests and their answers or failures, in seconds."""
    waited: NonNegativeFloat = 0.0
    """Part of `seconds` spent on failed attempts and the pauses after them, in seconds."""
    pending: NonNegativeFloat = 0.0
    """Duration of the call in flight when its loop ended, in seconds; 0 if no call was in flight."""
    pending_failures: NonNegativeInt = 0
    """Failed attempts of the call in flight."""
    truncated_prompts: bool = False
    """Whether the server dropped parts of the conversation: prompt tokens did not grow with the conversation."""
    last_error: str | None = None
    """The last failure: the status and the server's message."""


@dataclass
class OpenCall:
    """One call while it is in flight."""

    entry: "_Entry"
    began: float = field(default_factory=time.monotonic)
    failures: int = 0
    failing_until: float | None = None
    """When the last failed attempt ended."""
    attempt_timeout: float | None = None
    """Timeout of one attempt, in seconds."""
    is_void: bool = False
    """Whether the call ended for a reason unrelated to the server, so that it is not counted."""

    def attempt_failed(self, fault: Fault) -> None:
        """Record a failed attempt."""
        self.failures += 1
        self.failing_until = time.monotonic()
        self.entry.last_error = str(fault)

    @property
    def seconds(self) -> float:
        """Time since the request."""
        return time.monotonic() - self.began

    @property
    def attempt_seconds(self) -> float:
        """Time since the current attempt began, including the pause before it."""
        return time.monotonic() - (self.failing_until or self.began)


@dataclass
class _Growth:
    """Growth of the prompt tokens compared with the conversation, call by call."""

    tokens: int = 0
    characters: int = 0
    unchanged: int = 0
    is_stuck: bool = False

    def note(self, tokens: int | None, characters: int) -> None:
        rules = limits().rules
        if not tokens or tokens < rules.smallest_context_tokens:
            self.tokens = 0
            return
        grew = characters - self.characters >= rules.growth_characters
        self.unchanged = self.unchanged + 1 if tokens == self.tokens and grew else 0
        self.tokens, self.characters = tokens, characters
        self.is_stuck = self.is_stuck or self.unchanged >= rules.unchanged_calls - 1


@dataclass
class _Entry:
    role: Role
    generation: int | None
    process: int | None
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    last_error: str | None = None
    last_kind: TurnKind = "text"
    pending: float = 0.0
    pending_failures: int = 0
    open: dict[int, OpenCall] = field(default_factory=dict)
    growth: _Growth = field(default_factory=_Growth)

    def add(self, name: str, amount: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount

    def clear(self, *names: str) -> None:
        for name in names:
            self.counts.pop(name, None)

    def close(self, call: OpenCall, *, answered: bool) -> None:
        self.open.pop(id(call), None)
        if call.is_void:
            return
        self.seconds += call.seconds
        if call.failures:
            self.waited += call.seconds if not answered else (call.failing_until or call.began) - call.began
        self.add("retried", call.failures if answered else max(call.failures - 1, 0))
        self.add("answered" if answered else "failed")

    def cancel(self, call: OpenCall) -> None:
        """Record a call that was cancelled before it ended."""
        self.open.pop(id(call), None)
        self.seconds += call.seconds
        self.pending, self.pending_failures = call.seconds, call.failures

    def count(self, kind: TurnKind, *, truncated: bool, acted: bool) -> None:
        """Count an answer by its content."""
        self.last_kind = kind
        self.pending, self.pending_failures = 0.0, 0
        if truncated:
            self.add("truncated")
        if kind == "call":
            self.clear("unparsed_at_end", "empty_at_end", "words_at_end", "truncated_at_end")
            if acted:
                self.add("acted")
            return
        if kind == "text":
            self.add("words_at_end")
        else:
            self.add(kind)
            self.add(f"{kind}_at_end")
        if truncated:
            self.add("truncated_at_end")

    def record(self) -> ModelCalls:
        pending = max(self.open.values(), key=lambda call: call.seconds, default=None)
        return ModelCalls(
            role=self.role,
            generation=self.generation,
            process=self.process,
            seconds=round(self.seconds, 3),
            waited=round(self.waited, 3),
            pending=round(pending.seconds if pending else self.pending, 3),
            pending_failures=pending.failures if pending else self.pending_failures,
            truncated_prompts=self.growth.is_stuck,
            last_error=self.last_error,
            **self.counts,
        )


class Ledger:
    """The model calls of one trial, recorded while it runs."""

    def __init__(self) -> None:
        """Initialise an empty ledger."""
        self._entries: dict[tuple[Role, int | None, int | None], _Entry] = {}
        self._frozen: tuple[ModelCalls, ...] | None = None

    @contextmanager
    def call(self, role: Role, generation: int | None = None, process: int | None = None) -> Iterator[OpenCall]:
        """Record one call.

        The call counts as answered if the block ends normally and as failed if it raises. An agent's call that is
        cancelled counts as pending: its loop ended before the server answered.

        Args:
            role: Role of the caller.
            generation: Generation of the calling replica, if a replica calls.
            process: Pid of that replica's engine.
        """
        entry = self._entry(role, generation, process)
        call = OpenCall(entry)
        entry.open[id(call)] = call
        try:
            yield call
        except Exception:
            entry.close(call, answered=False)
            raise
        except BaseException:
            if role == "agent":
                entry.cancel(call)
            else:
                entry.close(call, answered=False)
            raise
        else:
            entry.close(call, answered=True)

    def answered(self, call: OpenCall, output: ModelOutput, messages: Sequence[ChatMessage]) -> None:
        """Count an answer by its content.

        Args:
            call: The call.
            output: The answer.
            messages: The conversation that the model received.
        """
        truncated = output.stop_reason == "max_tokens"
        kind = kind_of(output)
        calls = output.message.tool_calls or [] if output.choices else []
        acted = any(one.function != SUBMIT and one.parse_error is None for one in calls)
        call.entry.count(kind, truncated=truncated, acted=acted)
        characters = sum(len(message.text) for message in messages)
        call.entry.growth.note(output.input_context_tokens, characters)

    def acted(self, *, ends_work: bool = False) -> None:
        """Record that the agent's last answer, a text, contained a well-formed action.

        Args:
            ends_work: Whether this action ends the agent's work.
        """
        entry = self._entry("agent", None, None)
        if entry.last_kind in ("unparsed", "empty"):
            entry.add(entry.last_kind, -1)
        entry.count("call", truncated=False, acted=not ends_work)

    def freeze(self) -> None:
        """Keep the agent's entry as it is now, without the verifier's later calls."""
        self._frozen = self.record()

    @property
    def agent(self) -> ModelCalls:
        """The entry of the agent's loop."""
        return self._entry("agent", None, None).record()

    @property
    def attempt_seconds(self) -> float:
        """Duration of the current attempt of the agent's call in flight, in seconds; 0 if there is none."""
        calls = self._entry("agent", None, None).open.values()
        return max((call.attempt_seconds for call in calls), default=0.0)

    def record(self) -> tuple[ModelCalls, ...]:
        """Return all entries, the agent's first. After `freeze`, the agent's entry is the one that it kept."""
        now = [entry.record() for entry in self._entries.values()]
        kept = {(each.role, each.generation, each.process): each for each in self._frozen or ()}
        agents = [kept.get((each.role, each.generation, each.process), each) for each in now if each.role == "agent"]
        return (*agents, *(each for each in now if each.role != "agent"))

    def _entry(self, role: Role, generation: int | None, process: int | None) -> _Entry:
        key = (role, generation, process)
        if key not in self._entries:
            replicas = sum(entry.role == "replica" for entry in self._entries.values())
            if role == "replica" and replicas >= limits().evidence.replicas:
                key = (role, None, None)
        return self._entries.setdefault(key, _Entry(*key))


def kind_of(output: ModelOutput) -> TurnKind:
    """Return the kind of an answer's content."""
    if not output.choices:
        return "empty"
    message = output.message
    calls = message.tool_calls or []
    if any(call.parse_error is None for call in calls):
        return "call"
    text = full_text(message)
    if calls or looks_like_call(text):
        return "unparsed"
    return "text" if text.strip() else "empty"


def full_text(message: ChatMessage) -> str:
    """Return a message's reasoning, as far as its provider shows it, and its text."""
    if isinstance(message.content, str):
        return message.content
    reasoning = [part.reasoning for part in message.content if isinstance(part, ContentReasoning)]
    return "\n\n".join(filter(None, [*reasoning, message.text]))
