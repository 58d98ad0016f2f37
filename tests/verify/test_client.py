"""What a client of chat servers makes of lists of models, answers, and what processes show of keys."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.tether import HttpReply
from redline.verify.client import completion_text, keys_in, model_names, with_keys


def reply(body: str, status: int = 200) -> HttpReply:
    try:
        return HttpReply(status, json.loads(body), body)
    except (ValueError, RecursionError):
        return HttpReply(status, None, body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"choices": [{"message": {"content": "yes"}}]}', "yes"),
        ('{"choices": [{"message": {"content": [{"type": "text", "text": "y"}, {"text": "es"}]}}]}', "yes"),
        ('{"choices": [{"text": "yes"}]}', "yes"),
        ('{"message": {"role": "assistant", "content": "yes"}}', "yes"),
        ('data: {"choices": [{"delta": {"content": "y"}}]}\n\ndata: {"choices": [{"delta": {"content": "es"}}]}\n\n'
         "data: [DONE]\n\n", "yes"),
        ('{"message": {"role": "a", "content": "y"}}\n{"message": {"role": "a", "content": "es"}}\n', "yes"),
        ('{"message": "created"}', ""),
        ('{"text": "no chat"}', ""),
        ('{"choices": []}', ""),
        ("not JSON", ""),
    ],
)  # fmt: skip
def test_the_text_of_a_completion_is_read_in_each_of_its_forms(body: str, text: str) -> None:
    assert completion_text(reply(body)) == text


def test_an_error_is_no_completion() -> None:
    assert completion_text(reply('{"choices": [{"message": {"content": "yes"}}]}', 400)) == ""
    assert completion_text(None) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["choices", "message", "delta", "data", "id"]), inner)
    ),
)


@given(JSON, st.text())
def test_no_answer_breaks_the_client(value: object, text: str) -> None:
    for body in (json.dumps(value), f"data: {json.dumps(value)}\n{text}", text):
        assert isinstance(completion_text(reply(body)), str)
        assert all(isinstance(name, str) for name in model_names(reply(body)))


def test_models_are_read_as_servers_list_them() -> None:
    assert model_names(reply('{"data": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}')) == ["a", "b"]
    assert model_names(reply('{"models": [{"name": "a"}]}')) == ["a"]
    assert model_names(reply('{"models": ["a"]}')) == ["a"]
    assert model_names(reply('{"data": [{"id": "a"}]}', 401)) == []


def test_keys_are_found_where_processes_hold_them() -> None:
    commands = [["python3", "serve.py", "--api-key", "k1"], ["x", "--token=k2", "--port", "80"]]
    assert keys_in(commands, [["PATH=/bin", "OPENAI_API_KEY=k3", "AUTH=Bearer k4"]]) == ["k1", "k2", "k3", "k4"]


@given(st.lists(st.text()))
def test_headers_hold_nothing_that_http_does_not_allow(keys: list[str]) -> None:
    for headers in with_keys(keys):
        assert all(value.isascii() and value.isprintable() for value in headers.values())
