"""Parse tool calls that a model wrote as text, in the dialects that open-weight models were trained on.

The prompt of the text protocol asks for one format (`text_tools.render_call`). The parser also reads the dialects, so
that a model under test does not fail because of the markup of its calls.
"""

import ast
import json
import re
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from inspect_ai.tool import ToolCall, ToolInfo

from redline._python_source import parse_python
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
    stands_alone,
)

MAX_CALLS = 16
"""Maximum number of calls parsed from one message."""
SHELL_TOOL = "bash"
_SHELL_LANGUAGES = frozenset({"bash", "sh", "shell", "zsh"})
_CODE_LANGUAGES = frozenset({"tool_code", "python", "py"})

_NAME = r"\w[\w.:-]{0,63}"
_FENCE = re.compile(r"^[ \t]*(`{3,})[ \t]*([\w+-]*)[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_TOOL_CALL = re.compile(
    r"<\|?(tool_calls?|function_calls?|tools?|TOOLCALL|tool_use|tool_code)\|?>(.*?)"
    r"(?:<\|?/\|?\1\|?>|(?=<\|?\1\|?>)|\Z)",
    re.DOTALL,
)
_SPECIAL_TOKENS = re.compile(
    r"<\|(tool_call_start|tools_prefix)\|>(.*?)(?:<\|tool(?:_call_end|s_suffix)\|>|\Z)", re.DOTALL
)
# Each body also ends at the next opening, so that a text of openings alone is read once and not once for each.
_SHELL_TAG = re.compile(r"^[ \t]*<((?:execute_)?bash)>(.*?)(?:(</\1>)|(?=<\1>)|\Z)", re.MULTILINE | re.DOTALL)
_SHELL_COMMAND = re.compile(r"\s*<command>(.*)</command>\s*", re.DOTALL)
_FUNCTION_GEMMA = re.compile(
    rf"<start_function_call>\s*call:({_NAME})\{{(.*?)(?:\}}\s*<end_function_call>|(?=<start_function_call>)|\Z)",
    re.DOTALL,
)
_ESCAPED = re.compile(r"(\w{1,64})\s*:\s*<escape>(.*?)<escape>", re.DOTALL)
_FUNCTIONARY = re.compile(rf"^>>>({_NAME})[ \t]*\n\s*(?=\{{)", re.MULTILINE)
_FUNCTION = re.compile(
    rf"<function\s*(?:=|\s+name\s*=)\s*[\"']?({_NAME})[\"']?\s*>(.*?)(?:</function>|(?=<function)|\Z)", re.DOTALL
)
_DSML = r"(?:[|\uff5c]DSML[|\uff5c])?"
"""A mark that DeepSeek 3.2 writes before the name of each tag."""
_INVOKE = re.compile(
    rf"<{_DSML}invoke\s+name\s*=\s*[\"']({_NAME})[\"']\s*>(.*?)(?:</{_DSML}invoke>|(?=<{_DSML}invoke)|\Z)", re.DOTALL
)
_PARAMETER = re.compile(
    rf"<{_DSML}parameter\s*(?:=|\s+name\s*=)\s*[\"']?(\w{{1,64}})[\"']?(?:\s+string=\"\w{{1,8}}\")?\s*>(.*?)"
    rf"(?:</{_DSML}parameter>|(?=<{_DSML}parameter)|(?=</function)|\Z)",
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
class _Match:
    start: int
    end: int
    calls: tuple[tuple[str, Any], ...]


_Pairs: TypeAlias = Iterable[tuple[str, Any]]


def read_calls(text: str, tools: Sequence[ToolInfo], *, cut_off: bool = False) -> tuple[ToolCall, ...]:
    """Return the tool calls in a text, in order.

    Args:
        text: Output of the model.
        tools: The available tools. A call of any other tool is returned where its markup is explicit, so that the model
            gets an error about the unknown tool; JSON without markup must name an available tool.
        cut_off: Whether the output ended at its length limit. An unclosed block is then not a call.
    """
    text = text[-MAX_CHARS:]
    known = {tool.name: tool for tool in tools}
    shells = [fence for fence in _FENCE.finditer(text) if fence[2].lower() in _SHELL_LANGUAGES]
    masked = [fence.span() for fence in shells]
    calls = [call for found in _in_order(_explicit(text, known), masked) for call in found.calls]
    if not calls and (head := CALL_HEAD.search(text)) is not None and not _is_inside(head.start(), masked):
        calls = [call for call in _in_json(text[head.start() :], known) if _known_name(call[0], known)]
    if not calls and SHELL_TOOL in known:
        calls = [
            (SHELL_TOOL, fence[3].strip("\n"))
            for fence in shells
            if fence[3].strip() and not (cut_off and not fence[0].rstrip().endswith(fence[1]))
        ]
    return tuple(_tool_call(name, arguments, known) for name, arguments in calls[:MAX_CALLS])


def _in_order(found: Iterable[_Match], masked: Sequence[tuple[int, int]]) -> Iterator[_Match]:
    """Yield matches in text order, without those inside another match or inside a shell command."""
    position = 0
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if one.start >= position and not _is_inside(one.start, masked):
            yield one
            position = one.end


def _is_inside(position: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(start < position < end for start, end in spans)


def _known_name(name: str, known: Mapping[str, ToolInfo]) -> str | None:
    """Return the tool that a name refers to, ignoring case and the `functions.` prefix."""
    name = name.removeprefix("functions.")
    return name if name in known else next((other for other in known if other.lower() == name.lower()), None)


def _explicit(text: str, known: Mapping[str, ToolInfo]) -> Iterator[_Match]:
    for pattern, read in _DIALECTS:
        for match in pattern.finditer(text):
            if calls := tuple(read(match, known)):
                yield _Match(*match.span(), calls)
    for pattern in (_DEEPSEEK, _HARMONY, _FUNCTIONARY):
        for match in pattern.finditer(text):
            decoded = _decoded(text, match.end())
            if match[1] and decoded is not None:
                yield _Match(match.start(), decoded[1], ((match[1], decoded[0]),))
    for start, end, value in json_values(text):
        if stands_alone(text, start, end):
            calls = tuple(call for call in _calls_in(value, known) if _known_name(call[0], known))
            if calls:
                yield _Match(start, end, calls)


def _in_tool_call(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    body = match[2]
    if glm := _GLM.match(body):
        yield glm[1], {found[1]: found[2].strip("\n") for found in _ARG.finditer(body)}
        return
    nested = [call for pattern, read in _TAGS for found in pattern.finditer(body) for call in read(found, known)]
    yield from nested or list(_in_json(body, known)) or _in_python(body, known)


def _in_special_tokens(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    if match[1] == "tool_call_start":
        yield from _in_python(match[2], known)
        return
    for _, _, value in json_values(match[2]):
        for call in value if isinstance(value, list) else [value]:
            if isinstance(call, Mapping) and len(call) == 1:
                yield from call.items()


def _in_shell_tag(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    named = _SHELL_COMMAND.fullmatch(match[2])
    command = (named[1] if named else match[2]).strip("\n")
    if SHELL_TOOL in known and match[3] and command.strip():
        yield SHELL_TOOL, command


def _in_function_gemma(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    yield match[1], {found[1]: found[2] for found in _ESCAPED.finditer(match[2])}


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
        yield from _in_python(match[3], known, printed=language == "tool_code")
        return
    for name, arguments in _in_json(match[3], known):
        if _known_name(name, known) or language in ("tool_call", "tool_calls"):
            yield name, arguments


def _in_react(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    if _known_name(match[1], known):
        yield match[1], match[2].strip()


def _in_pythonic(match: re.Match[str], known: Mapping[str, ToolInfo]) -> _Pairs:
    yield from _in_python(match[1], known)


def _in_json(body: str, known: Mapping[str, ToolInfo]) -> _Pairs:
    """Return the JSON calls of a block that contains only calls. Repair broken JSON where possible."""
    values = list(json_values(body))
    found = [call for _, _, value in values for call in _calls_in(value, known)]
    if found or "{" not in body or (values and values[0][0] <= body.index("{")):
        return found
    stripped = re.sub(r"^\s*```\w*|```\s*$", "", body).strip()
    for value in (_repaired(stripped), _literal(stripped)):
        if value is not None and (calls := list(_calls_in(value, known))):
            return calls
    quoted = _QUOTED_ARGUMENT.search(stripped)
    return [(quoted[1], {quoted[2]: _unescaped(quoted[3])})] if quoted else []


def _repaired(text: str) -> Any:
    """Decode JSON that has shell-style backslashes or trailing commas."""
    try:
        return _DECODER.raw_decode(_TRAILING_COMMA.sub(r"\1", _BAD_ESCAPE.sub(r"\\\\", text)))[0]
    except (ValueError, RecursionError):
        return None


def _literal(text: str) -> Any:
    """Evaluate a Python literal, such as a dictionary."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _unescaped(text: str) -> str:
    return text.replace('\\"', '"').replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")


def _in_python(code: str, known: Mapping[str, ToolInfo], *, printed: bool = False) -> _Pairs:
    """Yield Python calls of available tools with literal arguments; if `printed`, also where the result is printed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = parse_python(code.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return
    for statement in tree.body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        for item in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
            node = _printed(item) if printed else item
            if isinstance(node, ast.Call) and (name := _called(node.func, known)) is not None:
                try:
                    named = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
                    given = [ast.literal_eval(argument) for argument in node.args]
                except (ValueError, TypeError, RecursionError, MemoryError):
                    continue
                yield name, dict(zip(known[name].parameters.properties, given, strict=False)) | named


def _printed(node: ast.expr | None) -> ast.expr | None:
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
        and len(node.args) == 1
    ):
        return node.args[0]
    return node


def _called(function: ast.expr, known: Mapping[str, ToolInfo]) -> str | None:
    if isinstance(function, ast.Attribute) and function.attr == "call":
        function = function.value
    return function.id if isinstance(function, ast.Name) and function.id in known else None


def _calls_in(value: object, known: Mapping[str, ToolInfo], depth: int = 5) -> Iterator[tuple[str, Any]]:
    """Yield the calls in a JSON value: one call, a list, or one of the wrappers that servers use."""
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
    """Return a call whose arguments are next to its name, such as {"tool": "bash", "command": "ls"}."""
    key = next((key for key in NAME_KEYS if value.get(key) in known and isinstance(value[key], str)), None)
    if key is None:
        return None
    arguments = {name: argument for name, argument in value.items() if name != key and name not in OTHER_KEYS}
    parameters = known[value[key]].parameters.properties
    if arguments and set(arguments) <= set(parameters) and not is_definition(arguments):
        return value[key], arguments
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
    """Replace lone surrogates, which neither a log nor a command line can contain."""
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
    (_SPECIAL_TOKENS, _in_special_tokens),
    (_SHELL_TAG, _in_shell_tag),
    (_FUNCTION_GEMMA, _in_function_gemma),
    (_LIST, _in_list),
    (_PYTHON_TAG, _in_python_tag),
    (_FENCE, _in_fence),
    (_REACT, _in_react),
    (_PYTHONIC, _in_pythonic),
)
