"""Call markup in text: recognise a tool call that a model wrote as text because its server did not parse it.

A server that has no parser for its model's dialect returns the call as ordinary text, often cut off. Such a turn looks
like a model that did nothing. `looks_like_call` is deliberately wider than `text_tools.read_calls`, which needs the
call whole.
"""

import json
import re
from collections.abc import Iterator, Mapping

NAME_KEYS = ("name", "tool", "tool_name", "function", "function_name", "action")
"""Keys under which models write a call's tool."""
ARGUMENT_KEYS = ("arguments", "parameters", "args", "kwargs", "input", "tool_input", "action_input")
"""Keys under which models write a call's arguments."""
OTHER_KEYS = frozenset({"id", "type", "index", "call_id", "tool_call_id", "thought", "thoughts", "reasoning", "reason"})
"""Keys that a call may also have; with any other key an object is data, such as a configuration file."""
LIST_KEYS = ("tool_calls", "function_call", "tool_call", "calls")
"""Keys under which models wrap one call or several."""

MAX_CHARS = 200_000
"""Characters of a text that are searched, from its end: a call is the last thing that a model writes."""
MAX_OBJECTS = 64
"""JSON values that are decoded in one text."""

_MARKERS = re.compile(
    r"""
      <\|?/?tool_calls?\|?>\s*                                                # Hermes, Qwen, Granite, GLM
        (?: [\[{<] | ``` | \Z | \w[\w.:-]{0,63}\s*(?:<arg_key>|\(|\{|\Z) )
    | <function_calls?>\s* (?: [\[{<] | \Z )
    | <function\s*=\s*["']?\w[\w.:-]{0,63}["']?\s* (?: > | \Z )                # Llama 3.1, Qwen3-Coder
    | <function\s+name\s*=\s*["']\w[\w.:-]{0,63}["']
    | <invoke\s+name\s*=\s*["']\w[\w.:-]{0,63}["']
    | <tools?>\s* \{ \s* "(?:name|function)"\s*:                              # Qwen2.5-Coder
    | \[TOOL_CALLS\]\s* (?: [\[{] | \Z | \w[\w.:-]{0,63}\s*(?:\[|\{|\Z) )       # Mistral
    | <\|python_tag\|>                                                        # Llama 3
    | <[|\uff5c]tool[_\u2581]calls?(?:[_\u2581]section)?[_\u2581]begin[|\uff5c]>  # DeepSeek, Kimi
    | <\|START_ACTION\|>                                                      # Command R
    | <\|channel\|>\s*\w+\s+to=(?:functions\.)?\w+                            # gpt-oss
    | ^[ \t]*(?:functools|functions)\s*\[\s*\{                                # Phi, Firefunction
    | ^```tool_(?:code|call)s?[ \t]*$                                         # Gemma
    | ^Action:[ \t]*[\w.-]{1,64}[ \t]*\n+Action[ ]Input:                      # ReAct
    """,
    re.VERBOSE | re.MULTILINE,
)
"""Marks of a call in the dialects of open-weight models. In prose the mark is followed by words, not by a call."""

_NAMES, _ARGUMENTS = ("|".join(keys) for keys in (NAME_KEYS, ARGUMENT_KEYS))
CALL_HEAD = re.compile(
    rf"""^[ \t>*-]{{0,8}} [\[\s]{{0,8}} \{{ \s{{0,80}}
         (?: (["'])(?:{_NAMES})\1 \s{{0,9}} : \s{{0,9}} (["'])[\w.:-]{{1,64}}\2 \s{{0,9}} , \s{{0,80}}
             ["'](?P<key>\w{{1,16}}) (?: ["'] \s{{0,9}} : \s{{0,9}} (?P<value>[{{"'\[]?) | \Z )
           | (["'])(?:function|tool_call|function_call)\5 \s{{0,9}} : \s{{0,9}} \{{ \s{{0,80}}
             (["'])name\6 \s{{0,9}} : \s{{0,9}} (["'])[\w.:-]{{1,64}}\7 \s{{0,9}} , \s{{0,80}} ["'](?P<inner>\w{{1,16}})
         )""",
    re.VERBOSE | re.MULTILINE,
)
"""The start of a call as JSON: all that is left of it where the output was cut off or its JSON is broken."""

_OBJECT = re.compile(r"[\[{]")
_DECODER = json.JSONDecoder(strict=False)  # models write line feeds into strings as they are


def looks_like_call(text: str) -> bool:
    """Return whether a text contains the markup of a tool call, whole or cut off.

    What counts is a special mark of a dialect, or a JSON call that starts a line or ends the text. JSON that is quoted
    within a sentence, a definition of a tool, and a configuration do not count.

    Args:
        text: What a model said, or what it thought.
    """
    text = text[-MAX_CHARS:]
    if _MARKERS.search(text):
        return True
    whole = [(start, end) for start, end, value in json_values(text) if _is_call_or_calls(value)]
    if any(stands_alone(text, start, end) for start, end in whole):
        return True
    decoded = [(start, end) for start, end, _ in json_values(text)]
    return any(
        _head_is_call(found)
        for found in CALL_HEAD.finditer(text)
        if not _within(text.find("{", found.start()), decoded)
    )


def json_values(text: str) -> Iterator[tuple[int, int, object]]:
    """Yield the outermost JSON objects and arrays in a text, each with its start and end.

    An array or object that does not decode is skipped, and what it contains is tried.
    """
    place = tried = 0
    while tried < MAX_OBJECTS and (found := _OBJECT.search(text, place)):
        tried += 1
        place = found.start() + 1
        try:
            value, end = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            continue
        yield found.start(), end, value
        place = end


def stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text starts a line or ends the text, and so is not quoted within a sentence."""
    before = text[:start].rpartition("\n")[2]
    after = text[end:]
    if not after.strip(" \t\r\n`;.)]}"):
        return True
    line_after = after.partition("\n")[0]
    return not before.strip(" \t>*-[,") and not line_after.strip(" \t\r,;]`")


def is_call(value: object) -> bool:
    """Return whether a JSON value has the shape of one call: a tool's name, arguments, and no other data."""
    if not isinstance(value, Mapping):
        return False
    inner = value.get("function")
    if isinstance(inner, Mapping):
        return is_call(inner) and value.keys() <= {"function", *OTHER_KEYS}
    names = [key for key in NAME_KEYS if isinstance(value.get(key), str) and value[key]]
    arguments = [key for key in ARGUMENT_KEYS if isinstance(value.get(key), Mapping | str)]
    if not names or not arguments or is_definition(value[arguments[0]]):
        return False
    return value.keys() <= {names[0], arguments[0], *OTHER_KEYS}


def is_definition(arguments: object) -> bool:
    """Return whether what stands for arguments is the JSON Schema of a tool, which models repeat from their prompt."""
    return isinstance(arguments, Mapping) and isinstance(arguments.get("properties"), Mapping)


def _is_call_or_calls(value: object) -> bool:
    if isinstance(value, list):
        return any(is_call(one) for one in value)
    if isinstance(value, Mapping) and len(value) == 1:
        inner = next((value[key] for key in LIST_KEYS if key in value), None)
        if inner is not None:
            return is_call(inner) or (isinstance(inner, list) and any(is_call(one) for one in inner))
    return is_call(value)


def _head_is_call(head: re.Match[str]) -> bool:
    key = head["key"] or head["inner"]
    is_whole = head["inner"] is not None or head["value"] is not None
    return key in ARGUMENT_KEYS if is_whole else any(one.startswith(key) for one in ARGUMENT_KEYS)


def _within(place: int, spans: list[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in spans)
