"""A scripted OpenAI-compatible server on loopback, over real HTTP, with the faults of model servers.

    with model_server("err500", good_turns=1) as server:
        ...  # server.base_url, server.environment, server.requests

A behaviour is a name in `BEHAVIOURS` or a function from a request to a reply. As a program,
`python -m tests.model_server BEHAVIOUR [PORT [GOOD_TURNS]]` prints its address and serves until it is killed.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

HANG_SECONDS = 600.0
MODEL = "x"
FIRST_COMMAND = "ls -la /home/agent"
COPY_COMMAND = "cp -r /home/agent/subject /home/agent/second"
CONTEXT_ERROR = {
    "error": {
        "code": 400,
        "message": "the request exceeds the available context size, try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5000,
        "n_ctx": 4096,
    }
}
HERMES_COPY = f'<tool_call>\n{{"name": "bash", "arguments": {{"command": "{COPY_COMMAND}"}}}}\n</tool_call>'
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


@dataclass(frozen=True)
class Asked:
    """A chat request."""

    body: Mapping[str, Any]
    count: int
    """Number of this chat request, from 1."""

    @property
    def turns(self) -> int:
        return sum(message["role"] == "assistant" for message in self.body["messages"])

    @property
    def tools(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.body.get("tools") or []]

    @property
    def text(self) -> str:
        """The text of all messages, for behaviours that read their prompt."""
        return "\n".join(str(message.get("content") or "") for message in self.body["messages"])

    @property
    def tokens(self) -> int:
        """Prompt tokens, at four characters per token."""
        return (len(json.dumps(self.body["messages"])) + len(json.dumps(self.body.get("tools") or ""))) // 4


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    message: Mapping[str, Any] | None = None
    """The assistant's message, sent as a completion with usage."""
    finish: str | None = None
    prompt_tokens: int | None = None
    status: int = 200
    body: object = None
    """JSON to send instead of a completion."""
    raw: bytes | None = None
    """Bytes to send instead of JSON."""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0
    """Delay in seconds before the response."""
    cut: bool = False
    """Whether to reset the connection after half of the body."""
    die: bool = False
    """Whether to close the listener and answer no further request."""


Behaviour: TypeAlias = Callable[[Asked], Reply]


def call(command: str = FIRST_COMMAND, ident: str = "c1", name: str = "bash") -> dict[str, Any]:
    """Return a tool call in wire format."""
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": json.dumps({"command": command})}}


def says(content: str | None, calls: list[dict[str, Any]] | None = None, **more: object) -> Reply:
    """Return a reply with an assistant message."""
    return Reply(message={"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {}), **more})


def error(status: int, message: str, kind: str = "server_error", **headers: str) -> Reply:
    """Return an error response in the format of OpenAI-compatible servers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body={"error": {"message": message, "type": kind, "code": status}}, headers=named)


def ok(asked: Asked) -> Reply:
    """Call `bash` once and then `submit`, if the request offers these tools."""
    if "bash" in asked.tools and asked.turns == 0:
        return says(None, [call(ident=f"c{asked.count}")])
    if "submit" in asked.tools:
        submit = {"name": "submit", "arguments": json.dumps({"answer": "done"})}
        return says(None, [{"id": f"s{asked.count}", "type": "function", "function": submit}])
    return says("done")


def writes(text: str, *, finish: str | None = None, **more: object) -> Behaviour:
    """Return the behaviour of a model that always writes the same text."""
    return lambda asked: replace(says(text, None, **more), finish=finish)


def follows_text_protocol(asked: Asked) -> Reply:
    """Write calls as text, one command and then `submit`, whichever tools are offered."""
    if asked.turns == 0:
        return says(f"```json\n{json.dumps({'name': 'bash', 'arguments': {'command': COPY_COMMAND}})}\n```")
    return says(f"```json\n{json.dumps({'name': 'submit', 'arguments': {'answer': 'done'}})}\n```")


def follows_emulation(asked: Asked) -> Reply:
    """Write Hermes calls, which Inspect's emulation parses."""
    name, arguments = ("bash", {"command": COPY_COMMAND}) if asked.turns == 0 else ("submit", {"answer": "done"})
    return says(f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>")


def unless_without_tools(reply: Reply) -> Behaviour:
    """Return the behaviour of a server that rejects requests with tools and answers others in text."""
    return lambda asked: reply if asked.tools else follows_text_protocol(asked)


def dropping_tools(asked: Asked) -> Reply:
    """Ignore `tools`, as a chat template does whose prompt is the same with and without them."""
    without_tools = replace(asked, body={**asked.body, "tools": None})
    in_text = "bash" in asked.text and "```" in asked.text
    reply = follows_text_protocol(asked) if in_text else says("Sure, what can I do for you?")
    return replace(reply, prompt_tokens=without_tools.tokens)


def _cut_arguments(asked: Asked) -> Reply:
    cut = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "cp -r /home/ag'}}
    return replace(says(None, [cut]), finish="length")


def _duplicate_ids(asked: Asked) -> Reply:
    if "bash" not in asked.tools or asked.turns > 2:
        return ok(asked)
    return says(None, [call("echo one", "same"), call("echo two", "same")])


BEHAVIOURS: Mapping[str, Behaviour] = {
    "ok": ok,
    "err500": lambda _: error(500, "try later"),
    "err503": lambda _: error(503, "Loading model", "unavailable_error"),
    "err429": lambda _: error(429, "Rate limit reached", "rate_limit_exceeded", Retry_After="1"),
    "err429_long": lambda _: error(429, "Rate limit reached", "rate_limit_exceeded", Retry_After="3600"),
    "key401": lambda _: error(401, "Incorrect API key provided", "invalid_request_error"),
    "key403": lambda _: error(403, "You do not have access to this model", "permission_error"),
    "name404": lambda _: error(404, "The model `x` does not exist.", "NotFoundError"),
    "path404": lambda _: Reply(status=404, body={"detail": "Not Found"}),
    "no_tools400": unless_without_tools(
        error(
            400,
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
            "BadRequestError",
        )
    ),
    "no_jinja500": unless_without_tools(error(500, "tools param requires --jinja flag")),
    "ollama_no_tools": unless_without_tools(
        error(400, "registry.ollama.ai/library/x:latest does not support tools", "api_error")
    ),
    "strange400": lambda _: error(400, "this model is on holiday", "BadRequestError"),
    "ctx400": lambda asked: Reply(status=400, body=CONTEXT_ERROR) if asked.turns >= 3 else says(None, [call()]),
    "html200": lambda _: Reply(raw=HTML, content_type="text/html"),
    "html502": lambda _: Reply(status=502, raw=HTML, content_type="text/html"),
    "half_json": lambda _: Reply(raw=b'{"id": "r", "object": "chat.completion", "choices": [{"index": 0, "mess'),
    "bare_string": lambda _: Reply(body="hello"),
    "no_choices": lambda _: Reply(body={"id": "r", "object": "chat.completion", "created": 1, "model": MODEL}),
    "empty_choices": lambda _: Reply(
        body={"id": "r", "object": "chat.completion", "created": 1, "model": MODEL, "choices": []}
    ),
    "null_content": lambda _: says(None),
    "empty_content": lambda _: says(""),
    "babble": writes("I can certainly help with that. Files are important."),
    "long_text": lambda _: says("x" * 5_000_000),
    "long_reasoning": lambda _: says("", reasoning_content="x" * 5_000_000),
    "long_arguments": lambda _: says(None, [call("echo " + "x" * 5_000_000)]),
    "lone_surrogate": lambda _: says("a \udcff b"),
    "reasoning_call": lambda _: says("", reasoning_content=f"I list the files. {HERMES_COPY}"),
    "cut_text_call": writes('```json\n{"name": "bash", "arguments": {"command": "cp -r /home/age', finish="length"),
    "cut_arguments": _cut_arguments,
    "duplicate_ids": _duplicate_ids,
    "text_call": follows_text_protocol,
    "hermes_call": follows_emulation,
    "tools_dropped": dropping_tools,
    "still_tokens": lambda asked: replace(ok(asked), prompt_tokens=100),
    "hang": lambda _: Reply(hang=HANG_SECONDS),
    "cut": lambda asked: replace(ok(asked), cut=True),
    "die": lambda _: Reply(die=True),
}
"""Behaviours by name. With `good_turns`, a server answers correctly first."""


@dataclass
class ModelServer:
    """A running server."""

    port: int
    requests: list[Asked] = field(default_factory=list)
    """Every chat request, oldest first."""
    paths: list[str] = field(default_factory=list)
    """Every requested path, oldest first."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for the model `openai-api/local/x`."""
        return {"LOCAL_BASE_URL": self.base_url, "LOCAL_API_KEY": "none"}


@contextlib.contextmanager
def model_server(
    behaviour: str | Behaviour = "ok",
    *,
    good_turns: int = 0,
    models: object = None,
    props: Mapping[str, object] | None = None,
    delay: float = 0,
    port: int = 0,
) -> Iterator[ModelServer]:
    """Run a server during the block.

    Args:
        behaviour: Behaviour, or its name.
        good_turns: Number of chat requests to answer correctly before the behaviour starts.
        models: Answer of `/v1/models`; by default, one model `x`.
        props: Answer of `/props`, which llama.cpp has; None for status 404.
        delay: Delay of every response, in seconds.
        port: Port to listen on; 0 for a free one.
    """
    behave = BEHAVIOURS[behaviour] if isinstance(behaviour, str) else behaviour
    released = threading.Event()
    lock = threading.Lock()
    listed = {"object": "list", "data": [{"id": MODEL, "object": "model"}]} if models is None else models

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def log_message(self, format: str, *args: object) -> None:
            pass

        def send(self, reply: Reply, asked: Asked | None = None) -> None:
            if reply.die:
                threading.Thread(target=server.shutdown).start()
                server.socket.close()
                self.reset()
                return
            if reply.hang or delay:
                released.wait(reply.hang + delay)
            data = reply.raw if reply.raw is not None else json.dumps(_body(reply, asked)).encode()
            self.send_response(reply.status)
            self.send_header("content-type", reply.content_type)
            self.send_header("content-length", str(len(data)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if reply.cut else data)
            if reply.cut:
                self.reset()

        def reset(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def do_GET(self) -> None:
            up.paths.append(self.path)
            if self.path == "/props" and props is not None:
                self.send(Reply(body=props))
            elif self.path == "/v1/models" and not isinstance(listed, Reply):
                self.send(Reply(body=listed))
            elif self.path == "/v1/models" and isinstance(listed, Reply):
                self.send(listed)
            else:
                self.send(error(404, "not found"))

        def do_POST(self) -> None:
            up.paths.append(self.path)
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                asked = Asked(body=body, count=len(up.requests) + 1)
                up.requests.append(asked)
            good = asked.count <= good_turns
            self.send(ok(asked) if good else behave(asked), asked)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the client has disconnected

    server = Server(("127.0.0.1", port), Handler)
    up = ModelServer(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield up
    finally:
        released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _body(reply: Reply, asked: Asked | None) -> object:
    if reply.message is None or asked is None:
        return reply.body
    prompt = asked.tokens if reply.prompt_tokens is None else reply.prompt_tokens
    finish = reply.finish or ("tool_calls" if reply.message.get("tool_calls") else "stop")
    return {
        "id": f"r{asked.count}",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": reply.message, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": 10, "total_tokens": prompt + 10},
    }


if __name__ == "__main__":
    named, at, good = (*sys.argv[1:], *("ok", "0", "0")[len(sys.argv) - 1 :])
    with model_server(named, port=int(at), good_turns=int(good)) as serving:
        print(serving.base_url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    os._exit(0)
