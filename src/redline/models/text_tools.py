"""The text protocol: tool calls that a model writes as text, for servers that cannot return them natively.

The prompt asks for one format (`render_call` writes it). The parser reads that one and the dialects that models were
trained on, since a model under test must not fail for the markup of its calls.
"""

import ast
import json
import re
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageUser, ContentReasoning, ModelOutput
from inspect_ai.tool import ToolCall, ToolInfo

from redline.models.markup import (
    ARGUMENT_KEYS,
    CALL_HEAD,
    LIST_KEYS,
    MAX_CHARS,
    NAME_KEYS,
    OTHER_KEYS,
    is_call,
    is_definition,
    json_values,
    looks_like_call,
    stands_alone,
)

MAX_CALLS = 16
"""Calls that are read in one message."""
SHELL_TOOL = "bash"
_SHELL_LANGUAGES = frozenset({"bash", "sh", "shell", "zsh"})
_CODE_LANGUAGES = frozenset({"tool_code", "python", "py"})

_NAME = r"\w[\w.:-]{0,63}"
_FENCE = re.compile(r"^[ \t]*(`{3,})[ \t]*([\w+-]*)[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_TOOL_CALL = re.compile(
    r"<\|?(tool_calls?|function_calls?|tools?)\|?>(.*?)(?:<\|?/\|?\1\|?>|(?=<\|?\1\|?>)|\Z)", re.DOTALL
)
_FUNCTION = re.compile(
    rf"<function\s*(?:=|\s+name\s*=)\s*[\"']?({_NAME})[\"']?\s*>(.*?)(?:</function>|(?=<function)|\Z)", re.DOTALL
)
_INVOKE = re.compile(rf"<invoke\s+name\s*=\s*[\"']({_NAME})[\"']\s*>(.*?)(?:</invoke>|(?=<invoke)|\Z)", re.DOTALL)
_PARAMETER = re.compile(
    r"<parameter\s*(?:=|\s+name\s*=)\s*[\"']?(\w{1,64})[\"']?\s*>(.*?)(?:</parameter>|(?=<parameter)|(?=</function)|\Z)",
    re.DOTALL,
)
_ARG = re.compile(r"<arg_key>\s*(\w{1,64})\s*</arg_key>\s*<arg_value>(.*?)(?:</arg_value>|(?=<arg_key>)|\Z)", re.DOTALL)
_GLM = re.compile(rf"\s*({_NAME})\s*(?=<arg_key>)")
_LIST = re.compile(r"(?:\[TOOL_CALLS\]|<\|START_ACTION\|>|^[ \t]*functools(?=\s*\[))(.*)", re.MULTILINE | re.DOTALL)
_MISTRAL = re.compile(rf"\s*({_NAME})\s*(?:\[CALL_ID\][^\[{{]{{0,64}})?(?:\[ARGS\])?\s*(?=\{{)")
_PYTHON_TAG = re.compile(r"<\|python_tag\|>(.*?)(?:<\|e\w{1,9}_id\|>|\Z)", re.DOTALL)
_DEEPSEEK = re.compile(
    rf"<[|\uff5c]tool[_\u2581]call[_\u2581]begin[|\uff5c]>(?:function<[|\uff5c]tool[_\u2581]sep[|\uff5c]>)?\s*"
    rf"(?:functions\.)?({_NAME}?)(?::\d+)?\s*"
    rf"(?:<[|\uff5c]tool[_\u2581](?:sep|call[_\u2581]argument[_\u2581]begin)[|\uff5c]>)?\s*(?:```\w*)?\s*(?=\{{)"
)
_HARMONY = re.compile(rf"to=(?:functions\.)?({_NAME})[^{{]{{0,80}}?<\|message\|>\s*(?=\{{)")
_REACT = re.compile(
    rf"^Action:[ \t]*({_NAME})[ \t]*\n+Action Input:[ \t]*(.*?)(?=\n\s*\n|\nObservation:|\Z)", re.M | re.S
)
_PYTHONIC = re.compile(rf"^[ \t]*(\[?{_NAME}\(.*\)\]?)[ \t]*$", re.MULTILINE)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_BAD_ESCAPE = re.compile(r'\\(?!["\\/bfnrtu])')
_QUOTED_ARGUMENT = re.compile(
    rf"[\"']name[\"']\s*:\s*[\"']({_NAME})[\"']\s*,\s*[\"'](?:{'|'.join(ARGUMENT_KEYS)})[\"']\s*:\s*"
    r"\{\s*[\"'](\w{1,64})[\"']\s*:\s*\"(.*)\"\s*\}\s*\}",
    re.DOTALL,
)
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class _Found:
    start: int
    end: int
    calls: tuple[tuple[str, Any], ...]


_Pairs: TypeAlias = Iterable[tuple[str, Any]]


def read_calls(text: str, tools: Sequence[ToolInfo], *, cut_off: bool = False) -> tuple[ToolCall, ...]:
    """Return the tool calls in a text, in their order.

    Args:
        text: What the model said.
        tools: The tools that there are. A call to another one is read where its markup is explicit, so that the model
            is told that there is no such tool; JSON without markup must name one of these.
        cut_off: Whether the output ended at its length limit. A block that is not closed is then no call.
    """
    text = text[-MAX_CHARS:]
    known = {tool.name: tool for tool in tools}
    shells = [fence for fence in _FENCE.finditer(text) if fence[2].lower() in _SHELL_LANGUAGES]
    masked = [fence.span() for fence in shells]
    calls = [call for found in _in_order(_explicit(text, known), masked) for call in found.calls]
    if not calls and (head := CALL_HEAD.search(text)) is not None and not _lies_in(head.start(), masked):
        calls = [call for call in _in_json(text[head.start() :], known) if _known_name(call[0], known)]
    if not calls and SHELL_TOOL in known:
        calls = [
            (SHELL_TOOL, fence[3].strip("\n"))
            for fence in shells
            if fence[3].strip() and not (cut_off and not fence[0].rstrip().endswith(fence[1]))
        ]
    return tuple(_tool_call(name, arguments, known) for name, arguments in calls[:MAX_CALLS])


def render_call(call: ToolCall) -> str:
    """Return a call in the format that the prompt of the text protocol asks for."""
    content = json.dumps({"name": call.function, "arguments": call.arguments}, ensure_ascii=False)
    return f"```json\n{content}\n```"


def described(tools: Sequence[ToolInfo]) -> str:
    """Return the tools as a list for a prompt: name, parameters, and what each is."""
    return "\n\n".join(map(_description, tools))


def _description(tool: ToolInfo) -> str:
    parameters = [
        f"  - {name} ({schema.type or 'any'}): {schema.description or ''}".rstrip()
        for name, schema in tool.parameters.properties.items()
    ]
    return "\n".join([f"- {tool.name}: {' '.join(tool.description.split())}", *parameters])


def with_calls(output: ModelOutput, tools: Sequence[ToolInfo]) -> ModelOutput:
    """Return a model's output with the calls in its text, or else in its reasoning, as tool calls.

    The text stays as the model wrote it. An output that has native calls, or no choice, is returned as it is.
    """
    if not output.choices or output.message.tool_calls:
        return output
    cut_off = output.stop_reason in ("max_tokens", "model_length")
    calls: tuple[ToolCall, ...] = ()
    for text in (output.message.text, reasoning_of(output.message)):
        calls = calls or read_calls(text, tools, cut_off=cut_off)
    if not calls:
        return output
    message = output.message.model_copy(update={"tool_calls": list(calls)})
    choice = output.choices[0].model_copy(update={"message": message, "stop_reason": "tool_calls"})
    return output.model_copy(update={"choices": [choice, *output.choices[1:]]})


def as_text(messages: Sequence[ChatMessage], fault: str = "") -> list[ChatMessage]:
    """Return a conversation without native calls: results of tools become messages of the user's.

    Consecutive messages of the user's are joined, since many chat templates want the roles to alternate.

    Args:
        messages: The conversation.
        fault: What is said to a model whose last message holds call markup that could not be read.
    """
    told: list[ChatMessage] = []
    unread = False
    for message in messages:
        if message.role == "assistant":
            unread = bool(fault) and not message.tool_calls and looks_like_call(message.text)
            told.append(_said(message))
            continue
        if message.role == "system":
            told.append(message)
            continue
        content = message.text
        if message.role == "tool":
            content = f"Error: {message.error.message}" if message.error is not None else content
            content = f"[{message.function or 'tool'}]\n{content}"
        elif unread:
            content = f"{fault}\n\n{content}"
        unread = False
        last = told[-1] if told else None
        if isinstance(last, ChatMessageUser):
            told[-1] = ChatMessageUser(content=f"{last.text}\n\n{content}")
        else:
            told.append(ChatMessageUser(content=content))
    return told


def reasoning_of(message: ChatMessage) -> str:
    """Return what a model thought, where its server reports it as reasoning."""
    if isinstance(message.content, str):
        return ""
    return "\n".join(part.reasoning for part in message.content if isinstance(part, ContentReasoning))


def _said(message: ChatMessageAssistant) -> ChatMessageAssistant:
    calls = message.tool_calls or []
    text = message.text
    if calls and not looks_like_call(text) and "```" not in text:  # it was in the reasoning, which is not sent back
        text = "\n\n".join(filter(None, (text, *map(render_call, calls))))
    return ChatMessageAssistant(content=text or "…")


def _in_order(found: Iterable[_Found], masked: Sequence[tuple[int, int]]) -> Iterator[_Found]:
    """Yield what was found from front to back, without what lies within another find or within a shell command."""
    place = 0
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if one.start >= place and not _lies_in(one.start, masked):
            yield one
            place = one.end


def _lies_in(place: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(start < place < end for start, end in spans)


def _known_name(name: str, known: Mapping[str, ToolInfo]) -> str | None:
    """The tool that a model means, whatever its case and the name of its space."""
    name = name.removeprefix("functions.")
    return name if name in known else next((other for other in known if other.lower() == name.lower()), None)


def _explicit(text: str, known: Mapping[str, ToolInfo]) -> Iterator[_Found]:
    for pattern, read in _DIALECTS:
        for match in pattern.finditer(text):
            if calls := tuple(read(match, known)):
                yield _Found(*match.span(), calls)
    for pattern in (_DEEPSEEK, _HARMONY):
        for match in pattern.finditer(text):
            decoded = _decoded(text, match.end())
            if match[1] and decoded is not None:
                yield _Found(match.start(), decoded[1], ((match[1], decoded[0]),))
    for start, end, value in json_values(text):
        if stands_alone(text, start, end):
            calls = tuple(call for call in _calls_in(value, known) if _known_name(call[0], known))
            if calls:
                yield _Found(start, end, calls)


def _in_tool_call(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    body = match[2]
    if glm := _GLM.match(body):
        yield glm[1], {found[1]: found[2].strip("\n") for found in _ARG.finditer(body)}
        return
    nested = [call for pattern, read in _TAGS for found in pattern.finditer(body) for call in read(found, known)]
    yield from nested or _in_json(body, known)


def _in_function(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    parameters = {found[1]: found[2].strip("\n") for found in _PARAMETER.finditer(match[2])}
    if parameters:
        yield match[1], parameters
        return
    body = match[2].strip()
    decoded = _decoded(body, body.find("{")) if body.startswith("{") else None
    if decoded is not None:
        yield match[1], decoded[0]
    elif not body or (not body.startswith("{") and _only_parameter(match[1], known) is not None):
        yield match[1], body or {}


def _in_list(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    rest = match[1]
    if named := _MISTRAL.match(rest):
        decoded = _decoded(rest, named.end())
        if decoded is not None:
            yield named[1], decoded[0]
        return
    yield from _in_json(rest, known)


def _in_python_tag(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    found = list(_in_json(match[1], known))
    yield from found or _in_python(match[1], known)


def _in_fence(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    language = match[2].lower()
    if language in _SHELL_LANGUAGES:
        return
    if language in _CODE_LANGUAGES:
        yield from _in_python(match[3], known)
        return
    for name, arguments in _in_json(match[3], known):
        if _known_name(name, known) or language in ("tool_call", "tool_calls"):
            yield name, arguments


def _in_react(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    if _known_name(match[1], known):
        yield match[1], match[2].strip()


def _in_pythonic(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    if match[1].startswith("["):
        yield from _in_python(match[1], known)


def _in_json(body: str, known: Mapping[str, ToolInfo]) -> _Pairs:
    """Calls as JSON in a block that holds nothing else of interest, broken JSON included where it can be mended."""
    values = list(json_values(body))
    found = [call for _, _, value in values for call in _calls_in(value, known)]
    if found or "{" not in body or (values and values[0][0] <= body.index("{")):
        return found
    stripped = re.sub(r"^\s*```\w*|```\s*$", "", body).strip()
    for value in (_mended(stripped), _literal(stripped)):
        if value is not None and (calls := list(_calls_in(value, known))):
            return calls
    quoted = _QUOTED_ARGUMENT.search(stripped)
    return [(quoted[1], {quoted[2]: _unescaped(quoted[3])})] if quoted else []


def _mended(text: str) -> Any:
    """JSON in which backslashes stand as they would in a shell, or a comma is one too many."""
    try:
        return _DECODER.raw_decode(_TRAILING_COMMA.sub(r"\1", _BAD_ESCAPE.sub(r"\\\\", text)))[0]
    except (ValueError, RecursionError):
        return None


def _literal(text: str) -> Any:
    """A dictionary as Python writes it."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _unescaped(text: str) -> str:
    return text.replace('\\"', '"').replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")


def _in_python(code: str, known: Mapping[str, ToolInfo]) -> _Pairs:
    """Calls as Python writes them, of tools that there are, with literal arguments."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(code.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return
    for statement in tree.body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        for node in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
            if isinstance(node, ast.Call) and (name := _called(node.func, known)) is not None:
                try:
                    named = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
                    given = [ast.literal_eval(argument) for argument in node.args]
                except (ValueError, TypeError, RecursionError, MemoryError):
                    continue
                yield name, dict(zip(known[name].parameters.properties, given, strict=False)) | named


def _called(function: ast.expr, known: Mapping[str, ToolInfo]) -> str | None:
    if isinstance(function, ast.Attribute) and function.attr == "call":
        function = function.value
    return function.id if isinstance(function, ast.Name) and function.id in known else None


def _calls_in(value: object, known: Mapping[str, ToolInfo], depth: int = 3) -> Iterator[tuple[str, Any]]:
    """The calls that a JSON value holds: one, a list, or one of the wrappings that servers use."""
    if depth == 0:
        return
    if isinstance(value, list):
        for one in value:
            yield from _calls_in(one, known, depth - 1)
    elif isinstance(value, Mapping):
        inner = value.get("function")
        wrapped = next((value[key] for key in LIST_KEYS if isinstance(value.get(key), list | Mapping)), None)
        if isinstance(inner, Mapping):
            yield from _calls_in(inner, known, depth - 1)
        elif wrapped is not None and len(value) == 1:
            yield from _calls_in(wrapped, known, depth - 1)
        elif is_call(value):
            yield _pair(value)
        elif (flat := _flat(value, known)) is not None:
            yield flat


def _pair(value: Mapping[str, Any]) -> tuple[str, Any]:
    name = next(value[key] for key in NAME_KEYS if isinstance(value.get(key), str) and value[key])
    return name, next(value[key] for key in ARGUMENT_KEYS if isinstance(value.get(key), Mapping | str))


def _flat(value: Mapping[str, Any], known: Mapping[str, ToolInfo]) -> tuple[str, Any] | None:
    """A call with its arguments beside its name, such as {"tool": "bash", "command": "ls"}."""
    key = next((key for key in NAME_KEYS if value.get(key) in known and isinstance(value[key], str)), None)
    if key is None:
        return None
    rest = {name: given for name, given in value.items() if name != key and name not in OTHER_KEYS}
    parameters = known[value[key]].parameters.properties
    if rest and set(rest) <= set(parameters) and not is_definition(rest):
        return value[key], rest
    return None


def _decoded(text: str, start: int) -> tuple[dict[str, Any], int] | None:
    try:
        value, end = _DECODER.raw_decode(text, max(start, 0))
    except (ValueError, RecursionError):
        return None
    return (value, end) if isinstance(value, dict) else None


def _only_parameter(name: str, known: Mapping[str, ToolInfo]) -> str | None:
    parameters = list(known[name].parameters.properties) if name in known else []
    return parameters[0] if len(parameters) == 1 else None


def _tool_call(name: str, arguments: object, known: Mapping[str, ToolInfo]) -> ToolCall:
    name = _known_name(name, known) or name
    only = _only_parameter(name, known)
    if isinstance(arguments, str):
        decoded = _decoded(arguments.strip(), 0) if arguments.strip().startswith("{") else None
        arguments = decoded[0] if decoded is not None else {only: arguments} if only else {}
    given: dict[str, Any] = dict(arguments) if isinstance(arguments, Mapping) else {}
    if only is not None and list(given) != [only] and len(given) == 1:  # {"cmd": …} for {"command": …}
        (value,) = given.values()
        given = {only: value} if isinstance(value, str) else given
    clean = {_encodable(key): _encodable(value) for key, value in given.items()}
    return ToolCall(id=f"text_{secrets.token_hex(6)}", function=_encodable(name), arguments=clean)


def _encodable(value: Any, depth: int = 32) -> Any:
    """A value without lone surrogates, which neither a log nor a command line can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if depth == 0:
        return None
    if isinstance(value, Mapping):
        return {_encodable(str(key)): _encodable(one, depth - 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(one, depth - 1) for one in value]
    return value if isinstance(value, bool | int | float) or value is None else str(value)


_Reader: TypeAlias = Callable[[re.Match[str], Mapping[str, ToolInfo]], _Pairs]
_TAGS: tuple[tuple[re.Pattern[str], _Reader], ...] = ((_FUNCTION, _in_function), (_INVOKE, _in_function))
_DIALECTS: tuple[tuple[re.Pattern[str], _Reader], ...] = (
    (_TOOL_CALL, _in_tool_call),
    *_TAGS,
    (_LIST, _in_list),
    (_PYTHON_TAG, _in_python_tag),
    (_FENCE, _in_fence),
    (_REACT, _in_react),
    (_PYTHONIC, _in_pythonic),
)
