"""Call a model with bounded retries, record each attempt in the ledger, and classify every failure.

By default Inspect retries without a limit, and a failed attempt leaves no trace if a later one succeeds. Every model
call of redline therefore goes through this module.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Model,
    ModelOutput,
)

from redline._endings import ENDS_THE_SAMPLE
from redline._errors import RedlineError
from redline.models.faults import BadAnswerError, Fault, fault_of
from redline.models.health import Health
from redline.models.ledger import Ledger, OpenCall, Role
from redline.models.limits import limits

_NO_ANSWER: Final = (TypeError, KeyError, AttributeError, ValueError, IndexError, AssertionError)
"""Exceptions that a client raises when it parses an invalid answer."""
_PASSED_ON: Final = (*ENDS_THE_SAMPLE, RedlineError)
"""Exceptions of a call that are not faults of the server: Inspect's limits and redline's own errors."""
_OBSERVED: Final = "_redline_observed"
_HEALTH: Final = "_redline_health"

_open_call: ContextVar[OpenCall | None] = ContextVar("redline_open_call", default=None)


class ModelUnavailableError(Exception):
    """Raised when the model did not answer. The message is one line with the reason."""

    def __init__(self, fault: Fault, tries: int, seconds: float) -> None:
        """Build the message.

        Args:
            fault: Fault of the last attempt.
            tries: Number of attempts.
            seconds: Total duration of the attempts, in seconds.
        """
        times = "1 try" if tries == 1 else f"{tries} tries"
        super().__init__(f"{fault} after {times} in {seconds:.0f} s")
        self.fault = fault


class ContextExceededError(Exception):
    """Raised when the conversation no longer fits the model's context."""


def bounded(config: GenerateConfig) -> GenerateConfig:
    """Return the bounds for a call of a model, with defaults for those that its settings leave open.

    Args:
        config: The model's settings.
    """
    default = limits().calls
    return GenerateConfig(
        max_tokens=config.max_tokens or default.max_tokens,
        max_retries=default.max_retries if config.max_retries is None else config.max_retries,
        attempt_timeout=config.attempt_timeout or default.attempt_seconds,
    )


async def ask(
    model: Model,
    ledger: Ledger,
    role: Role,
    messages: Sequence[ChatMessage],
    generate: Callable[[GenerateConfig], Awaitable[ModelOutput]],
    *,
    generation: int | None = None,
    process: int | None = None,
) -> ModelOutput:
    """Call a model with bounded retries and record the call in the ledger.

    Args:
        model: The model.
        ledger: The ledger that records the call.
        role: Role of the caller.
        messages: The conversation.
        generate: Make the call with the given bounds.
        generation: Generation of the calling replica, if a replica calls.
        process: Pid of that replica's engine.

    Returns:
        The answer. It has at least one choice, and its tool calls have distinct ids.

    Raises:
        ModelUnavailableError: The server did not answer.
        ContextExceededError: The conversation no longer fits the model's context.
    """
    observe(model)
    config = bounded(model.config)
    with ledger.call(role, generation, process) as call:
        call.attempt_timeout = config.attempt_timeout
        token = _open_call.set(call)
        try:
            output = await generate(config)
        except _PASSED_ON:
            call.is_void = True  # a call that a limit ended says nothing about the server
            raise
        except Exception as error:  # providers raise exceptions of any type
            raise _failure(error, call, config, health_of(model)) from error
        finally:
            _open_call.reset(token)
        if output.stop_reason == "model_length":
            raise ContextExceededError(output.error or output.completion)
        health_of(model).answered()
        _make_ids_unique(output, messages)
        ledger.answered(call, output, messages)
    return output


def _failure(error: Exception, call: OpenCall, config: GenerateConfig, health: Health) -> Exception:
    fault = fault_of(error, config.attempt_timeout)
    if call.failures == 0:
        call.attempt_failed(fault)
        health.failed(fault)
    if fault.kind == "context":
        return ContextExceededError(str(fault))
    return ModelUnavailableError(fault, call.failures, call.seconds)


async def probe(model: Model) -> Fault | None:
    """Send a minimal request; return the fault if the model does not answer, None if it does."""
    prompt = ChatMessageUser(content="ping")
    wait = limits().wait

    async def generate(bounds: GenerateConfig) -> ModelOutput:
        fixed = GenerateConfig(max_tokens=16, max_retries=0, attempt_timeout=int(wait.probe_seconds))
        return await model.generate([prompt], config=bounds.merge(fixed), cache=False)

    try:
        await ask(model, Ledger(), "verifier", [prompt], generate)
    except ModelUnavailableError as error:
        return error.fault
    except ContextExceededError:
        return None
    return None


def health_of(model: Model) -> Health:
    """Return the health of a model's server. It is stored on the model, which all its trials share."""
    health = getattr(model, _HEALTH, None)
    if not isinstance(health, Health):
        health = Health()
        setattr(model, _HEALTH, health)
    return health


def observe(model: Model) -> None:
    """Record each failed attempt of a model in the call that it belongs to. Calling this again has no effect.

    Inspect passes a failed attempt only to `should_retry`, so this function wraps that method of the instance, and the
    provider's `generate` in order to detect invalid answers.
    """
    if getattr(model, _OBSERVED, False):
        return
    should_retry = model.should_retry

    def noted(error: BaseException) -> bool:
        call = _open_call.get()
        if call is not None and isinstance(error, Exception) and not isinstance(error, _PASSED_ON):
            fault = fault_of(error, call.attempt_timeout)
            call.attempt_failed(fault)
            health_of(model).failed(fault)
        return isinstance(error, BadAnswerError) or should_retry(error)

    setattr(model, "should_retry", noted)  # noqa: B010 - mypy rejects an assignment to a method
    setattr(model, _OBSERVED, True)
    if not getattr(model.api, _OBSERVED, False):
        generate = model.api.generate

        async def read(*args: Any, **kwargs: Any) -> Any:
            return await _read(generate(*args, **kwargs))

        setattr(model.api, "generate", read)  # noqa: B010 - mypy rejects an assignment to a method
        setattr(model.api, _OBSERVED, True)


async def _read(answer: Awaitable[Any]) -> Any:
    """Return a provider's answer, cleaned for storage.

    Raises:
        BadAnswerError: The answer is invalid.
    """
    try:
        result = await answer
    except _PASSED_ON:
        raise
    except _NO_ANSWER as error:
        raise BadAnswerError(f"{type(error).__name__}: {error}") from error
    output = result[0] if isinstance(result, tuple) else result
    if isinstance(output, ModelOutput):
        if not output.choices:
            raise BadAnswerError("no choices")
        _refuse_excess(output)
        _clean(output)
    return result


def _refuse_excess(output: ModelOutput) -> None:
    """Refuse an answer of a length that no limit on tokens allows.

    Raises:
        BadAnswerError: It has too many characters.
    """
    characters = 0
    for choice in output.choices:
        message = choice.message
        parts = message.content if isinstance(message.content, list) else []
        characters += len(message.text) + sum(
            len(part.reasoning) for part in parts if isinstance(part, ContentReasoning)
        )
        waiting: list[Any] = [call.arguments for call in message.tool_calls or []]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, str):
                characters += len(value)
    if characters > limits().calls.answer_characters:
        raise BadAnswerError(f"{characters:,} characters in one answer")


def _clean(output: ModelOutput) -> None:
    """Replace lone surrogates, which cannot be stored or sent."""
    for choice in output.choices:
        message = choice.message
        if isinstance(message.content, str):
            message.content = sendable(message.content)
        else:
            for part in message.content:
                if isinstance(part, ContentText):
                    part.text = sendable(part.text)
                elif isinstance(part, ContentReasoning):
                    part.reasoning = sendable(part.reasoning)
        for call in message.tool_calls or []:
            call.arguments = _sendable_json(call.arguments)
            call.function, call.id = sendable(call.function), sendable(call.id)
    output.completion = sendable(output.completion)


def _make_ids_unique(output: ModelOutput, messages: Sequence[ChatMessage]) -> None:
    """Make tool call ids unique if the server repeats or omits them: results are matched by id."""
    seen = {
        call.id
        for message in messages
        if isinstance(message, ChatMessageAssistant)
        for call in message.tool_calls or []
    }
    for choice in output.choices:
        for call in choice.message.tool_calls or []:
            base, number = call.id or "call", 1
            while not call.id or call.id in seen:
                number += 1
                call.id = f"{base}-{number}"
            seen.add(call.id)


def _sendable_json(value: Any) -> Any:
    if isinstance(value, str):
        return sendable(value)
    if isinstance(value, dict):
        return {sendable(str(key)): _sendable_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_sendable_json(inner) for inner in value]
    return value


def sendable(content: str) -> str:
    """Replace the lone surrogates of a text, which valid JSON cannot contain."""
    return content.encode(errors="replace").decode()
