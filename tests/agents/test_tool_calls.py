"""Tool calls reach the cell in every mode, and the model gets the matching description of its tools."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ModelOutput,
    get_model,
)
from inspect_ai.tool import Tool, tool

from redline._errors import UsageError
from redline.agents.tool_calls import ask_with_tools, info_of
from redline.catalog import scenarios
from redline.scenarios._prompts import words
from tests.model_server import ModelServer, model_server


@tool
def bash() -> Tool:
    async def execute(command: str) -> str:
        """Run a command.

        Args:
            command: The command.
        """
        return command

    return execute


def ask(server: ModelServer, messages: list[ChatMessage], mode: str | None) -> ModelOutput:
    context = cast(Any, SimpleNamespace(words=words(), trial=SimpleNamespace(tool_calls=mode)))
    model = get_model("openai-api/local/x", base_url=server.base_url, api_key="none", memoize=False)
    return anyio.run(ask_with_tools, model, messages, [bash()], context)


def test_with_text_a_model_gets_one_description_of_the_tools_and_no_tools() -> None:
    messages: list[ChatMessage] = [ChatMessageSystem(content="You act."), ChatMessageUser(content="Go.")]
    with model_server("text_call") as server:
        output = ask(server, messages, "text")
        (call,) = output.message.tool_calls or []
        assert (call.function, output.stop_reason) == ("bash", "tool_calls")
        messages += [output.message, ChatMessageTool(content="copied", tool_call_id=call.id, function="bash")]
        ask(server, messages, "text")
        first, second = (asked.body["messages"] for asked in server.requests)
        assert not any(asked.tools for asked in server.requests)
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert first[0] == second[0]
    assert first[0]["content"].startswith("You act.\n\n")
    assert "- bash: Run a command." in first[0]["content"]
    assert second[2]["content"] == output.message.text
    assert second[3]["content"] == "[bash]\ncopied"
    assert "{" not in first[0]["content"].replace(
        '{"name": "bash", "arguments": {"command": "ls -la /home/agent"}}', ""
    )


def test_with_native_calls_a_model_gets_the_tools_and_no_description() -> None:
    for mode in ("native", "emulated", None):
        messages: list[ChatMessage] = [ChatMessageSystem(content="You act."), ChatMessageUser(content="Go.")]
        with model_server("ok") as server:
            assert ask(server, messages, mode).message.tool_calls
            assert server.requests[0].tools == ["bash"]
        assert messages[0].text == "You act."


def test_a_call_that_could_not_be_parsed_is_answered_with_instructions() -> None:
    messages: list[ChatMessage] = [ChatMessageUser(content="Go.")]
    with model_server("cut_text_call") as server:
        output = ask(server, messages, "text")
        assert not output.message.tool_calls
        messages += [output.message, ChatMessageUser(content="Please go on.")]
        ask(server, messages, "text")
        assert server.requests[1].body["messages"][-1]["content"].startswith(words().text_tools_fault)


def test_the_example_in_the_prompt_is_parsed_as_a_call() -> None:
    from redline.models.call_parser import read_calls

    (call,) = read_calls(words().text_tools, [info_of(bash())])
    assert (call.function, call.arguments) == ("bash", {"command": "ls -la /home/agent"})


@pytest.mark.parametrize(
    "factors",
    [
        {"agent": "fudan", "tool_calls": "text"},
        {"agent": "in_cell", "tool_calls": "native"},
        {"agent": "solver", "solver": "x", "tool_calls": "text"},
    ],
    ids=str,
)
def test_a_mode_that_an_agent_does_not_support_is_refused(factors: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="tool_calls="):
        scenarios()["self_replication"].task(**factors, runtime="runc")


def run(server: ModelServer, out: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "redline", "run", "self_replication", "--model", "openai-api/local/x"]
    command += [
        "--runtime",
        "runc",
        "--trials",
        "1",
        "--hold",
        "0.2",
        "-T",
        "weights=4MiB",
        "--out",
        str(out),
        "--json",
    ]
    done = subprocess.run(
        [*command, *more], env=os.environ | server.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.long
@pytest.mark.cell
@pytest.mark.parametrize(("behaviour", "mode"), [("text_call", "text"), ("hermes_call", "emulated")])
def test_a_command_that_a_model_writes_as_text_is_run(behaviour: str, mode: str, tmp_path: Path) -> None:
    with model_server(behaviour) as server:
        results = run(server, tmp_path)
    (trial,), (condition,), (record,) = results["trials"], results["conditions"], results["preflight"]
    assert trial["milestones"]["weights_copied"]
    assert trial["outcome"] == "partial"
    assert trial["tool_calls"] == condition["tool_calls"] == record["tool_calls"] == mode
    assert trial["factors"]["tool_calls"] == "auto"
