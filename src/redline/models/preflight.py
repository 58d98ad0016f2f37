"""The preflight: an exchange with a model's server before the first trial, through the model's own Inspect client.

Without it, a misconfigured server, or one that returns tool calls as text, looks like an agent that does nothing in
every trial. The exchange selects the mode of tool calls. A server that no trial can use is refused with a one-line
error.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import anyio
from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    Model,
)
from inspect_ai.tool import ToolInfo

from redline._errors import UsageError
from redline.models.clients import set_emulation
from redline.models.preflight_errors import SKIP, refusal, usage_error
from redline.models.preflight_record import AskedToolCalls, PreflightRecord, ToolCalls
from redline.models.preflight_requests import Answer, RequestError, Requests
from redline.models.preflight_settings import settings
from redline.models.server_error import ServerError
from redline.models.server_facts import ServerFacts, loaded_context, provider_of, server_facts, wire_name
from redline.models.text_tools import as_text, with_calls

CLOSE_SECONDS = 10
FORCE_TEXT = "-T tool_calls=text"


@dataclass(frozen=True)
class Tools:
    """The tool of the preflight and its description for the model."""

    bash: ToolInfo
    """The shell tool, as offered in the trials."""
    protocol: str
    """System text of the text protocol for that tool."""
    fault: str = ""
    """Message of the text protocol about a call that could not be parsed."""
    text_offered: bool = True
    """Whether the trials' agents support the text protocol."""
    emulation_offered: bool = True
    """Whether the trials can use Inspect's emulation of tool calls."""


async def preflight(
    make: Callable[[], Model],
    *,
    tools: Tools | None,
    asked: AskedToolCalls = "auto",
    label: str | None = None,
    role: str | None = None,
) -> PreflightRecord:
    """Test a model's server.

    Args:
        make: Make the model. Its client is used only in this exchange and then closed.
        tools: The tool to test; None only asks for a plain answer.
        asked: The requested mode of tool calls.
        label: The model's name in the results.
        role: The model's role, if it is not under test.

    Raises:
        UsageError: No trial can use this server as it is. The message is one line with the fix.
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
    if not exchange.is_done and not exchange.requests.answered:
        raise UsageError(f"model {exchange.label}: no answer within {settings().bounds.total_seconds:g} s; {SKIP}")
    return exchange.record()


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
    requests: Requests = field(default_factory=Requests)
    has_address: bool = False
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
            answered_as=self.requests.answered_as,
            calls=self.requests.calls,
            seconds=round(time.monotonic() - self.began, 3),
            warnings=tuple(self.warnings),
        )

    async def run(self) -> None:
        await self._query_facts()
        if self.tools is None:
            await self._plain_or_refuse()
        else:
            self.tool_calls = "native" if self.asked == "auto" else self.asked
            await self._try_tools(self.tools)
        if not self.has_address:  # some clients determine their server's address with the first request
            await self._query_facts()
        if self.context is None:
            self.context = await loaded_context(self.model)
        if self.context is not None and self.context < settings().bounds.small_context:
            self.warnings.append(
                f"the server's context is {self.context} tokens; under {settings().bounds.small_context} a long "
                "conversation does not fit: start it with a longer context"
            )
        self.is_done = True

    async def _query_facts(self) -> None:
        self.has_address = bool(self.model.api.base_url)
        self.facts = await server_facts(self.model)
        self.context = self.facts.context
        self._check_name()

    def _check_name(self) -> None:
        name = wire_name(self.model)
        self.name_known = self.facts.knows(name)
        if self.name_known is not False:
            return
        problem = f"the server at {self.model.api.base_url} does not list '{name}'"
        if self.facts.is_nameless:
            self.warnings.append(f"{problem} but answers to any name: {self.facts.nearest(name)}")
        elif provider_of(self.model) in settings().providers.own_servers:
            raise UsageError(f"model {self.label}: {problem}; {self.facts.nearest(name)} ({SKIP})")
        else:
            self.warnings.append(f"{problem}; {self.facts.nearest(name)}")

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
        except RequestError as refused:
            if not await self._is_only_slow(refused.error):
                await self._refuse(refused.error, with_tools=False)
            return
        if not self.call_seen:
            self._warn_no_call(f"with tool_calls={mode}")

    async def _native(self, tools: Tools, *, may_switch: bool) -> None:
        """Try native calls; if they do not come through, try the other modes in order."""
        if getattr(self.model.api, "emulate_tools", None):
            self.tool_calls = "emulated"
        messages = _opening(settings().words.request, settings().words.system)
        try:
            answer = await self.requests.ask_for_call(self.model, messages, [tools.bash])
        except RequestError as refused:
            if not await self._is_only_slow(refused.error):
                await self._refuse(refused.error, with_tools=True)
            return
        self.call_seen = answer.has_call
        if answer.has_call:
            try:
                await self._second_turn(self.model, answer, [tools.bash], mode="native", fault="")
                return
            except RequestError as refused:
                if not (may_switch and await self._switch(tools)):
                    problem = "the server rejects the result of a tool call"
                    raise usage_error(self.model, self.label, refused.error, problem) from refused
                return
        dropped = not answer.has_markup and await self._drops_tools(messages, answer)
        if not (answer.has_markup or dropped):
            if answer.output.message.tool_calls:
                self.warnings.append("the model called the tool with arguments that could not be parsed")
            else:
                self._warn_no_call("")
            return
        await self._change_mode(tools, dropped=dropped, may_switch=may_switch)

    async def _change_mode(self, tools: Tools, *, dropped: bool, may_switch: bool) -> None:
        """Change the mode of calls that do not come through natively, and add a warning."""
        reason = "the chat template drops tools" if dropped else "tool calls come back as text"
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
            self.warnings.append(f"{reason}{better}: tool_calls=text is used, although no call was seen there either")
        else:
            self.warnings.append(f"{reason}{better}, and this agent supports no other mode: its calls may be lost")

    async def _switch(self, tools: Tools) -> bool:
        """Change to the first other mode in which a call and its result pass."""
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
            except RequestError:
                continue
        return False

    def _for(self, mode: ToolCalls) -> Model | None:
        """Return the model for trying a mode; None if its provider does not support the mode."""
        if mode != "emulated":
            return self.model
        model = self.make()
        self.used.append(model)
        return model if set_emulation(model) else None

    async def _works(self, mode: ToolCalls, model: Model, tools: Tools) -> bool:
        """Return whether a call and its result pass.

        A server that answers only the first turn also passes, with a warning.
        """
        words = settings().words
        system = f"{words.system}\n\n{tools.protocol}" if mode == "text" else words.system
        offered = [] if mode == "text" else [tools.bash]
        answer = await self.requests.ask_for_call(model, _opening(words.request, system), offered)
        if mode == "text":
            answer.output = with_calls(answer.output, [tools.bash])
        if not answer.has_call:
            return False
        await self._second_turn(model, answer, offered, mode=mode, fault=tools.fault)
        return True

    async def _second_turn(
        self, model: Model, answer: Answer, offered: Sequence[ToolInfo], *, mode: ToolCalls, fault: str
    ) -> None:
        """Send the result of the calls.

        A temporary failure adds a warning.

        Raises:
            RequestError: The server rejects the result.
        """
        calls = answer.output.message.tool_calls or []
        results = [
            ChatMessageTool(content=settings().words.result.strip(), tool_call_id=call.id, function=call.function)
            for call in calls
        ]
        messages: list[ChatMessage] = [*answer.messages, answer.output.message, *results]
        try:
            conversation = as_text(messages, fault) if mode == "text" else messages
            second = await self.requests.ask_briefly(model, conversation, offered)
        except RequestError as refused:
            if refused.error.kind not in ("passing", "late", "refused"):
                raise
            self.warnings.append(f"the server answered the first request but not the second one: {refused.error}")
            return
        before, after = answer.prompt_tokens, second.prompt_tokens
        if before is not None and after is not None and after <= before:
            self.warnings.append(
                f"prompt tokens do not grow with the conversation ({before}, then {after}): the server may "
                "silently drop parts of it or count wrongly"
            )

    async def _drops_tools(self, messages: list[ChatMessage], answer: Answer) -> bool:
        """Return whether the prompt has as many tokens without the tool as with it."""
        try:
            plain = await self.requests.ask_briefly(self.model, messages)
        except RequestError:
            return False
        return answer.prompt_tokens is not None and answer.prompt_tokens == plain.prompt_tokens

    def _warn_no_call(self, where: str) -> None:
        self.warnings.append(" ".join(filter(None, ("the model called no tool when asked to", where))))

    async def _plain_or_refuse(self) -> None:
        try:
            await self._ask_plainly()
        except RequestError as refused:
            await self._refuse(refused.error, with_tools=False)

    async def _refuse(self, error: ServerError, *, with_tools: bool) -> NoReturn:
        """Refuse a server that did not answer the first request.

        Raises:
            UsageError: Always.
        """
        if with_tools and error.status is not None and error.kind in ("rejected", "passing"):
            fix = settings().fix_for_message(error.message)
            if fix or await self._answers_without_tools():
                fix = fix or settings().fix_for_server(self.facts.owners)
                text = f"use {FORCE_TEXT}" if self.tools is not None and self.tools.text_offered else ""
                ways = ", or ".join(filter(None, (fix, text))) or "choose another model"
                raise usage_error(self.model, self.label, error, "the server refuses tools", ways)
        nearest = "" if self.name_known else self.facts.nearest(wire_name(self.model))
        raise refusal(self.model, self.label, error, nearest)

    async def _is_only_slow(self, error: ServerError) -> bool:
        """Return whether a server that timed out does give a short answer, so that a run can use it."""
        if error.kind != "late" or not await self._answers_without_tools():
            return False
        seconds = settings().bounds.attempt_seconds
        self.warnings.append(f"the server is slow: no answer in {seconds} s, so tool calls were not tried")
        return True

    async def _answers_without_tools(self) -> bool:
        try:
            await self._ask_plainly()
        except RequestError:
            return False
        return True

    async def _ask_plainly(self) -> None:
        await self.requests.ask_briefly(self.model, [ChatMessageUser(content=settings().words.plain)])


def _opening(request: str, system: str) -> list[ChatMessage]:
    return [ChatMessageSystem(content=system), ChatMessageUser(content=request)]
