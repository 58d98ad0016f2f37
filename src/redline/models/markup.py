"""Recognise the markup of a tool call that a server returned as text.

A server without a parser for its model's dialect returns the call as ordinary text, often cut off. Such a turn looks
as if the model did nothing. `looks_like_call` is deliberately wider than `call_parser.read_calls`, which needs a
complete call.
"""

import json
import re
from collections.abc import Iterator, Mapping

NAME_KEYS = ("name", "tool", "tool_name", "function", "function_name", "action")
"""Keys under which models write a call's tool."""
ARGUMENT_KEYS = ("arguments", "parameters", "args", "kwargs", "input", "tool_input", "action_input")
"""Keys under which models write a call's arguments."""
OTHER_KEYS = frozenset({"id", "type", "index", "call_id", "tool_call_id", "thought", "thoughts", "reasoning", "reason"})
"""Keys that a call can also have. An object with any other key is data, such as a configuration file."""
TOOLS = ("bash", "operator", "submit")
"""Tools of the agents. Where a dialect looks like ordinary text, only a call of one of these is recognised."""
PARAMETERS = frozenset({"command", "cmd", "message", "answer"})
"""Parameters of these tools, which some models write next to the tool's name."""
LIST_KEYS = ("tool_calls", "function_call", "tool_call", "calls")
"""Keys under which models wrap one or more calls."""

MAX_CHARS = 200_000
"""Number of characters searched, counted from the end of the text: a call is the last thing that a model writes."""
MAX_OBJECTS = 64
"""Maximum number of JSON values decoded in one text."""

_TOOL = "|".join(TOOLS)
_MARKERS = re.compile(
    rf"""
      <\|?/?tool_calls?\|?>\s*                                                # Hermes, Qwen, Granite, GLM
        (?: [\[{{<] | ``` | \Z | \w[\w.:-]{{0,63}}\s*(?:<arg_key>|\(|\{{|\Z) )
    | <(?:function_calls?|tool_use|tool_code)>\s* (?: [\[{{<] | \Z | \w[\w.]{{0,63}}\( )   # Claude, Olmo
    | <function\s*=\s*["']?\w[\w.:-]{{0,63}}["']?\s* (?: > | \Z )                # Llama 3.1, Qwen3-Coder
    | <function\s+name\s*=\s*["']\w[\w.:-]{{0,63}}["']
    | <(?:[|\uff5c]DSML[|\uff5c])?invoke\s+name\s*=\s*["']\w[\w.:-]{{0,63}}["']    # DeepSeek 3.2 and others
    | <tools?>\s* \{{ \s* "(?:name|function)"\s*:                              # Qwen2.5-Coder
    | \[TOOL_CALLS\]\s* (?: [\[{{] | \Z | \w[\w.:-]{{0,63}}\s*(?:\[|\{{|\Z) )       # Mistral
    | <TOOLCALL>\s* (?: [\[{{] | \Z )                                          # Nemotron
    | <\|tool_call_start\|>                                                  # LFM2
    | <start_function_call>\s* (?: call: | \Z )                               # FunctionGemma
    | <\|tools_prefix\|>                                                     # Apertus
    | <\|action_start\|>                                                     # InternLM
    | ^[ \t]*<(?:execute_)?bash>\s* (?: \S | \Z )                            # OpenHands
    | ^>>>\w[\w.-]{{0,63}}[ \t]*\n\s*\{{                                         # Functionary
    | \b(?:Function|Tool)Call\(\s*name\s*=
    | ^[ \t]*(?:(?:tool|function)[ _])?call:[ \t]*(?:functions\.)?\w[\w.-]{{0,63}}\(\s*[{{"']
    | ^[ \t]*\[\s*\w[\w.]{{0,63}}\(\s* (?: \)\s*\][ \t]*$ | \w{{1,64}}\s*=\s*     # Llama 3.2 and 4
        (?: ["'\[{{\d-] | True | False | None | \Z )
        (?: [^\n]{{0,20000}}\)\s*\][ \t]*$ | (?:(?!\)\s*\])[^\n]){{0,20000}}\Z ) )
    | ^[ \t]*(?:functions\.)?(?:{_TOOL})\(\s* (?: \w{{1,64}}\s*=\s* )? ["']      # the same, without a list
    | ^[ \t]*(?:tool|tool_name|function|action|name)[ \t]*:[ \t]*["']?(?:{_TOOL})["']?[ \t]*\n
        [ \t]*(?:command|cmd|message|answer|arguments|parameters|args|input|tool_input|action_input)[ \t]*:
    | <\|python_tag\|>                                                        # Llama 3
    | <[|\uff5c]tool[_\u2581]calls?(?:[_\u2581]section)?[_\u2581]begin[|\uff5c]>  # DeepSeek, Kimi
    | <\|START_ACTION\|>                                                      # Command R
    | <\|channel\|>\s*\w+\s+to=(?:functions\.)?\w+                            # gpt-oss
    | ^[ \t]*(?:functools|functions)\s*\[\s*\{{                                # Phi, Firefunction
    | ^```tool_(?:code|call)s?[ \t]*$                                         # Gemma
    | ^Action:[ \t]*[\w.-]{{1,64}}[ \t]*\n+Action[ ]Input:                      # ReAct
    """,
    re.VERBOSE | re.MULTILINE,
)
"""Markers of a call in the dialects of open-weight models. In prose, words follow the marker instead of a call."""

_NAMES, _ARGUMENTS = ("|".join(keys) for keys in (NAME_KEYS, ARGUMENT_KEYS))
CALL_HEAD = re.compile(
    rf"""^[ \t>*-]{{0,8}} [\[\s]{{0,8}} \{{ \s{{0,80}}
         (?: (["'])(?:{_NAMES})\1 \s{{0,9}} : \s{{0,9}} (["'])(?P<tool>[\w.:-]{{1,64}})\2 \s{{0,9}} , \s{{0,80}}
             ["'](?P<key>\w{{1,16}}) (?: ["'] \s{{0,9}} : \s{{0,9}} (?P<value>[{{"'\[]?) | \Z )
           | (["'])(?:function|tool_call|function_call)\5 \s{{0,9}} : \s{{0,9}} \{{ \s{{0,80}}
             (["'])name\6 \s{{0,9}} : \s{{0,9}} (["'])[\w.:-]{{1,64}}\7 \s{{0,9}} , \s{{0,80}} ["'](?P<inner>\w{{1,16}})
         )""",
    re.VERBOSE | re.MULTILINE,
)
"""The start of a JSON call, which is all that remains if the output was cut off or its JSON is broken."""

_OBJECT = re.compile(r"[\[{]")
_DECODER = json.JSONDecoder(strict=False)  # models write unescaped line feeds into strings


def looks_like_call(text: str) -> bool:
    """Return whether a text contains the markup of a tool call, complete or cut off.

    A marker of a dialect counts, and a JSON call that starts a line or ends the text. JSON quoted within a sentence, a
    tool definition and configuration data do not count.

    Args:
        text: A model's output or reasoning.
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

    If an array or object cannot be decoded, the search continues inside it.
    """
    position = tried = 0
    while tried < MAX_OBJECTS and (found := _OBJECT.search(text, position)):
        tried += 1
        position = found.start() + 1
        try:
            value, end = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            continue
        yield found.start(), end, value
        position = end


def stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text starts a line or ends the text, rather than being quoted in a sentence."""
    before = text[:start].rpartition("\n")[2]
    after = text[end:]
    if not after.strip(" \t\r\n`;.)]}"):
        return True
    line_after = after.partition("\n")[0]
    return not before.strip(" \t>*-[,") and not line_after.strip(" \t\r,;]`")


def is_call(value: object) -> bool:
    """Return whether a JSON value has the shape of one call: a tool name, arguments and no other data."""
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
    """Return whether the arguments are a JSON Schema of a tool, which models repeat from their prompt."""
    return isinstance(arguments, Mapping) and isinstance(arguments.get("properties"), Mapping)


def _is_call_or_calls(value: object) -> bool:
    if isinstance(value, list):
        return any(is_call(one) or _is_flat_call(one) for one in value)
    if isinstance(value, Mapping) and len(value) == 1:
        inner = next((value[key] for key in LIST_KEYS if key in value), None)
        if inner is not None:
            return is_call(inner) or (isinstance(inner, list) and any(is_call(one) for one in inner))
    return is_call(value) or _is_flat_call(value)


def _is_flat_call(value: object) -> bool:
    """Return whether a JSON value is a call with its arguments next to its name: {"tool": "bash", "command": "ls"}."""
    if not isinstance(value, Mapping):
        return False
    names = [key for key in NAME_KEYS if value.get(key) in TOOLS]
    return bool(names and PARAMETERS & value.keys()) and value.keys() <= {names[0], *PARAMETERS, *OTHER_KEYS}


def _head_is_call(head: re.Match[str]) -> bool:
    key = head["key"] or head["inner"]
    if head["tool"] in TOOLS and key in PARAMETERS:
        return True
    is_complete = head["inner"] is not None or head["value"] is not None
    return key in ARGUMENT_KEYS if is_complete else any(one.startswith(key) for one in ARGUMENT_KEYS)


def _within(position: int, spans: list[tuple[int, int]]) -> bool:
    return any(start <= position < end for start, end in spans)
