"""Asking a model: bounded, each try entered into the ledger, and every failure told apart.

Inspect retries without a bound unless it is given one, and a try that fails leaves no trace where the next one is
answered. So every call of redline's goes through here.
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
"""What a client raises when it reads an answer that is none."""
_PASSED_ON: Final = (*ENDS_THE_SAMPLE, RedlineError)
"""Raised by a call and no fault of the server's: Inspect's own limits, and redline's own errors."""
_OBSERVED: Final = "_redline_observed"
_HEALTH: Final = "_redline_health"

_open_call: ContextVar[OpenCall | None] = ContextVar("redline_open_call", default=None)


class ModelUnavailableError(Exception):
    """Raised when the model could not be asked; its text is one line that says why."""

    def __init__(self, fault: Fault, tries: int, seconds: float) -> None:
        """Say what the last try met.

        Args:
            fault: What the last try met.
            tries: How often the server was asked.
            seconds: How long that took.
        """
        times = "1 try" if tries == 1 else f"{tries} tries"
        super().__init__(f"{fault} after {times} in {seconds:.0f} s")
        self.fault = fault


class ContextExceededError(Exception):
    """Raised when the conversation no longer fits the model's context."""


def bounded(config: GenerateConfig) -> GenerateConfig:
    """Return bounds for a call of a model, where the model's own settings give none.

    Args:
        config: The model's own settings.
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
    """Ask a model once, with bounded retries, and enter the call into the ledger.

    Args:
        model: The model.
        ledger: Where the call is entered.
        role: Who asks.
        messages: What the model is given.
        generate: Makes the call, with the bounds that it is given.
        generation: Generation of the replica that asks, where one does.
        process: Pid of that replica's engine.

    Returns:
        The answer. It has at least one choice, and tool calls in it have ids that differ.

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
            call.is_void = True  # what a limit ended says nothing about the server
            raise
        except Exception as error:  # providers raise what they like
            raise _failure(error, call, config, health_of(model)) from error
        finally:
            _open_call.reset(token)
        if output.stop_reason == "model_length":
            raise ContextExceededError(output.error or output.completion)
        health_of(model).answered()
        _tell_apart(output, messages)
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
    """Ask a model for one token; return why it does not answer, None if it does."""
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
    """Return whether a model's server answers at present; kept with the model, which all its trials share."""
    health = getattr(model, _HEALTH, None)
    if not isinstance(health, Health):
        health = Health()
        setattr(model, _HEALTH, health)
    return health


def observe(model: Model) -> None:
    """Have each failed try of a model's noted in the call that it belongs to; a second time changes nothing.

    Inspect reports a failed try to nobody but its own decision whether to retry, so that is wrapped, for this instance
    alone; and the provider's method, to tell an answer from what is none.
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

    setattr(model, "should_retry", noted)  # noqa: B010 - a method cannot be assigned to
    setattr(model, _OBSERVED, True)
    if not getattr(model.api, _OBSERVED, False):
        generate = model.api.generate

        async def read(*args: Any, **kwargs: Any) -> Any:
            return await _read(generate(*args, **kwargs))

        setattr(model.api, "generate", read)  # noqa: B010 - as above
        setattr(model.api, _OBSERVED, True)


async def _read(answer: Awaitable[Any]) -> Any:
    """Return a provider's answer, made fit to be kept.

    Raises:
        BadAnswerError: It is none.
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
        _clean(output)
    return result


def _clean(output: ModelOutput) -> None:
    """Replace lone surrogates, which no file and no wire can hold."""
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


def _tell_apart(output: ModelOutput, messages: Sequence[ChatMessage]) -> None:
    """Give a tool call an id of its own where the server repeats ids or gives none: results are matched by them."""
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
    """Return a text without the lone surrogates that a model's answer may hold and JSON on a wire may not."""
    return content.encode(errors="replace").decode()
