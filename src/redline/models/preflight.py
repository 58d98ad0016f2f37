"""The preflight: an exchange with a model's server before the first trial, through the model's own Inspect client.

A server that is wrong, or that returns tool calls as text, otherwise looks like an agent that does nothing, trial by
trial. The exchange finds the way in which tool calls pass, and refuses with one line what no trial could work with.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import anyio
from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
)
from inspect_ai.tool import ToolInfo

from redline._errors import UsageError
from redline._text import clean_line
from redline.models.clients import set_emulation
from redline.models.markup import looks_like_call
from redline.models.preflight_record import AskedToolCalls, PreflightRecord, ToolCalls
from redline.models.preflight_settings import settings
from redline.models.server_error import ServerError, server_error
from redline.models.server_facts import ServerFacts, loaded_context, provider_of, server_facts, wire_name
from redline.models.text_tools import as_text, reasoning_of, with_calls

_TOO_SHORT = re.compile(r"max_(?:completion_|output_)?tokens|output limit", re.IGNORECASE)
CLOSE_SECONDS = 10
SKIP = "--no-preflight runs without this check"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
FORCE_TEXT = "-T tool_calls=text"


@dataclass(frozen=True)
class Tools:
    """The tool that is tried, and how a model is told of it."""

    bash: ToolInfo
    """The shell tool, as the trials offer it."""
    protocol: str
    """System text of the text protocol for that tool."""
    fault: str = ""
    """What the text protocol says of a call that could not be read."""
    text_offered: bool = True
    """Whether the agents of the trials can use the text protocol."""
    emulation_offered: bool = True
    """Whether the trials can use a model with which Inspect emulates tool calls."""


async def preflight(
    make: Callable[[], Model],
    *,
    tools: Tools | None,
    asked: AskedToolCalls = "auto",
    label: str | None = None,
    role: str | None = None,
) -> PreflightRecord:
    """Try a model's server.

    Args:
        make: Makes the model. Its client is used within this exchange alone, and closed.
        tools: The tool to try; None tries one plain answer.
        asked: How tool calls are to pass.
        label: The model's name in the results.
        role: The model's role, where it is not under test.

    Raises:
        UsageError: No trial could work with this server as it is. The message is one line with the fix.
    """
    model = make()
    exchange = _Exchange(make, model, tools, asked, label or str(model), role)
    try:
        with anyio.move_on_after(settings().bounds.total_seconds):
            await exchange.run()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
            for used in exchange.used:
                await used.api.aclose()
    if not exchange.is_done and not exchange.answered:
        raise UsageError(f"model {exchange.label}: no answer within {settings().bounds.total_seconds:g} s; {SKIP}")
    return exchange.record()


@dataclass
class _Answer:
    """An answer, with the conversation that led to it."""

    output: ModelOutput
    messages: list[ChatMessage]

    @property
    def prompt_tokens(self) -> int | None:
        usage = self.output.usage
        if usage is None:
            return None
        cached = (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
        return usage.input_tokens + cached or None

    @property
    def has_call(self) -> bool:
        return any(call.parse_error is None for call in self.output.message.tool_calls or [])

    @property
    def has_markup(self) -> bool:
        message = self.output.message
        return looks_like_call(message.text) or looks_like_call(reasoning_of(message))


@dataclass
class _Exchange:
    make: Callable[[], Model]
    model: Model
    tools: Tools | None
    asked: AskedToolCalls
    label: str
    role: str | None
    facts: ServerFacts = field(default_factory=ServerFacts)
    tool_calls: ToolCalls | None = None
    call_seen: bool | None = None
    name_known: bool | None = None
    context: int | None = None
    answered_as: str | None = None
    calls: int = 0
    answered: bool = False
    is_learnt: bool = False
    is_done: bool = False
    warnings: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.used = [self.model]

    def record(self) -> PreflightRecord:
        if not self.is_done:
            self.warnings.append("the preflight ran out of time; the server is slow")
        return PreflightRecord(
            model=self.label,
            role=self.role,
            asked=self.asked if self.tools is not None else None,
            tool_calls=self.tool_calls,
            call_seen=self.call_seen,
            name_known=self.name_known,
            context=self.context,
            slots=self.facts.slots,
            answered_as=self.answered_as,
            calls=self.calls,
            seconds=round(time.monotonic() - self.began, 3),
            warnings=tuple(self.warnings),
        )

    async def run(self) -> None:
        await self._learn()
        if self.tools is None:
            await self._plain_or_refuse()
        else:
            self.tool_calls = "native" if self.asked == "auto" else self.asked
            await self._try_tools(self.tools)
        if not self.is_learnt:  # some clients find their server's address with their first request
            await self._learn()
        if self.context is None:
            self.context = await loaded_context(self.model)
        if self.context is not None and self.context < settings().bounds.small_context:
            self.warnings.append(
                f"the server's context is {self.context} tokens; under {settings().bounds.small_context} a long "
                "conversation does not fit: start it with more"
            )
        self.is_done = True

    async def _learn(self) -> None:
        self.is_learnt = bool(self.model.api.base_url)
        self.facts = await server_facts(self.model)
        self.context = self.facts.context
        self._check_name()

    def _check_name(self) -> None:
        name = wire_name(self.model)
        self.name_known = self.facts.knows(name)
        if self.name_known is not False:
            return
        what = f"the server at {self.model.api.base_url} does not list '{name}'"
        if self.facts.is_nameless:
            self.warnings.append(f"{what}, and answers to any name: {self.facts.nearest(name)}")
        elif provider_of(self.model) in settings().providers.own_servers:
            raise UsageError(f"model {self.label}: {what}; {self.facts.nearest(name)} ({SKIP})")
        else:
            self.warnings.append(f"{what}; {self.facts.nearest(name)}")

    async def _try_tools(self, tools: Tools) -> None:
        match self.asked:
            case "text":
                await self._forced("text", tools)
            case "emulated":
                await self._forced("emulated", tools)
            case "native":
                await self._native(tools, may_switch=False)
            case "auto":
                await self._native(tools, may_switch=True)

    async def _forced(self, mode: ToolCalls, tools: Tools) -> None:
        model = self._for(mode)
        if model is None:
            raise UsageError(
                f"model {self.label}: Inspect cannot emulate tool calls for this provider; use {FORCE_TEXT}"
            )
        try:
            self.call_seen = await self._works(mode, model, tools)
        except _RefusedError as refused:
            if not await self._is_only_slow(refused.error):
                await self._refuse(refused.error, with_tools=False)
            return
        if not self.call_seen:
            self._warn_no_call(f"with tool_calls={mode}")

    async def _native(self, tools: Tools, *, may_switch: bool) -> None:
        """The model's client as it is; where calls do not come through, the other ways in their order."""
        if getattr(self.model.api, "emulate_tools", None):
            self.tool_calls = "emulated"
        messages = _opening(settings().words.request, settings().words.system)
        try:
            answer = await self._ask(self.model, messages, [tools.bash])
        except _RefusedError as refused:
            if not await self._is_only_slow(refused.error):
                await self._refuse(refused.error, with_tools=True)
            return
        self.call_seen = answer.has_call
        if answer.has_call:
            try:
                await self._second_turn(self.model, answer, [tools.bash], mode="native", fault="")
                return
            except _RefusedError as refused:
                if not (may_switch and await self._switch(tools)):
                    self._say_no(refused.error, "it refuses the result of a tool call")
                return
        dropped = not answer.has_markup and await self._drops_tools(messages, answer)
        if not (answer.has_markup or dropped):
            if answer.output.message.tool_calls:
                self.warnings.append("the model called the tool with arguments that could not be read")
            else:
                self._warn_no_call("")
            return
        await self._other_way(tools, dropped=dropped, may_switch=may_switch)

    async def _other_way(self, tools: Tools, *, dropped: bool, may_switch: bool) -> None:
        """Take another way for calls that do not come through natively, and say so."""
        reason = "its chat template drops tools" if dropped else "tool calls come back as text"
        fix = settings().fix_for_server(self.facts.owners)
        better = f" (for native calls, if not yet done: {fix})" if fix and not dropped else ""
        if not may_switch:
            self.warnings.append(f"{reason}: with tool_calls=native none of them is run{better}")
            return
        found = await self._switch(tools)
        if found:
            self.warnings.append(f"{reason}{better}: tool_calls={self.tool_calls} is used")
        elif tools.text_offered:
            self.tool_calls = "text"
            self.warnings.append(f"{reason}{better}: tool_calls=text is used, though no call was seen there either")
        else:
            self.warnings.append(f"{reason}{better}, and this agent can use no other way: its calls may be lost")

    async def _switch(self, tools: Tools) -> bool:
        """Take the first other way in which a call and its result pass."""
        current = self.tool_calls
        offered: dict[ToolCalls, bool] = {"emulated": tools.emulation_offered, "text": tools.text_offered}
        for mode in (mode for mode, is_offered in offered.items() if is_offered):
            model = self._for(mode) if mode != current else None
            if model is None:
                continue
            try:
                if await self._works(mode, model, tools):
                    self.tool_calls, self.call_seen = mode, True
                    return True
            except _RefusedError:
                continue
        return False

    def _for(self, mode: ToolCalls) -> Model | None:
        """The model with which a mode is tried; None where its provider has no such mode."""
        if mode != "emulated":
            return self.model
        model = self.make()
        self.used.append(model)
        return model if set_emulation(model) else None

    async def _works(self, mode: ToolCalls, model: Model, tools: Tools) -> bool:
        """Whether a call and its result pass; a server that answers only the first turn passes, with a warning."""
        words = settings().words
        system = f"{words.system}\n\n{tools.protocol}" if mode == "text" else words.system
        offered = [] if mode == "text" else [tools.bash]
        answer = await self._ask(model, _opening(words.request, system), offered)
        if mode == "text":
            answer.output = with_calls(answer.output, [tools.bash])
        if not answer.has_call:
            return False
        await self._second_turn(model, answer, offered, mode=mode, fault=tools.fault)
        return True

    async def _second_turn(
        self, model: Model, answer: _Answer, offered: Sequence[ToolInfo], *, mode: ToolCalls, fault: str
    ) -> None:
        """Give the result of the calls back; raise what refuses it for good, and warn of what may pass."""
        calls = answer.output.message.tool_calls or []
        results = [
            ChatMessageTool(content=settings().words.result.strip(), tool_call_id=call.id, function=call.function)
            for call in calls
        ]
        messages: list[ChatMessage] = [*answer.messages, answer.output.message, *results]
        try:
            told = as_text(messages, fault) if mode == "text" else messages
            second = await self._ask_shortly(told, offered, model)
        except _RefusedError as refused:
            if refused.error.kind not in ("passing", "late", "refused"):
                raise
            self.warnings.append(f"the server answered one request, and the second one not: {refused.error}")
            return
        before, after = answer.prompt_tokens, second.prompt_tokens
        if before is not None and after is not None and after <= before:
            self.warnings.append(
                f"prompt tokens stand still while the conversation grows ({before}, then {after}): the server may drop "
                "parts of it silently, or count wrongly"
            )

    async def _drops_tools(self, messages: list[ChatMessage], answer: _Answer) -> bool:
        """Whether the prompt has as many tokens without the tool as with it."""
        try:
            plain = await self._ask_shortly(messages)
        except _RefusedError:
            return False
        return answer.prompt_tokens is not None and answer.prompt_tokens == plain.prompt_tokens

    def _warn_no_call(self, where: str) -> None:
        self.warnings.append(" ".join(filter(None, ("the model called no tool when asked to", where))))

    async def _plain_or_refuse(self) -> None:
        try:
            await self._ask_shortly([ChatMessageUser(content=settings().words.plain)])
        except _RefusedError as refused:
            await self._refuse(refused.error, with_tools=False)

    async def _refuse(self, error: ServerError, *, with_tools: bool) -> None:
        """Refuse a server whose first answer was none.

        Raises:
            UsageError: Always.
        """
        if with_tools and error.status is not None and error.kind in ("rejected", "passing"):
            fix = settings().fix_for_message(error.message)
            if fix or await self._answers_without_tools():
                fix = fix or settings().fix_for_server(self.facts.owners)
                text = f"use {FORCE_TEXT}" if self.tools is not None and self.tools.text_offered else ""
                ways = ", or ".join(filter(None, (fix, text))) or "choose another model"
                self._say_no(error, "the server refuses tools", ways)
        match error.kind:
            case "refused":
                self._say_no(error, f"nothing answers at {self.model.api.base_url}", "start its server")
            case "key":
                self._say_no(error, "the server refuses the key", "set the key of its provider, such as OPENAI_API_KEY")
            case "missing":
                near = "" if self.name_known else self.facts.nearest(wire_name(self.model))
                self._say_no(
                    error, "the server knows no such model or address", near or "check the name and the base URL"
                )
            case "passing" | "late":
                self._say_no(error, "the server does not answer", f"try again later; {SKIP}")
            case "malformed":
                self._say_no(error, "what the server sent is no answer of a chat API", "check the base URL")
            case "rejected":
                self._say_no(error, "the server refuses the request")

    async def _is_only_slow(self, error: ServerError) -> bool:
        """Whether a server that did not answer in time does give a short answer: then a run can use it."""
        if error.kind != "late" or not await self._answers_without_tools():
            return False
        seconds = settings().bounds.attempt_seconds
        self.warnings.append(f"the server is slow: no answer in {seconds} s, so tool calls were not tried")
        return True

    async def _answers_without_tools(self) -> bool:
        try:
            await self._ask_shortly([ChatMessageUser(content=settings().words.plain)])
        except _RefusedError:
            return False
        return True

    def _say_no(self, error: ServerError, what: str, fix: str = "") -> None:
        raise UsageError(
            "; ".join(filter(None, (f"model {self.label}: {what} ({error})", fix, self._proxy_hint(error))))
        )

    def _proxy_hint(self, error: ServerError) -> str:
        """What to set where a request to this machine may have gone to a proxy."""
        host = urlsplit(str(self.model.api.base_url or "")).hostname or ""
        proxies = [name for name in PROXIES if os.environ.get(name) or os.environ.get(name.lower())]
        heeded = getattr(getattr(self.model.api, "http_client", None), "trust_env", True)
        if host not in LOOPBACK or not (proxies and heeded) or proxy_bypass(host) or error.kind == "rejected":
            return ""
        return f"{proxies[0]} is set: NO_PROXY={host} keeps requests to this machine from the proxy"

    async def _ask(self, model: Model, messages: list[ChatMessage], tools: Sequence[ToolInfo]) -> _Answer:
        """Ask for a call; again with room for a longer answer where the model thought until the first limit."""
        bounds = settings().bounds
        output = await self._generate(model, messages, tools, bounds.answer_tokens)
        if output.stop_reason == "max_tokens" and not output.message.tool_calls and _only_thought(output.message.text):
            output = await self._generate(model, messages, tools, bounds.long_answer_tokens)
        return _Answer(output, messages)

    async def _ask_shortly(
        self, messages: list[ChatMessage], tools: Sequence[ToolInfo] = (), model: Model | None = None
    ) -> _Answer:
        """Ask for an answer that only has to come."""
        tokens = settings().bounds.short_answer_tokens
        return _Answer(await self._generate(model or self.model, messages, tools, tokens), messages)

    async def _generate(
        self, model: Model, messages: list[ChatMessage], tools: Sequence[ToolInfo], tokens: int
    ) -> ModelOutput:
        """One request; again with room for a longer answer where a model that thinks refuses so short a one."""
        try:
            return await self._request(model, messages, tools, tokens)
        except _RefusedError as refused:
            if refused.error.kind != "rejected" or not _TOO_SHORT.search(refused.error.message):
                raise
        return await self._request(model, messages, tools, settings().bounds.long_answer_tokens)

    async def _request(
        self, model: Model, messages: list[ChatMessage], tools: Sequence[ToolInfo], tokens: int
    ) -> ModelOutput:
        bounds = settings().bounds
        self.calls += 1
        # The client's own few quick retries are enough: what does not pass in seconds is for the user to know.
        is_short = tokens <= bounds.short_answer_tokens
        seconds = bounds.short_attempt_seconds if is_short else bounds.attempt_seconds
        config = GenerateConfig(max_retries=0, attempt_timeout=seconds, max_tokens=tokens)
        try:
            output = await model.generate(messages, tools=list(tools), config=config, cache=False)
        except Exception as error:  # providers raise what they like
            raise _RefusedError(server_error(error, bounds.told_characters)) from error
        if not output.choices:
            raise _RefusedError(ServerError("malformed", None, "the answer has no choices"))
        if output.stop_reason == "model_length":
            told = clean_line(output.error or output.completion, bounds.told_characters)
            raise _RefusedError(ServerError("rejected", None, f"the first request does not fit its context: {told}"))
        self.answered = True
        self.answered_as = clean_line(output.model, bounds.told_characters) or None
        return output


class _RefusedError(Exception):
    """A request was not answered."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(str(error))
        self.error = error


def _opening(request: str, system: str) -> list[ChatMessage]:
    return [ChatMessageSystem(content=system), ChatMessageUser(content=request)]


def _only_thought(text: str) -> bool:
    """Whether an answer that was cut off is reasoning alone, which some servers leave in the text."""
    said = text.strip()
    return not said or (said.startswith("<think>") and "</think>" not in said)
