"""Calls that a model wrote as text are parsed in the dialects of models, and no text makes the parser fail."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspect_ai.tool import ToolCall, ToolInfo, ToolParams
from inspect_ai.util import JSONSchema

from redline.models.call_parser import read_calls
from redline.models.text_tools import render_call
from tests.models.test_markup import CALLS, TEXTS


def tool(name: str, *parameters: str) -> ToolInfo:
    properties = {one: JSONSchema(type="string", description=one) for one in parameters}
    return ToolInfo(
        name=name, description=name, parameters=ToolParams(properties=properties, required=list(parameters))
    )


TOOLS = [tool("bash", "command"), tool("operator", "message"), tool("submit", "answer")]
INCOMPLETE = {name for name in CALLS if "cut off" in name or "only the mark" in name}


def pairs(text: str, *, cut_off: bool = False) -> list[tuple[str, dict[str, Any]]]:
    return [(call.function, call.arguments) for call in read_calls(text, TOOLS, cut_off=cut_off)]


@pytest.mark.parametrize("name", sorted(set(CALLS) - INCOMPLETE))
def test_a_complete_call_in_any_dialect_is_parsed(name: str) -> None:
    found = pairs(CALLS[name])
    assert found
    assert {tool for tool, _ in found} == {"bash"}
    assert all(list(arguments) in (["command"], []) for _, arguments in found)


@pytest.mark.parametrize("name", sorted(INCOMPLETE))
def test_a_call_that_is_cut_off_runs_nothing(name: str) -> None:
    assert pairs(CALLS[name], cut_off=True) == []


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"shell"}))
def test_ordinary_text_runs_nothing(name: str) -> None:
    assert pairs(TEXTS[name]) == []


COMMAND = {"command": "cp -r /home/agent/subject /home/agent/second"}


@pytest.mark.parametrize(
    "text",
    [
        '{"tool": "bash", "command": "cp -r /home/agent/subject /home/agent/second"}',
        '{"function": {"name": "bash", "arguments": {"command": "cp -r /home/agent/subject /home/agent/second"}}}',
        '{"name": "Bash", "arguments": {"command": "cp -r /home/agent/subject /home/agent/second"}}',
        '{"name": "functions.bash", "arguments": {"cmd": "cp -r /home/agent/subject /home/agent/second"}}',
        '<function=bash>{"command": "cp -r /home/agent/subject /home/agent/second"}',
        "<function=bash>cp -r /home/agent/subject /home/agent/second</function>",
        "I copy it.\n```bash\ncp -r /home/agent/subject /home/agent/second\n```\nThen I start it.",
        "```sh\ncp -r /home/agent/subject /home/agent/second\n```",
        '[bash(command="cp -r /home/agent/subject /home/agent/second")]',
        '```tool_code\nbash(command="cp -r /home/agent/subject /home/agent/second")\n```',
        "Action: bash\nAction Input: cp -r /home/agent/subject /home/agent/second",
    ],
)
def test_the_command_arrives_as_it_was_written(text: str) -> None:
    assert pairs(text) == [("bash", COMMAND)]


def test_several_calls_of_a_message_keep_their_order() -> None:
    text = "\n".join(render_call(ToolCall(id="1", function="bash", arguments={"command": str(n)})) for n in range(3))
    assert [arguments["command"] for _, arguments in pairs(text)] == ["0", "1", "2"]


def test_a_command_shown_next_to_its_call_runs_once() -> None:
    call = json.dumps({"name": "bash", "arguments": {"command": "ls"}})
    assert pairs(f"I run this:\n```bash\nls\n```\n```json\n{call}\n```") == [("bash", {"command": "ls"})]


def test_a_file_that_a_command_writes_is_not_a_call() -> None:
    script = 'cat > call.json <<EOF\n{"name": "submit", "arguments": {"answer": "x"}}\nEOF'
    assert pairs(f"```bash\n{script}\n```") == [("bash", {"command": script})]


def test_quotes_and_backslashes_that_break_the_json_reach_the_shell() -> None:
    assert pairs('```json\n{"name": "bash", "arguments": {"command": "echo "hello""}}\n```') == [
        ("bash", {"command": 'echo "hello"'})
    ]
    assert pairs(r"```json" "\n" r'{"name": "bash", "arguments": {"command": "grep \. x"}}' "\n```") == [
        ("bash", {"command": r"grep \. x"})
    ]


def test_a_call_of_an_unknown_tool_is_parsed_where_its_markup_is_explicit() -> None:
    call = '{"name": "python", "arguments": {"code": "1"}}'
    assert pairs(f"<tool_call>{call}</tool_call>") == [("python", {"code": "1"})]
    assert pairs(call) == []


def test_a_lone_surrogate_does_not_reach_a_command() -> None:
    ((_, arguments),) = pairs('{"name": "bash", "arguments": {"command": "echo \\udcff"}}')
    assert arguments["command"].encode() == b"echo ?"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["command", "message", "other"]), VALUES, min_size=2), min_size=1, max_size=3
    )
)
def test_rendered_calls_are_parsed_back(several: list[dict[str, Any]]) -> None:
    text = "\n\n".join(render_call(ToolCall(id="1", function="bash", arguments=one)) for one in several)
    assert pairs(text) == [("bash", one) for one in several]


@given(st.text())
def test_every_command_survives_the_format(command: str) -> None:
    text = f"I run it.\n{render_call(ToolCall(id='1', function='bash', arguments={'command': command}))}"
    assert pairs(text) == [("bash", {"command": command})]


PIECES = st.sampled_from(
    [
        *CALLS.values(),
        *TEXTS.values(),
        "```",
        "{",
        "}",
        "[",
        '"',
        "<tool_call>",
        "</function>",
        "\\",
        "\n",
        "\x00",
        "\udcff",
    ]
)


@given(
    st.lists(PIECES | st.text(alphabet=st.characters(exclude_categories=[])), max_size=8).map("".join), st.booleans()
)
def test_no_text_makes_the_parser_fail(text: str, cut_off: bool) -> None:
    for call in read_calls(text, TOOLS, cut_off=cut_off):
        json.dumps([call.function, call.arguments]).encode()
        str(call.arguments).encode()


HOSTILE = """
{ | {"a": | [ | <tool_call> | <function=a> | <invoke name='a'> | ```@ | ```json@{ | [{"name":"x","arguments": | ```bash@
<parameter=a> | <arg_key>a</arg_key> | [TOOL_CALLS] | <|python_tag|> | Action: a@Action Input: | @ | a( | [a( | to=a | -
{"name": "bash", "arguments": {"command": " | {"name": "bash", "arguments": {"command": "a"}} | [bash( | "}} | ,
@<bash> | <start_function_call>call:b{ | <TOOLCALL> | <|tool_call_start|>[ | <|tools_prefix|>[ | @>>>bash@{
<tool_code> | <\uff5cDSML\uff5cinvoke name="a"> | @bash(" | x:<escape> | <execute_bash>
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", [one.strip(" ").replace("@", "\n") for one in HOSTILE.replace(" | ", "\n").split("\n")]
)
def test_a_hostile_text_is_parsed_in_bounded_time(piece: str) -> None:
    before = time.process_time()
    read_calls((piece or " ") * (300_000 // (len(piece) or 1)), TOOLS)
    assert time.process_time() - before < 5
