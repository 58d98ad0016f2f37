"""The preflight determines a server's behaviour, and refuses a server that no trial can use in one line."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from inspect_ai.model import Model, get_model
from inspect_ai.tool import ToolInfo, ToolParams
from inspect_ai.util import JSONSchema

from redline._errors import UsageError
from redline.models.clients import can_be_tried
from redline.models.preflight import Tools, preflight
from redline.models.preflight_record import AskedToolCalls, PreflightRecord
from redline.models.preflight_settings import settings
from tests.model_server import BEHAVIOURS, Asked, Behaviour, ModelServer, Reply, error, model_server, ok, says

COMMAND = JSONSchema(type="string", description="The command.")
BASH = ToolInfo(
    name="bash",
    description="Run a command.",
    parameters=ToolParams(properties={"command": COMMAND}, required=["command"]),
)
TOOLS = Tools(BASH, 'Call a tool so:\n```json\n{"name": "bash", "arguments": {"command": "ls"}}\n```', "Not read.")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PreflightRecord]:
    def run(
        server: ModelServer,
        *,
        asked: AskedToolCalls = "auto",
        tools: Tools | None = TOOLS,
        name: str = "x",
        **args: Any,
    ) -> PreflightRecord:
        for variable, value in server.environment.items():
            monkeypatch.setenv(variable, value)

        def make() -> Model:
            return get_model(f"openai-api/local/{name}", memoize=False, **args)

        async def flight() -> PreflightRecord:
            return await preflight(make, tools=tools, asked=asked)

        return anyio.run(flight)

    return run


Tried = Callable[..., PreflightRecord]


@pytest.mark.parametrize(
    ("behaviour", "mode"),
    [
        ("ok", "native"),
        ("duplicate_ids", "native"),
        ("text_call", "text"),
        ("reasoning_call", "text"),
        ("hermes_call", "emulated"),
        ("tools_dropped", "text"),
    ],
)
def test_the_mode_of_tool_calls_is_found(tried: Tried, behaviour: str, mode: str) -> None:
    with model_server(behaviour) as server:
        record = tried(server)
    assert (record.tool_calls, record.call_seen) == (mode, True)
    assert bool(record.warnings) == (mode != "native")


def test_a_healthy_fast_server_takes_two_requests_and_little_time(tried: Tried) -> None:
    with model_server("ok") as server:
        began = time.monotonic()
        record = tried(server)
        assert time.monotonic() - began < 6  # 0.3 s on an idle host
        assert record.calls == len(server.requests) == 2
        # The real schema, and a second turn with a result.
        assert server.requests[0].tools == ["bash"]
        assert [message["role"] for message in server.requests[1].body["messages"]][-2:] == ["assistant", "tool"]
    assert record.warnings == ()


SHOWN = {
    "err500": "HTTP 500: try later",
    "err503": "HTTP 503: Loading model",
    "err429_long": "HTTP 429: Rate limit reached",
    "key401": "HTTP 401: Incorrect API key provided",
    "key403": "HTTP 403: You do not have access to this model",
    "name404": "HTTP 404: The model `x` does not exist.",
    "path404": "HTTP 404: Not Found",
    "no_tools400": "start vLLM with --enable-auto-tool-choice --tool-call-parser",
    "no_jinja500": "start llama.cpp's server with --jinja",
    "ollama_no_tools": "choose a model that Ollama lists with the capability tools, or use -T tool_calls=text",
    "strange400": "HTTP 400: this model is on holiday",
    "html200": "an HTML page: 502 Bad Gateway",
    "html502": "HTTP 502: an HTML page: 502 Bad Gateway",
    "half_json": "incomplete JSON",
    "bare_string": "'hello'",
    "no_choices": "no choices",
    "empty_choices": "no choices",
    "cut": "the connection failed",
    "die": "the connection failed",
}


@pytest.mark.first_cases(8)
@pytest.mark.parametrize("behaviour", SHOWN)
def test_an_unusable_server_is_refused_with_its_own_message_and_never_the_request(tried: Tried, behaviour: str) -> None:
    with model_server(behaviour) as server, pytest.raises(UsageError) as refused:
        tried(server)
    line = str(refused.value)
    assert SHOWN[behaviour] in line
    assert line.startswith("model openai-api/local/x: ")
    assert "\n" not in line and len(line) < 600
    assert settings().words.request not in line and "messages" not in line


@pytest.mark.long
def test_every_behaviour_of_the_scripted_server_has_an_outcome(tried: Tried) -> None:
    usable = set(BEHAVIOURS) - set(SHOWN) - {"hang", "err429"}
    for behaviour in sorted(usable):
        with model_server(behaviour) as server:
            assert tried(server).tool_calls is not None, behaviour


def test_a_server_that_hangs_times_out(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = settings().bounds.model_copy(update={"attempt_seconds": 1, "short_attempt_seconds": 1})
    limited = settings().model_copy(update={"bounds": bounds})
    for module in ("preflight", "preflight_requests"):
        monkeypatch.setattr(f"redline.models.{module}.settings", lambda: limited)
    began = time.monotonic()
    with model_server("hang") as server, pytest.raises(UsageError, match="no answer in time"):
        tried(server)
    assert time.monotonic() - began < 5


def test_a_slow_server_that_gives_short_answers_is_used_with_a_warning(
    tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = settings().bounds.model_copy(update={"attempt_seconds": 1})
    limited = settings().model_copy(update={"bounds": bounds})
    for module in ("preflight", "preflight_requests"):
        monkeypatch.setattr(f"redline.models.{module}.settings", lambda: limited)

    def slow(asked: Asked) -> Reply:
        return replace(ok(asked), hang=4 if asked.body["max_tokens"] > bounds.short_answer_tokens else 0)

    with model_server(slow) as server:
        record = tried(server)
    assert (record.tool_calls, record.call_seen) == ("native", None)
    assert "the server is slow" in record.warnings[0]


def test_a_server_that_stops_answering_after_the_first_turn_is_a_warning_only(tried: Tried) -> None:
    with model_server("err500", good_turns=1) as server:
        record = tried(server)
    assert record.tool_calls == "native"
    assert "not the second one: HTTP 500: try later" in record.warnings[0]


def test_a_server_that_rejects_tool_results_gets_text(tried: Tried) -> None:
    def no_tool_role(asked: Asked) -> Reply:
        if any(message["role"] == "tool" for message in asked.body["messages"]):
            return error(400, "unknown role tool", "BadRequestError")
        return ok(asked) if asked.tools else BEHAVIOURS["text_call"](asked)

    with model_server(no_tool_role) as server:
        assert tried(server).tool_calls == "text"


@pytest.mark.parametrize("behaviour", ["null_content", "babble", "empty_content", "lone_surrogate", "cut_arguments"])
def test_a_model_that_calls_nothing_runs_with_a_warning(tried: Tried, behaviour: str) -> None:
    with model_server(behaviour) as server:
        record = tried(server)
    assert (record.tool_calls, record.call_seen) == ("native", False)
    warning = "could not be parsed" if behaviour == "cut_arguments" else "called no tool"
    assert any(warning in line for line in record.warnings)
    record.model_dump_json().encode()


def test_prompt_tokens_that_do_not_grow_cause_a_warning(tried: Tried) -> None:
    with model_server("still_tokens") as server:
        assert "do not grow" in tried(server).warnings[0]


def test_a_model_whose_reasoning_uses_up_the_first_limit_gets_a_second_one(tried: Tried) -> None:
    def thinks(asked: Asked) -> Reply:
        if asked.body["max_tokens"] > settings().bounds.answer_tokens:
            return ok(asked)
        return replace(says("", None, reasoning_content="Let me think about it."), finish="length")

    with model_server(thinks) as server:
        record = tried(server)
    assert (record.tool_calls, record.call_seen) == ("native", True)


def test_a_model_that_refuses_short_answers_gets_longer_ones(tried: Tried) -> None:
    def wants_room(asked: Asked) -> Reply:
        message = "Could not finish the message because max_tokens or model output limit was reached."
        return ok(asked) if asked.body["max_tokens"] > 1000 else error(400, message, "invalid_request_error")

    with model_server(wants_room) as server:
        record = tried(server)
    assert (record.tool_calls, record.call_seen, record.warnings) == ("native", True, ())


def listed(name: str, **more: object) -> dict[str, object]:
    return {"object": "list", "data": [{"id": name, **more}]}


def test_a_name_that_the_server_does_not_list_is_refused_with_the_nearest(tried: Tried) -> None:
    with model_server("ok", models=listed("qwen2.5-7b")) as server, pytest.raises(UsageError) as refused:
        tried(server, name="qwen2.5-7")
    assert "does not list 'qwen2.5-7'; did you mean 'qwen2.5-7b'?" in str(refused.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("qwen2.5", listed("qwen2.5:latest")),
        ("Qwen/Qwen2.5-7B", listed("qwen/qwen2.5-7b")),
        ("small", listed("/srv/models/small.gguf")),
        ("any/thing", listed("any/*")),
    ],
)
def test_a_name_can_have_any_form_that_the_server_accepts(tried: Tried, name: str, models: object) -> None:
    with model_server("ok", models=models) as server:
        assert tried(server, name=name).name_known


def test_a_server_that_answers_to_any_name_is_used_with_a_warning(tried: Tried) -> None:
    with model_server("ok", models=listed("/srv/small.gguf", owned_by="llamacpp")) as server:
        record = tried(server, name="local")
    assert record.name_known is False
    assert "answers to any name: it lists /srv/small.gguf" in record.warnings[0]


@pytest.mark.parametrize(
    "models",
    [
        Reply(status=404, body={}),
        Reply(raw=b"<html>"),
        Reply(raw=b'{"data": ['),
        {"data": [{"id": 3}, None, "x", {"id": ""}]},
        {"data": {}},
        [],
        "x",
        Reply(raw=b"[" * 100_000),
    ],
    ids=str,
)
def test_an_invalid_list_of_models_is_ignored(tried: Tried, models: object) -> None:
    with model_server("ok", models=models) as server:
        record = tried(server)
    assert (record.name_known, record.tool_calls) == (None, "native")


def test_context_and_slots_are_what_the_server_reports(tried: Tried) -> None:
    props = {"total_slots": 4, "default_generation_settings": {"n_ctx": 8192}}
    with model_server("ok", props=props) as server:
        record = tried(server)
    assert (record.context, record.slots) == (8192, 4)
    assert "context is 8192 tokens" in record.warnings[0]
    with model_server("ok", models=listed("x", max_model_len=32768)) as server:
        assert (tried(server).context, tried(server).warnings) == (32768, ())


@pytest.mark.parametrize("figure", [True, -1, 0, 1.5, "8192", None, [], 10**30])
def test_an_invalid_number_stays_unknown(tried: Tried, figure: object) -> None:
    props = {"total_slots": figure, "default_generation_settings": {"n_ctx": figure}}
    with model_server("ok", props=props, models=listed("x", max_model_len=figure)) as server:
        record = tried(server)
    assert (record.context, record.slots) == (None, None)


def test_a_server_without_tools_is_used_where_the_user_chose_text(tried: Tried) -> None:
    with model_server("no_tools400") as server:
        record = tried(server, asked="text")
        assert not any(asked.tools for asked in server.requests)
    assert (record.tool_calls, record.call_seen) == ("text", True)


def test_the_users_choice_is_kept_with_a_warning_about_its_cost(tried: Tried) -> None:
    with model_server("text_call") as server:
        native = tried(server, asked="native")
        emulated = tried(server, asked="emulated")
    assert (native.tool_calls, emulated.tool_calls) == ("native", "emulated")
    assert "none of them is run" in native.warnings[0]
    assert "tool_calls=emulated" in emulated.warnings[0]


def test_emulation_enabled_by_the_user_is_reported(tried: Tried) -> None:
    with model_server("hermes_call") as server:
        record = tried(server, emulate_tools=True)
    assert (record.tool_calls, record.call_seen, record.warnings) == ("emulated", True, ())


def test_an_agent_without_support_for_text_does_not_get_it(tried: Tried) -> None:
    with model_server("text_call") as server:
        record = tried(server, tools=replace(TOOLS, text_offered=False))
    assert record.tool_calls == "native"
    assert "may be lost" in record.warnings[0]


@pytest.mark.parametrize("behaviour", ["no_tools400", "babble", "text_call"])
def test_a_model_without_tools_only_has_to_answer(tried: Tried, behaviour: str) -> None:
    with model_server(behaviour) as server:
        record = tried(server, tools=None)
    assert (record.tool_calls, record.asked, record.calls) == (None, None, 1)


@pytest.mark.long
def test_a_proxy_that_receives_requests_to_this_host_is_named(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: Asked) -> Reply:
        return error(503, "no route")

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    behaviour: Behaviour = refuses
    with model_server(behaviour) as server, pytest.raises(UsageError, match="HTTP_PROXY is set: NO_PROXY=127.0.0.1"):
        tried(server)


def test_a_running_vllm_server_is_tested_and_one_not_yet_started_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Model:
        return get_model("vllm/x", memoize=False)

    async def flight() -> PreflightRecord:
        return await preflight(make, tools=TOOLS)

    monkeypatch.delenv("VLLM_BASE_URL", raising=False)
    assert not can_be_tried(make())
    with model_server("text_call", models=listed("x", max_model_len=8192, owned_by="vllm")) as server:
        monkeypatch.setenv("VLLM_BASE_URL", server.base_url)
        assert can_be_tried(make())
        record = anyio.run(flight)
    assert (record.tool_calls, record.name_known, record.context) == ("text", True, 8192)


@pytest.mark.parametrize("name", ["mockllm/model", "none/none"])
def test_a_model_without_a_server_is_not_tested(name: str) -> None:
    assert not can_be_tried(get_model(name, memoize=False))
