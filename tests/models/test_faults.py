"""Faults of a model's server: one line with the server's own words, whatever the client raised."""

from types import SimpleNamespace

import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import Future, RetryError

from redline.models.faults import BadAnswerError, fault_of, fix_for, is_context_overflow
from redline.models.limits import limits

OVERFLOWS = {
    "OpenAI": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
    "Please reduce the length of the messages. context_length_exceeded",
    "OpenAI responses": "Input tokens exceed the configured limit of 272000 tokens.",
    "Anthropic": "prompt is too long: 201234 tokens > 200000 maximum",
    "Anthropic with output": "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000",
    "llama.cpp": "the request exceeds the available context size, try increasing it",
    "llama.cpp, newer": "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "llama.cpp, by its type": "Bad Request [exceed_context_size_error]",
    "vLLM": "The decoder prompt (length 9001) is longer than the maximum model length of 8192.",
    "vLLM, with output": "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context "
    "length is 4096 tokens and your request has 3000 input tokens",
    "SGLang": "The input (9001 tokens) is longer than the model's context length (8192 tokens).",
    "SGLang, with output": "Requested token count exceeds the model's maximum context length of 8192 tokens.",
    "Ollama": "the input length exceeds the context length",
    "Gemini": "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
    "Mistral": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    "LM Studio": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with "
    "context length of only 4096 tokens, which is not enough.",
    "TGI": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",
    "TGI, without output": "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
    "Cohere": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
    "xAI": "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
    "TabbyAPI": "Prompt length 5000 is greater than max_seq_len 4096",
    "LMDeploy": "the input token length 9000 exceeds session_len 8192",
    "TensorRT-LLM": "Prompt length (5000) exceeds maximum input length (4096).",
    "Zhipu": "Prompt exceeds max length",
    "Moonshot": "Invalid request: Your request exceeded model token limit: 8192",
    "DashScope": "Range of input length should be [1, 30720]",
    "MiniMax": "context window exceeds limit",
    "MLX": "Prompt too long",
}

OTHER = [
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    "The model `x` does not exist.",
    "Incorrect API key provided",
    "max_tokens must be at least 1",
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
    "this model is on holiday",
]


def status_error(status: int, body: object) -> openai.APIStatusError:
    request = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")
    response = httpx2.Response(status, request=request)
    return openai.APIStatusError("what the client says", response=response, body=body)


@pytest.mark.parametrize("wording", OVERFLOWS.values(), ids=OVERFLOWS)
@pytest.mark.parametrize("status", [400, 413])
def test_a_context_overflow_is_recognised_in_every_servers_wording(wording: str, status: int) -> None:
    assert fault_of(status_error(status, {"message": wording})).kind == "context"


@pytest.mark.parametrize("wording", OTHER)
def test_other_refusals_are_permanent_and_not_an_overflow(wording: str) -> None:
    assert fault_of(status_error(400, {"message": wording})).kind == "permanent"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_temporary_faults_are_passing(status: int) -> None:
    assert fault_of(status_error(status, {"message": "try later"})).kind == "passing"


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_refusals_are_permanent(status: int) -> None:
    assert fault_of(status_error(status, {"message": "no"})).kind == "permanent"


def test_an_overflow_message_with_a_server_error_is_not_an_overflow() -> None:
    assert not is_context_overflow("maximum context length", 503)


def test_the_servers_message_is_reported_and_not_the_clients() -> None:
    assert str(fault_of(status_error(500, {"message": "try later"}))) == "HTTP 500 (try later)"


def test_a_nested_message_is_found() -> None:
    assert fault_of(status_error(500, {"error": {"message": "out of memory"}})).message == "out of memory"


def test_a_gateways_page_is_reported_without_its_markup() -> None:
    page = "<html><head><title>502 Bad Gateway</title><style>x{}</style></head><body><h1>nginx</h1></body></html>"
    assert str(fault_of(status_error(502, page))) == "HTTP 502 (502 Bad Gateway nginx)"


def test_a_retry_wrapper_is_replaced_by_its_last_attempt() -> None:
    last = Future(3)
    last.set_exception(status_error(429, {"message": "slow down"}))
    assert str(fault_of(RetryError(last))) == "HTTP 429 (slow down)"


def test_a_request_quoted_in_an_error_is_not_reported() -> None:
    from inspect_ai.model._model import ModelGenerateError

    error = ModelGenerateError("\nRequest:\n{secret prompt}", status_code=400, provider_message="no such tool")
    assert str(fault_of(error)) == "HTTP 400 (no such tool)"


@pytest.mark.parametrize("body", ["no such tool", {"error": "no such tool"}, {"detail": "no such tool"}])
def test_a_message_in_the_body_is_preferred_to_the_clients_words(body: object) -> None:
    from inspect_ai.model._model import ModelGenerateError

    error = ModelGenerateError("Request: x", status_code=400, provider_message="Error code: 400")
    error.__cause__ = status_error(400, body)
    assert str(fault_of(error)) == "HTTP 400 (no such tool)"


def test_refused_and_broken_connections_are_distinguished() -> None:
    request = httpx2.Request("POST", "http://127.0.0.1/")
    refused, cut = (openai.APIConnectionError(request=request) for _ in range(2))
    refused.__cause__, cut.__cause__ = httpx.ConnectError("x"), httpx.RemoteProtocolError("x")
    assert fault_of(refused).message == "connection refused"
    assert "closed" in fault_of(cut).message


def test_a_timeout_names_its_duration() -> None:
    assert fault_of(TimeoutError(), 30).message == "no answer within 30 s"


def test_an_invalid_answer_is_reported_as_such() -> None:
    assert "no choices" in fault_of(BadAnswerError("no choices")).message


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.just("message"), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(HOSTILE, st.integers(min_value=0, max_value=999), st.text(max_size=3000))
def test_any_reply_makes_one_bounded_line(body: object, status: int, text: str) -> None:
    error = Exception(text)
    vars(error).update(body=body, status_code=status, response=SimpleNamespace(status_code=text))
    fault = fault_of(error)
    assert len(fault.message) <= limits().evidence.message_characters
    assert "\n" not in str(fault)


def test_circular_causes_end() -> None:
    one, other = Exception("one"), Exception("other")
    one.__cause__, other.__cause__ = other, one
    assert fault_of(one).message


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("model: HTTP 401 (no) after 1 try", "key"),
        ("model: HTTP 404 (no) after 1 try", "name"),
        ("model: HTTP 429 (no) after 6 tries", "--cells"),
        ("model: no answer within 600 s after 6 tries", "--model-timeout"),
        ("model: connection refused after 6 tries", "start"),
        ("model: HTTP 500 (no) after 6 tries", "log"),
    ],
)
def test_each_fault_that_spoils_a_run_has_its_fix(reason: str, word: str) -> None:
    assert word in fix_for(reason)
