"""The requests of a preflight to a model's server: their bounds, their answers and their failures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput
from inspect_ai.tool import ToolInfo

from redline._text import clean_line
from redline.models.markup import looks_like_call
from redline.models.preflight_settings import settings
from redline.models.server_error import ServerError, server_error
from redline.models.text_tools import reasoning_of

_TOO_SHORT = re.compile(r"max_(?:completion_|output_)?tokens|output limit", re.IGNORECASE)


class RequestError(Exception):
    """Raised when a request was not answered."""

    def __init__(self, error: ServerError) -> None:
        """Store the server's error."""
        super().__init__(str(error))
        self.error = error


@dataclass
class Answer:
    """An answer, with the conversation that led to it."""

    output: ModelOutput
    """The answer."""
    messages: list[ChatMessage]
    """The conversation that was sent."""

    @property
    def prompt_tokens(self) -> int | None:
        """Prompt tokens as reported, cached ones included; None if none are reported."""
        usage = self.output.usage
        if usage is None:
            return None
        cached = (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
        return usage.input_tokens + cached or None

    @property
    def has_call(self) -> bool:
        """Whether the answer has a well-formed tool call."""
        return any(call.parse_error is None for call in self.output.message.tool_calls or [])

    @property
    def has_markup(self) -> bool:
        """Whether the answer's text or reasoning contains call markup."""
        message = self.output.message
        return looks_like_call(message.text) or looks_like_call(reasoning_of(message))


class Requests:
    """Send the requests of one preflight and count them."""

    def __init__(self) -> None:
        """Initialise the counters."""
        self.calls = 0
        """Requests sent."""
        self.answered = False
        """Whether any request was answered."""
        self.answered_as: str | None = None
        """The model's name in the last answer."""

    async def ask_for_call(self, model: Model, messages: list[ChatMessage], tools: Sequence[ToolInfo]) -> Answer:
        """Ask for a tool call. Retry with a higher token limit if reasoning used up the first one.

        Raises:
            RequestError: The server did not answer.
        """
        bounds = settings().bounds
        output = await self._generate(model, messages, tools, bounds.answer_tokens)
        if output.stop_reason == "max_tokens" and not output.message.tool_calls and _is_reasoning(output.message.text):
            output = await self._generate(model, messages, tools, bounds.long_answer_tokens)
        return Answer(output, messages)

    async def ask_briefly(self, model: Model, messages: list[ChatMessage], tools: Sequence[ToolInfo] = ()) -> Answer:
        """Ask for a short answer, whose content does not matter.

        Raises:
            RequestError: The server did not answer.
        """
        return Answer(await self._generate(model, messages, tools, settings().bounds.short_answer_tokens), messages)

    async def _generate(
        self, model: Model, messages: list[ChatMessage], tools: Sequence[ToolInfo], tokens: int
    ) -> ModelOutput:
        """Send a request. Retry with a higher token limit if the server rejects the limit as too low."""
        try:
            return await self._request(model, messages, tools, tokens)
        except RequestError as failure:
            if failure.error.kind != "rejected" or not _TOO_SHORT.search(failure.error.message):
                raise
        return await self._request(model, messages, tools, settings().bounds.long_answer_tokens)

    async def _request(
        self, model: Model, messages: list[ChatMessage], tools: Sequence[ToolInfo], tokens: int
    ) -> ModelOutput:
        bounds = settings().bounds
        self.calls += 1
        # The client's own quick retries are enough: the user needs to know about a failure that lasts for seconds.
        is_short = tokens <= bounds.short_answer_tokens
        seconds = bounds.short_attempt_seconds if is_short else bounds.attempt_seconds
        config = GenerateConfig(max_retries=0, attempt_timeout=seconds, max_tokens=tokens)
        try:
            output = await model.generate(messages, tools=list(tools), config=config, cache=False)
        except Exception as error:  # providers raise exceptions of any type
            raise RequestError(server_error(error, bounds.message_characters)) from error
        if not output.choices:
            raise RequestError(ServerError("malformed", None, "the answer has no choices"))
        if output.stop_reason == "model_length":
            message = clean_line(output.error or output.completion, bounds.message_characters)
            raise RequestError(ServerError("rejected", None, f"the first request does not fit its context: {message}"))
        self.answered = True
        self.answered_as = clean_line(output.model, bounds.message_characters) or None
        return output


def _is_reasoning(text: str) -> bool:
    """Return whether a truncated answer consists of reasoning only, which some servers leave in the text."""
    stripped = text.strip()
    return not stripped or (stripped.startswith("<think>") and "</think>" not in stripped)
