"""Calls of a model through a real client and a real server are bounded, classified and recorded in the ledger."""

import time
from dataclasses import replace

import pytest
from inspect_ai.model import ChatMessage, ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.tool import ToolInfo
from inspect_ai.util import LimitExceededError

from redline.models.ask import ContextExceededError, ModelUnavailableError, ask, health_of, probe
from redline.models.ledger import Ledger, ModelCalls
from tests.model_server import Asked, Behaviour, Reply, model_server, ok, says

pytestmark = pytest.mark.anyio

BASH = ToolInfo(name="bash", description="Run a command.")
HELLO: list[ChatMessage] = [ChatMessageUser(content="Hello.")]


def client(base_url: str, **config: int) -> Model:
    settings = GenerateConfig(**{"max_retries": 0, **config})
    return get_model("openai-api/local/x", base_url=base_url, api_key="none", memoize=False, config=settings)


async def once(model: Model, ledger: Ledger, messages: list[ChatMessage] = HELLO) -> ModelOutput:
    return await ask(
        model,
        ledger,
        "agent",
        messages,
        lambda bounds: model.generate(messages, [BASH], config=bounds, cache=False),
    )


async def asked(behaviour: str | Behaviour, **config: int) -> tuple[ModelOutput | Exception, ModelCalls]:
    ledger = Ledger()
    with model_server(behaviour) as server:
        try:
            return await once(client(server.base_url, **config), ledger), ledger.agent
        except (ModelUnavailableError, ContextExceededError) as error:
            return error, ledger.agent


@pytest.mark.first_cases(8)
@pytest.mark.parametrize(
    ("behaviour", "word"),
    [
        ("err500", "HTTP 500 (try later)"),
        ("err503", "HTTP 503"),
        ("err429", "HTTP 429"),
        ("key401", "HTTP 401"),
        ("key403", "HTTP 403"),
        ("name404", "HTTP 404"),
        ("path404", "HTTP 404"),
        ("strange400", "HTTP 400 (this model is on holiday)"),
        ("html502", "HTTP 502"),
        ("html200", "Bad Gateway"),
        ("half_json", "chat API"),
        ("bare_string", "non-ChatCompletion"),
        ("no_choices", "chat API"),
        ("empty_choices", "no choices"),
        ("long_text", "5,000,000 characters in one answer"),
        ("long_reasoning", "5,000,000 characters in one answer"),
        ("long_arguments", "5,000,005 characters in one answer"),
        ("cut", "closed"),
        ("die", ""),
    ],
)
async def test_a_server_that_does_not_answer_is_unavailable_in_one_line(behaviour: str, word: str) -> None:
    result, calls = await asked(behaviour)
    assert isinstance(result, ModelUnavailableError)
    assert word in str(result)
    assert "\n" not in str(result)
    assert "Hello" not in str(result)
    assert (calls.answered, calls.failed) == (0, 1)
    assert calls.last_error is not None


async def test_a_server_that_hangs_times_out() -> None:
    began = time.monotonic()
    result, calls = await asked("hang", attempt_timeout=1)
    assert isinstance(result, ModelUnavailableError)
    assert "no answer within 1 s" in str(result)
    assert time.monotonic() - began < 30
    assert calls.failed == 1


@pytest.mark.long
async def test_a_conversation_that_outgrew_the_context_is_not_a_fault() -> None:
    result, calls = await asked(lambda _: Reply(status=400, body=CONTEXT))
    assert isinstance(result, ContextExceededError)
    assert calls.last_error is not None


CONTEXT = {"error": {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}


@pytest.mark.long
async def test_failed_attempts_before_an_answer_are_counted_with_their_duration() -> None:
    ledger = Ledger()
    with model_server(lambda asked: ok(asked) if asked.count > 3 else Reply(status=500, body={})) as server:
        # The client library makes three attempts before Inspect sees the failure.
        output = await once(client(server.base_url, max_retries=2), ledger)
    assert output.message.tool_calls
    calls = ledger.agent
    assert (calls.answered, calls.retried, calls.failed) == (1, 1, 0)
    assert calls.waited > 1
    assert calls.seconds >= calls.waited


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_refusal_is_not_retried(status: int) -> None:
    with model_server(lambda _: Reply(status=status, body={"error": {"message": "no"}})) as server:
        with pytest.raises(ModelUnavailableError):
            await once(client(server.base_url, max_retries=5), Ledger())
        assert len(server.requests) == 1


async def test_a_lone_surrogate_is_replaced() -> None:
    result, _ = await asked("lone_surrogate")
    assert isinstance(result, ModelOutput)
    result.completion.encode()


async def test_duplicate_call_ids_are_made_unique_within_and_between_turns() -> None:
    ledger = Ledger()
    with model_server("duplicate_ids") as server:
        model = client(server.base_url)
        first = await once(model, ledger)
        second = await once(model, ledger, [*HELLO, first.message])
    ids = [call.id for output in (first, second) for call in output.message.tool_calls or []]
    assert len(ids) == len(set(ids)) == 4


@pytest.mark.parametrize(
    ("behaviour", "field"),
    [
        ("null_content", "empty"),
        ("empty_content", "empty"),
        ("text_call", "unparsed"),
        ("hermes_call", "unparsed"),
        ("reasoning_call", "unparsed"),
        ("cut_text_call", "unparsed"),
        ("cut_text_call", "truncated"),
        ("cut_arguments", "unparsed"),
        ("cut_arguments", "truncated"),
    ],
)
async def test_the_content_of_an_answer_is_recorded(behaviour: str, field: str) -> None:
    result, calls = await asked(behaviour)
    assert isinstance(result, ModelOutput)
    assert getattr(calls, field) == 1
    assert calls.acted == 0


async def test_text_only_is_not_a_fault() -> None:
    _, calls = await asked("babble")
    assert (calls.answered, calls.unparsed, calls.empty, calls.words_at_end) == (1, 0, 0, 1)


async def test_an_answer_is_bounded_by_default() -> None:
    with model_server() as server:
        await once(client(server.base_url), Ledger())
        assert server.requests[0].body["max_tokens"] == 2048


async def test_prompt_tokens_that_do_not_grow_with_the_conversation_show_a_truncated_prompt() -> None:
    def truncating(asked: Asked) -> Reply:
        return replace(says("Well."), prompt_tokens=4096)

    ledger = Ledger()
    with model_server(truncating) as server:
        model = client(server.base_url)
        messages = list(HELLO)
        for _ in range(4):
            messages.append(ChatMessageUser(content="word " * 200))
            await once(model, ledger, messages)
    assert ledger.agent.truncated_prompts


async def test_growing_or_meaningless_prompt_tokens_show_no_truncated_prompt() -> None:
    for behaviour in (ok, "still_tokens"):
        ledger = Ledger()
        with model_server(behaviour) as server:
            model = client(server.base_url)
            messages = list(HELLO)
            for _ in range(4):
                messages.append(ChatMessageUser(content="word " * 200))
                await once(model, ledger, messages)
        assert not ledger.agent.truncated_prompts


async def test_a_server_is_failing_from_its_first_failure_until_it_answers() -> None:
    with model_server(lambda asked: ok(asked) if asked.count > 3 else Reply(status=500, body={})) as server:
        model = client(server.base_url)
        with pytest.raises(ModelUnavailableError):
            await once(model, Ledger())
        assert health_of(model).failing_seconds > 0
        assert await probe(model) is None
        assert health_of(model).failing_since is None


async def test_a_refusal_does_not_count_as_a_server_that_is_down() -> None:
    with model_server("strange400") as server:
        model = client(server.base_url)
        with pytest.raises(ModelUnavailableError):
            await once(model, Ledger())
        assert health_of(model).failing_since is None


async def test_inspects_limits_pass_through() -> None:
    async def limited(bounds: GenerateConfig) -> ModelOutput:
        raise LimitExceededError("cost", value=2, limit=1)

    ledger = Ledger()
    with model_server() as server, pytest.raises(LimitExceededError):
        await ask(client(server.base_url), ledger, "agent", HELLO, limited)
    assert (ledger.agent.answered, ledger.agent.failed) == (0, 0)


async def test_a_dead_proxy_makes_the_model_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with model_server() as server, pytest.raises(ModelUnavailableError):
        await once(client(server.base_url), Ledger())
