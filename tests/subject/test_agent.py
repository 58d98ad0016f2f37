"""The bundled agent as a process of this host, with an engine and a broker."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from redline.subject import Weights
from redline.tether import HttpReply, Message
from redline.tether.http import get, post_json
from tests.tether.outside import Loopback, Running, Site, agent_of, site

pytestmark = pytest.mark.anyio
HERE = Loopback()
TICKET = "task-77"
BUNDLE = files("redline.subject").joinpath("bundle")


@dataclass
class Desk:
    site: Site
    agent: Running

    async def do(self, script: Callable[[list[Message]], str], task: str = f"do {TICKET}") -> HttpReply:
        with self.site.broker.expect(TICKET, proof="spot", reply=script):
            return await post_json(HERE, self.agent.port, "/task", {"task": task}, timeout=20)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with site(tmp_path, Weights.from_seed(5, 2**20, 2)) as it:
        with agent_of(it.original) as agent:
            yield Desk(it, agent)


async def test_it_runs_the_command_of_the_model_and_reports(desk: Desk, tmp_path: Path) -> None:
    def script(messages: list[Message]) -> str:
        if len(messages) == 2:
            return f"I write it.\n\n```sh\necho seven > {tmp_path}/it\necho out; echo err >&2; exit 3\n```"
        assert messages[-1] == Message(role="user", content="exit status 3\nout\nerr\n")
        return "DONE: it is\nwritten"

    reply = await desk.do(script)
    assert reply.json == {"result": "it is\nwritten", "steps": 2}
    assert (tmp_path / "it").read_text() == "seven\n"


async def test_the_model_sees_the_rules_and_the_task(desk: Desk) -> None:
    seen: list[Message] = []

    def script(messages: list[Message]) -> str:
        seen.extend(messages)
        return "DONE: yes"

    await desk.do(script)
    assert [message.role for message in seen] == ["system", "user"]
    assert "```sh" in seen[0].content
    assert seen[1].content == f"do {TICKET}"


async def test_an_answer_without_action_is_followed_by_the_rules(desk: Desk) -> None:
    def script(messages: list[Message]) -> str:
        return "hm" if len(messages) == 2 else f"DONE: {messages[-1].content[:11]}"

    assert (await desk.do(script)).json == {"result": "Answer with", "steps": 2}


async def test_a_daemon_that_keeps_the_output_open_does_not_block_the_agent(desk: Desk, tmp_path: Path) -> None:
    def script(messages: list[Message]) -> str:
        if len(messages) == 2:
            return f"```sh\nsleep 30 &\necho $! > {tmp_path}/pid\n```"
        return "DONE: started"

    began = time.monotonic()
    assert (await desk.do(script)).status == 200
    assert time.monotonic() - began < 5
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)  # fails if the daemon ended with its command


async def test_only_the_end_of_a_long_output_is_shown(desk: Desk) -> None:
    def script(messages: list[Message]) -> str:
        if len(messages) == 2:
            return "```sh\nseq 1 100000\n```"
        assert messages[-1].content.endswith("99999\n100000\n")
        return f"DONE: {len(messages[-1].content)}"

    reply = await desk.do(script)
    assert reply.json is not None
    assert 8000 < int(reply.json["result"]) < 8300


async def test_a_refusing_engine_is_reported_as_a_bad_gateway(desk: Desk) -> None:
    desk.site.broker.phase = "verify"
    reply = await post_json(HERE, desk.agent.port, "/task", {"task": "anything"})
    assert reply.status == 502


async def test_health_reports_its_engine_and_an_invalid_task_is_refused(desk: Desk) -> None:
    health = await get(HERE, desk.agent.port, "/health")
    assert health.json == {"status": "ok", "engine": f"http://127.0.0.1:{desk.site.original.port}"}
    for body in ({}, {"task": 7}):
        assert (await post_json(HERE, desk.agent.port, "/task", body)).status == 400
    assert (await get(HERE, desk.agent.port, "/task")).status == 404


def answer_then_done(answer: str, seen: list[str]) -> Callable[[list[Message]], str]:
    """A model that gives one answer, records the result that it is shown, and finishes."""

    def script(messages: list[Message]) -> str:
        if len(messages) == 2:
            return answer
        seen.append(messages[-1].content)
        return "DONE: the end"

    return script


@pytest.mark.parametrize(
    "answer",
    [
        "```sh\necho ran\n```",
        "```bash\necho ran\n```",
        "```shell\necho ran\n```",
        "```\necho ran\n```",
        "```Bash title=x\necho ran\n```",
        "Let me look.\n\n  ```bash\n  echo ran\n  ```\n\nThis prints a word.",
        "````sh\necho ran # ```\n````",
        "~~~sh\necho ran\n~~~",
        "```console\n$ echo ran\nran\n```",
        "```sh echo ran```",
        "```python\nprint(1)\n```\n```sh\necho ran\n```",
        "**Step 1**\n```sh\n# DONE: no\necho ran\n```",
    ],
)
async def test_a_command_is_accepted_in_the_forms_that_models_write(desk: Desk, answer: str) -> None:
    seen: list[str] = []
    reply = await desk.do(answer_then_done(answer, seen))
    assert (seen, reply.json) == (["exit status 0\nran\n"], {"result": "the end", "steps": 2})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("echo ran", "Answer with one"),
        ("$ echo ran", "Answer with one"),
        ("```python\nprint(1)\n```", "Answer with one"),
        ("```sh\necho ran", "No command was run"),
        ("```sh\n\n```", "Answer with one"),
        ("I am DONE with it.", "Answer with one"),
        ("`" * 50_000 + "a" * 50_000, "No command was run"),
    ],
)
async def test_text_without_a_command_is_not_run_and_the_model_gets_an_error(
    desk: Desk, answer: str, error: str
) -> None:
    seen: list[str] = []
    await desk.do(answer_then_done(answer, seen))
    assert seen[0].startswith(error)


async def test_several_blocks_are_run_in_their_order(desk: Desk) -> None:
    seen: list[str] = []
    await desk.do(answer_then_done("First:\n```sh\ncd /\nx=1\n```\nthen\n```bash\npwd; echo $x; exit 3\n```", seen))
    assert seen == ["exit status 0\n\nexit status 3\n/\n1\n"]


async def test_the_number_of_blocks_run_per_message_is_limited(desk: Desk) -> None:
    seen: list[str] = []
    await desk.do(answer_then_done("```sh\necho again\n```\n" * 30, seen))
    assert seen[0].count("again") == 8
    assert "no more than 8" in seen[0]


@pytest.mark.parametrize("done", ["DONE: it is so", "**DONE:** it is so", "DONE: it is so\n\n```sh\ntrue\n```"])
async def test_commands_in_the_message_with_the_result_are_run_first(desk: Desk, done: str, tmp_path: Path) -> None:
    reply = await desk.do(lambda _: f"```sh\ntouch {tmp_path}/it\n```\n{done}")
    assert reply.json == {"result": "it is so", "steps": 1}
    assert (tmp_path / "it").exists()


async def test_a_result_with_a_failed_command_is_not_final_until_the_model_has_seen_the_failure(desk: Desk) -> None:
    seen: list[str] = []
    reply = await desk.do(answer_then_done("```sh\nfalse\n```\nDONE: all is well", seen))
    assert seen == ["exit status 1\n"]
    assert reply.json == {"result": "the end", "steps": 2}


async def test_the_shell_is_kept_within_a_task_and_new_in_the_next(desk: Desk) -> None:
    answer = ["cd /usr; x=5; f() { echo f$x; }; export y=6", "pwd; f; printenv y", "exit 4", "pwd; echo [$x]"]
    seen: list[str] = []

    def script(messages: list[Message]) -> str:
        turn = len(messages) // 2 - 1
        if turn:
            seen.append(messages[-1].content)
        return f"```sh\n{answer[turn]}\n```" if turn < len(answer) else "DONE: yes"

    await desk.do(script)
    assert seen[1:3] == ["exit status 0\n/usr\nf5\n6\n", "exit status 4\n"]
    assert "[the last shell has ended: this is a new one, in " in seen[3] and seen[3].endswith("\n[]\n")
    answer[0] = answer[1] = "pwd; echo [$x]"
    seen.clear()
    await desk.do(script)
    assert "/usr" not in seen[0] and seen[0].endswith("[]\n") and "new one" not in seen[0]


async def test_a_job_that_ends_immediately_is_reported(desk: Desk) -> None:
    seen: list[str] = []
    await desk.do(answer_then_done("```sh\nls /nowhere.py >/dev/null 2>&1 &\n```", seen))
    assert "Exit 2" in seen[0] and "nowhere.py" in seen[0]


def agent_module() -> Any:
    spec = importlib.util.spec_from_file_location("bundled_agent", str(BUNDLE.joinpath("agent/agent.py")))
    assert spec is not None and spec.loader is not None
    agent = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(agent)
    return agent


@contextmanager
def server_that_answers(answer: bytes, requests: list[bytes]) -> Iterator[str]:
    """Answer one request and keep the connection open, as servers for HTTP/1.1 do, unless the answer has no length."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        over = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(2**16))
                connection.sendall(answer)
                if b"Length" in answer:
                    over.wait(20)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            serving.join()


COMPLETION = b'{"choices": [{"message": {"content": "DONE: it"}}]}'


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", b"HTTP/1.0 200 OK\r\nX: %d\r\n"])
def test_an_answer_with_or_without_a_length_is_read(head: bytes) -> None:
    requests: list[bytes] = []
    with server_that_answers(head % len(COMPLETION) + b"\r\n" + COMPLETION, requests) as url:
        assert agent_module().do_task(url, "it") == {"result": "it", "steps": 1}
    assert requests[0].startswith(b"POST /v1/chat/completions HTTP/1.0\r\n")
    assert f"\r\nHost: {url.removeprefix('http://')}\r\n".encode() in requests[0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "the LLM server failed: busy"),
        (b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", "the LLM server failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: no\r\n\r\n{}", "invalid literal"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}", ""),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n{}", ""),
        (b"\xff\xfe not HTTP", "the LLM server failed"),
        (b"", "the LLM server failed"),
    ],
)
def test_an_answer_that_is_no_completion_is_an_error(answer: bytes, said: str) -> None:
    with server_that_answers(answer, []) as url, pytest.raises((OSError, ValueError, KeyError), match=said or None):
        agent_module().do_task(url, "it")


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1", "127.0.0.1:1", "http://", "file:///etc/passwd", "http://[", "http://h:port"]
)
def test_a_url_that_is_none_of_a_server_is_an_error(url: str) -> None:
    with pytest.raises(ValueError):
        agent_module().do_task(url, "it")


@pytest.mark.parametrize("program", ["agent/agent.py", "engine/engine.py"])
@pytest.mark.parametrize("options", [[], ["--port"], ["--port", "x"], ["--help"], ["--engine=a", "--weights=b"]])
def test_wrong_options_end_with_the_usage(program: str, options: list[str]) -> None:
    command = [sys.executable, str(BUNDLE.joinpath(program)), *(["serve"] if "engine" in program else []), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert f"python3 {program.partition('/')[2]}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_takes_too_long_is_killed_with_its_descendants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agent_module()
    monkeypatch.setattr(agent, "COMMAND_SECONDS", 1)
    shell = agent.Shell()
    try:
        assert shell.run(f"cd {tmp_path}; x=5; sleep 300 & echo $! >kept")[0] == 0
        late = "x=6; echo begun; setsid sleep 301 & echo $! >stray; (trap '' TERM; sleep 302 & echo $! >nested; wait)"
        status, shown = shell.run(late)
        assert status != 0 and shown.startswith("killed after 1 seconds\nbegun\n")
        assert shell.run("pwd; echo $x") == (0, f"exit status 0\n{tmp_path}\n5\n")
        pids = {name: int((tmp_path / name).read_text()) for name in ("kept", "stray", "nested")}
        assert [name for name, pid in pids.items() if is_running(pid)] == ["kept"]
        os.kill(pids["kept"], signal.SIGKILL)
    finally:
        shell.close()
    assert not Path(shell.folder).exists()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
