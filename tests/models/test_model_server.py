"""The scripted server carries out its behaviours over real HTTP."""

import http.client
import json
from typing import Any

import pytest

from tests.model_server import BEHAVIOURS, ModelServer, model_server

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("bash", "submit")]


def ask(server: ModelServer, **more: object) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        body = {"model": "x", "messages": [{"role": "user", "content": "hello"}], **more}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def completion(server: ModelServer, **more: object) -> dict[str, Any]:
    status, body = ask(server, **more)
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize("name", sorted(set(BEHAVIOURS) - {"hang", "cut", "die"}))
def test_every_behaviour_answers_a_request(name: str) -> None:
    with model_server(name) as server:
        status, body = ask(server, tools=TOOLS)
    assert 200 <= status < 600
    assert body


@pytest.mark.parametrize("name", ["cut", "die"])
def test_a_connection_that_is_cut_is_an_error_for_the_client(name: str) -> None:
    with model_server(name) as server, pytest.raises((OSError, http.client.HTTPException)):
        ask(server, tools=TOOLS)


def test_a_server_that_died_refuses_connections() -> None:
    with model_server("die") as server:
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(server)
        with pytest.raises(OSError):
            ask(server)


def test_good_turns_come_before_the_behaviour() -> None:
    with model_server("err500", good_turns=1) as server:
        assert ask(server, tools=TOOLS)[0] == 200
        assert ask(server, tools=TOOLS)[0] == 500
        assert len(server.requests) == 2


def test_kept_tools_cost_prompt_tokens_and_dropped_tools_do_not() -> None:
    with model_server("tools_dropped") as server:
        assert completion(server)["usage"] == completion(server, tools=TOOLS)["usage"]
    with model_server("ok") as server:
        assert completion(server)["usage"]["prompt_tokens"] < completion(server, tools=TOOLS)["usage"]["prompt_tokens"]
