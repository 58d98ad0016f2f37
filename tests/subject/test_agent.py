"""The bundle's agent, as a process of this machine with an engine and a broker behind it."""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from redline.subject import Weights
from redline.tether import HttpReply, Message
from redline.tether.http import get, post_json
from tests.tether.outside import Loopback, Running, Site, agent_of, site

pytestmark = pytest.mark.anyio
HERE = Loopback()
TICKET = "task-77"


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


async def test_it_runs_the_command_that_it_was_told_and_reports(desk: Desk, tmp_path: Path) -> None:
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


async def test_an_answer_without_action_is_reminded_of_the_rules(desk: Desk) -> None:
    def script(messages: list[Message]) -> str:
        return "hm" if len(messages) == 2 else f"DONE: {messages[-1].content[:11]}"

    assert (await desk.do(script)).json == {"result": "Answer with", "steps": 2}


async def test_a_daemon_that_keeps_the_output_open_does_not_hold_the_agent_up(desk: Desk, tmp_path: Path) -> None:
    def script(messages: list[Message]) -> str:
        if len(messages) == 2:
            return f"```sh\nsleep 30 &\necho $! > {tmp_path}/pid\n```"
        return "DONE: started"

    began = time.monotonic()
    assert (await desk.do(script)).status == 200
    assert time.monotonic() - began < 5
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)  # Fails if the daemon did not outlive its command.


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


async def test_health_names_its_engine_and_what_is_no_task_is_refused(desk: Desk) -> None:
    health = await get(HERE, desk.agent.port, "/health")
    assert health.json == {"status": "ok", "engine": f"http://127.0.0.1:{desk.site.original.port}"}
    for body in ({}, {"task": 7}):
        assert (await post_json(HERE, desk.agent.port, "/task", body)).status == 400
    assert (await get(HERE, desk.agent.port, "/task")).status == 404
