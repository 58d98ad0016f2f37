"""A tool call that a model wrote as text is recognised, and ordinary text is not."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.models.markup import looks_like_call

CALL = '{"name": "bash", "arguments": {"command": "ls -la"}}'

CALLS = {
    "fenced json": f"```json\n{CALL}\n```",
    "fenced json after prose": f"I will list the files first.\n\n```json\n{CALL}\n```\n",
    "fenced without language": f"```\n{CALL}\n```",
    "bare": CALL,
    "bare at the end of a sentence": f"I list the files: {CALL}",
    "on several lines": '{\n  "name": "bash",\n  "arguments": {\n    "command": "ls"\n  }\n}',
    "parameters": '{"name": "bash", "parameters": {"command": "ls"}}',
    "tool": '{"tool": "bash", "args": {"command": "ls"}}',
    "arguments first": '{"arguments": {"command": "ls"}, "name": "bash"}',
    "arguments as text": '{"name": "bash", "arguments": "{\\"command\\": \\"ls\\"}"}',
    "wire format": '{"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}',
    "wrapped": f'{{"tool_calls": [{CALL}]}}',
    "list": f"[{CALL}, {CALL}]",
    "two lines": f"{CALL}\n{CALL}",
    "Hermes": f"<tool_call>\n{CALL}\n</tool_call>",
    "Hermes, unclosed": f"<tool_call>\n{CALL}",
    "Hermes, cut off": '<tool_call>\n{"name": "ba',
    "Hermes, only the mark": "Let me look.\n<tool_call>",
    "Qwen2.5-Coder": f"<tools>\n{CALL}\n</tools>",
    "Llama 3.1": '<function=bash>{"command": "ls"}</function>',
    "Qwen3-Coder": "<tool_call>\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>\n</tool_call>",
    "GLM": "<tool_call>bash\n<arg_key>command</arg_key>\n<arg_value>ls</arg_value>\n</tool_call>",
    "Mistral": f"[TOOL_CALLS] [{CALL}]",
    "Mistral, new": '[TOOL_CALLS]bash[ARGS]{"command": "ls"}',
    "Llama 3 python tag": '<|python_tag|>{"name": "bash", "parameters": {"command": "ls"}}',
    "Llama 3 python tag, code": '<|python_tag|>bash.call(command="ls")',
    "DeepSeek": (
        "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>function<\uff5ctool\u2581sep\uff5c>bash\n"
        '```json\n{"command": "ls"}\n```<\uff5ctool\u2581call\u2581end\uff5c>'
    ),
    "Kimi": (
        '<|tool_calls_section_begin|><|tool_call_begin|>functions.bash:0<|tool_call_argument_begin|>{"command": "ls"}'
    ),
    "gpt-oss": '<|channel|>commentary to=functions.bash <|constrain|>json<|message|>{"command": "ls"}<|call|>',
    "Granite": f"<|tool_call|>[{CALL}]",
    "Command R": '<|START_ACTION|>[{"tool_name": "bash", "parameters": {"command": "ls"}}]<|END_ACTION|>',
    "invoke": '<invoke name="bash"><parameter name="command">ls</parameter></invoke>',
    "ReAct": 'Action: bash\nAction Input: {"command": "ls"}',
    "Llama 4": '[bash(command="ls -la")]',
    "Llama 4, several": '[bash(command="ls"), bash(command="pwd")]',
    "Llama 4 after prose": 'I list the files.\n\n[bash(command="ls")]',
    "Llama 4, cut off": '[bash(command="cp -r /home/agent/sub',
    "Python": 'bash(command="ls")',
    "Python, unnamed": "bash('ls')",
    "Python, cut off": 'bash(command="cp -r /home',
    "Python in a fence": '```python\nbash(command="ls")\n```',
    "Gemma": '```tool_code\nprint(bash(command="ls"))\n```',
    "Gemma, tag": '<tool_code>\nbash(command="ls")\n</tool_code>',
    "FunctionGemma": "<start_function_call>call:bash{command:<escape>ls -la<escape>}<end_function_call>",
    "LFM2": '<|tool_call_start|>[bash(command="ls")]<|tool_call_end|>',
    "Olmo 3": '<function_calls>\nbash(command="ls")\n</function_calls>',
    "Apertus": '<|tools_prefix|>[{"bash": {"command": "ls"}}]<|tools_suffix|>',
    "InternLM": '<|action_start|><|plugin|>\n{"name": "bash", "parameters": {"command": "ls"}}<|action_end|>',
    "MiniMax": (
        '<minimax:tool_call>\n<invoke name="bash">\n<parameter name="command">ls</parameter>\n</invoke>\n'
        "</minimax:tool_call>"
    ),
    "Seed": "<seed:tool_call>\n<function=bash>\n<parameter=command>ls</parameter>\n</function>\n</seed:tool_call>",
    "Nemotron": f"<TOOLCALL>[{CALL}]</TOOLCALL>",
    "Nemotron, cut off": '<TOOLCALL>[{"name": "bash", "argu',
    "DeepSeek 3.2": (
        '<\uff5cDSML\uff5cfunction_calls>\n<\uff5cDSML\uff5cinvoke name="bash">\n'
        '<\uff5cDSML\uff5cparameter name="command" string="true">ls</\uff5cDSML\uff5cparameter>\n'
        "</\uff5cDSML\uff5cinvoke>\n</\uff5cDSML\uff5cfunction_calls>"
    ),
    "Functionary": '>>>bash\n{"command": "ls"}',
    "tool_use": '<tool_use>{"name": "bash", "input": {"command": "ls"}}</tool_use>',
    "OpenHands": "<execute_bash>\nls -la\n</execute_bash>",
    "tags": "<bash>\n<command>ls</command>\n</bash>",
    "flat": '{"tool": "bash", "command": "ls"}',
    "flat, cut off": '```json\n{"tool": "bash", "command": "cp -r /home',
    "wrapped wire format": json.dumps(
        {
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
            ]
        }
    ),
    "cut off in the command": '```json\n{"name": "bash", "arguments": {"command": "cp -r /home/agent/sub',
    "cut off in the key": '{"name": "bash", "argum',
    "cut off after the key": '{"name": "bash", "arguments":',
    "broken JSON": '```json\n{"name": "bash", "arguments": {"command": "echo "hello""}}\n```',
    "bad escape": '{"name": "bash", "arguments": {"command": "grep \\. x"}}',
    "line feed in a string": '{"name": "bash", "arguments": {"command": "a\nb"}}',
    "single quotes": "{'name': 'bash', 'arguments': {'command': 'ls'}}",
    "trailing comma": '{"name": "bash", "arguments": {"command": "ls"},}',
    "lone surrogate next to it": f"\udcff {CALL}",
}

ONLY_RECOGNISED = {
    "constructor": 'FunctionCall(name="bash", arguments={"command": "ls"})',
    "words": 'call: bash({"command": "ls"})',
    "YAML": "tool: bash\ncommand: ls -la",
}
"""Rare forms, which the text protocol does not run."""

TEXTS = {
    "nothing": "",
    "prose": "I will copy the folder to a second location, then start the server there.",
    "prose about a tool": 'I use the bash tool with the argument "command" set to ls.',
    "prose about marks": "It turns <tool_call> tags and [TOOL_CALLS] lists into calls; <function=...> is Llama's.",
    "shell": "```bash\ncp -r /home/agent/subject /home/agent/second\npython3 second/engine.py serve &\n```",
    "shell function": 'function run() { name="bash"; arguments="$@"; "${name}" ${arguments}; }',
    "shell test": '[ -d /tmp ] && [[ "$name" == "bash" ]] && echo {a,b}',
    "python": 'call = {"name": name, "arguments": arguments}\nprint(bash(command="ls"))',
    "config": '```json\n{"name": "subject", "architecture": "llama", "layers": 2}\n```',
    "config with parameters": '{"name": "subject", "version": 3, "parameters": {"temperature": 0.7}}',
    "config that starts alike": '{"name": "subject", "parameters": {"temperature": 0.7}, "layers": 2}',
    "config, cut off": '```json\n{"name": "subject", "layers": ',
    "config, name only": '{"name": "subject"}',
    "package": '{"name": "web", "scripts": {"start": "node x.js"}, "dependencies": {}}',
    "quoted in a sentence": f"The log holds {CALL} as its first line, so the service parsed it.",
    "quoted file": 'config.json says {"model_type": "llama", "hidden_size": 64}, which is small.',
    "definition": json.dumps(
        {"name": "bash", "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}}
    ),
    "definition on the wire": json.dumps(
        {
            "type": "function",
            "function": {
                "name": "bash",
                "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
            },
        }
    ),
    "JSON result": '{"status": "ok", "replicas": [{"pid": 12, "port": 8001}]}',
    "XML": "<config><name>bash</name><arguments>none</arguments></config>",
    "markdown list": "- name: bash\n- arguments: none\n",
    "fudan turn": "EXPLANATION: a\nGAPS: b\nFINDINGS: c\nPLAN:\n1. d\nACTION: run\n```\nls\n```",
    "links": '[Image(url="x")](http://a.example) and [1] [note(a)] and - [x] done(task="a")',
    "a call in a sentence": 'You can run `bash(command="ls")`, or call submit(answer) at the end.',
    "an assignment": 'result = bash(command="ls")',
    "other Python": '```python\nopen(file="x")\nx = [f(a=1) for f in g]\n```',
    "a doctest": ">>> import os\n>>> os.getcwd()\n'/home'",
    "a compose file": "name: web\ncommand: run\n",
    "an account": "Action: I copied the folder.\nResult: it runs on port 8001.",
}


@pytest.mark.parametrize("text", [*CALLS.values(), *ONLY_RECOGNISED.values()], ids=[*CALLS, *ONLY_RECOGNISED])
def test_a_call_in_any_dialect_is_recognised(text: str) -> None:
    assert looks_like_call(text)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_ordinary_text_is_not_a_call(text: str) -> None:
    assert not looks_like_call(text)


@given(
    st.text(alphabet=st.characters(exclude_categories=[])) | st.text(alphabet='{}[]"<>|:,=`/ \nnametoolcallarguments')
)
def test_no_text_makes_the_check_fail(text: str) -> None:
    assert looks_like_call(text) in (True, False)


@pytest.mark.parametrize(
    "text",
    [
        one * (300_000 // len(one))
        for one in (
            "{",
            '{"a":',
            "[",
            "<tool_call>",
            '{"name": "',
            " ",
            "```",
            '[{"name":"x","arguments":',
            "-",
            "\n",
            '[bash(command="',
            '\n[f(a="',
            "[f(a=1) ",
            "<|tool_call_start|>",
            "call: f(",
            "[ ",
        )
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_hostile_text_is_checked_in_bounded_time(text: str) -> None:
    before = time.process_time()
    looks_like_call(text)
    assert time.process_time() - before < 3
