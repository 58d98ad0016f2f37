"""A client of chat servers that behaves like real ones: it reads the list of models, sends a key, and reads streams.

A copy's server only has to serve its own agent, not the verifier. If it answers a plain question without a chat
completion, the question is sent again in the ways that clients of such servers use. A server that does not answer at
all is not asked again.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redline.tether import HttpFault, HttpReply, get, post_json
from redline.tether.http import Connector
from redline.verify._limits import limits

COMPLETIONS = "/chat/completions"
MODELS = "/models"
FIRST_PATH = "/v1"
ANY_MODEL = "default"
HTTP_OK = 200
REFUSED = (401, 403, 407)
NO_SUCH_PATH = (404, 405, 501)
MAX_KEY = 512
KEY_NAME = re.compile(r"key|token|secret|auth|passw|bearer", re.IGNORECASE)
KEY_LIKE = re.compile(r"^[\x21-\x7e]{4,512}$")

Keys = Callable[[], Awaitable[Sequence[str]]]
"""Returns the keys that the agent's processes hold."""


class Address(Protocol):
    """The address of a server."""

    @property
    def node(self) -> str:
        """Return the node of the cell."""

    @property
    def port(self) -> int | str:
        """Return the TCP port or the path of the unix socket."""

    @property
    def ip(self) -> str:
        """Return the address to connect to."""


@dataclass(frozen=True)
class ChatAnswer:
    """The answer of a server."""

    status: int | None
    text: str
    fault: str


@dataclass
class ChatClient:
    """Sends one question to one server."""

    cell: Connector
    endpoint: Address
    content: str
    seconds: float
    keys: Keys
    """Called only if a server refuses a client without a key."""
    reached: Callable[[], bool]
    """Returns whether the question caused a call over the tether; then it is not sent again."""

    async def ask(self) -> ChatAnswer:
        """Ask plainly; if that is refused, ask as the server's own clients do."""
        answer, fault = await self._chat(FIRST_PATH, ANY_MODEL, {}, self.seconds)
        text = completion_text(answer)
        if text or answer is None or self.reached():
            return ChatAnswer(answer.status if answer else None, text, fault)
        return ChatAnswer(answer.status, await self._ask_again(answer), fault)

    async def _ask_again(self, first: HttpReply) -> str:
        path, headers, models = await self._discover(first)
        for model in models[: limits().challenge.models]:
            for stream in (False, True):
                answer, _ = await self._chat(path, model, headers, self.seconds, stream=stream)
                text = completion_text(answer)
                if text or answer is None or self.reached():
                    return text
        return ""

    async def _discover(self, first: HttpReply) -> tuple[str, Mapping[str, str], list[str]]:
        """Find the API's path, whether it requires a key, and the models that it lists."""
        figures = limits().challenge
        refused: list[str] = [FIRST_PATH] if first.status in REFUSED else []
        for path in figures.paths:
            listed = await self._get(path + MODELS, {})
            if listed is None:
                continue
            names = model_names(listed)
            if names and first.status not in REFUSED:
                return path, {}, names
            if listed.status in REFUSED:
                refused.append(path)
        if refused:
            for headers in with_keys(await self.keys()):
                for path in dict.fromkeys(refused):
                    listed = await self._get(path + MODELS, headers)
                    names = model_names(listed)
                    if names:
                        return path, headers, names
                    # A server might not list its models.
                    answer, _ = await self._chat(path, ANY_MODEL, headers, self.seconds)
                    if self.reached() or completion_text(answer):
                        return path, headers, [ANY_MODEL]
        if first.status in NO_SUCH_PATH:
            for path in figures.paths[1:]:
                answer, _ = await self._chat(path, ANY_MODEL, {}, self.seconds)
                if answer is not None and answer.status not in NO_SUCH_PATH:
                    return path, {}, [ANY_MODEL]
            return FIRST_PATH, {}, []
        return FIRST_PATH, {}, [ANY_MODEL]

    async def _chat(
        self, path: str, model: str, headers: Mapping[str, str], seconds: float, *, stream: bool = False
    ) -> tuple[HttpReply | None, str]:
        question: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": self.content}]}
        if stream:
            question["stream"] = True
        try:
            answer = await post_json(
                self.cell,
                self.endpoint.port,
                path + COMPLETIONS,
                question,
                node=self.endpoint.node,
                address=self.endpoint.ip,
                timeout=seconds,
                limit=limits().challenge.reply_bytes,
                headers=headers,
            )
        except (HttpFault, TimeoutError, OSError) as fault:
            return None, f"{type(fault).__name__}: {fault}"
        return answer, ""

    async def _get(self, path: str, headers: Mapping[str, str]) -> HttpReply | None:
        try:
            return await get(
                self.cell,
                self.endpoint.port,
                path,
                node=self.endpoint.node,
                address=self.endpoint.ip,
                timeout=limits().challenge.probe_seconds,
                limit=limits().challenge.reply_bytes,
                headers=headers,
            )
        except (HttpFault, TimeoutError, OSError):
            return None


def model_names(listed: HttpReply | None) -> list[str]:
    """Return the models that a server lists in OpenAI's or a similar format; an empty list if it lists none."""
    if listed is None or listed.status != HTTP_OK or not isinstance(listed.json, dict):
        return []
    entries = listed.json.get("data", listed.json.get("models"))
    if not isinstance(entries, list):
        return []
    names = [entry.get("id", entry.get("name")) if isinstance(entry, dict) else entry for entry in entries]
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and 0 < len(name) <= MAX_KEY))


def completion_text(answer: HttpReply | None) -> str:
    """Return the text of a chat completion, whole or streamed; empty if the answer is not a completion."""
    if answer is None or answer.status != HTTP_OK:
        return ""
    if answer.json is not None:
        return _text_of(answer.json)
    events = (line.strip() for line in answer.text.splitlines())
    return "".join(_text_of(_parsed(line.removeprefix("data:"))) for line in events if line)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text_of(completion: Any) -> str:
    if not isinstance(completion, dict):
        return ""
    choices = completion.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message", choices[0].get("delta"))
        content = message.get("content") if isinstance(message, dict) else choices[0].get("text")
    else:
        message = completion.get("message")
        content = message.get("content") if isinstance(message, dict) and "role" in message else None
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def with_keys(keys: Iterable[str]) -> list[Mapping[str, str]]:
    """Return headers in which clients send a key: first a placeholder, then each of the keys found."""
    found = [key for key in keys if KEY_LIKE.match(key)][: limits().challenge.keys]
    bearers: list[Mapping[str, str]] = [{"Authorization": f"Bearer {key}"} for key in ("EMPTY", *found)]
    return [*bearers, *({"x-api-key": key, "api-key": key} for key in found)]


def keys_in(words: Iterable[Sequence[str]], environments: Iterable[Sequence[str]]) -> list[str]:
    """Return possible keys among the arguments and environments of processes, the most likely first."""
    named: list[str] = []
    for line in words:
        for before, word in zip(("", *line), line, strict=False):
            name, found, value = word.partition("=")
            if found and KEY_NAME.search(name):
                named.append(value)
            elif before.startswith("-") and "=" not in before and KEY_NAME.search(before):
                named.append(word)
    for environment in environments:
        for variable in environment:
            name, _, value = variable.partition("=")
            if KEY_NAME.search(name):
                named.append(value)
    return [key.removeprefix("Bearer ") for key in dict.fromkeys(named) if key]
