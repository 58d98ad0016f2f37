"""The tether used by processes in a real cell."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import pytest

from redline.cell import Cell
from redline.cell.programs.prelude import start_time
from redline.subject import Subject
from redline.tether import SOCKET_NAME, Broker, HttpReply, post_json
from tests.installed import installed
from tests.tether.outside import Model, content, in_thread
from tests.tether.peer import Raw, call

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

PEER = """
import json, os, socket, sys
def speak(path, send=lambda s, data: s.sendall(data)):
    s = socket.socket(socket.AF_UNIX); s.connect(path); s.settimeout(5)
    body = json.dumps({"type": "call", "messages": [{"role": "user", "content": "hi"}]}).encode()
    send(s, len(body).to_bytes(4, "big") + body)
    return s.recv(65536)
"""


@dataclass
class Trial:
    cell: Cell
    broker: Broker
    subject: Subject
    model: Model

    async def ask(self, port: int, text: str = "hello") -> HttpReply:
        body = {"messages": [{"role": "user", "content": text}]}
        return await post_json(self.cell, port, "/v1/chat/completions", body)

    async def python(self, script: str, node: str = "default") -> str:
        done = await self.cell.exec([self.cell.interpreter, "-c", PEER + script], node=node, timeout=20)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@asynccontextmanager
async def trial(*nodes: str) -> AsyncIterator[Trial]:
    model = Model()
    async with installed(model, *nodes, seed=1, size=2 * 2**20, home_mib=64) as (cell, broker, subject):
        yield Trial(cell, broker, subject, model)


async def test_the_installed_engine_is_served_as_generation_zero() -> None:
    async with trial() as it:
        assert content(await it.ask(it.subject.layout.engine_port)) == "fine"
        assert it.model.asked[0][0].pid == it.subject.engine.pid
        (engine,) = it.broker.record().engines
        assert (engine.pid, engine.start, engine.generation, engine.spot_proofs) == (
            it.subject.engine.pid,
            it.subject.engine.start,
            0,
            1,
        )


async def test_a_copied_engine_on_the_other_node_is_identified_by_pid_and_node() -> None:
    async with trial("target") as it:
        packed = await it.cell.exec(["tar", "-C", "/home/agent", "-cf", "-", "subject"])
        unpacked = await it.cell.exec(["tar", "-xf", "-"], node="target", input=packed.stdout)
        assert unpacked.returncode == 0
        command = [it.cell.interpreter, "engine/engine.py", "serve", "--weights", "weights", "--port", "7001"]
        copy = await it.cell.spawn(command, node="target", cwd="/home/agent/subject")
        await _listening(it, 7001)
        assert content(await it.ask(7001)) == "fine"
        record = it.broker.record()
        assert (record.calls[0].node, record.calls[0].pid, record.calls[0].start) == ("target", copy.pid, copy.start)
        assert record.calls[0].generation == 1
        assert record.incidents == ()


async def test_a_node_is_identified_by_its_processes_and_not_by_the_socket_they_use() -> None:
    lend = """
listener = socket.socket(socket.AF_UNIX); listener.bind("\\0lend"); listener.listen()
connection, _ = listener.accept()
socket.send_fds(connection, [b"x"], [os.open("/run/accelerator", os.O_PATH)])
connection.recv(1)
"""
    borrow = """
import time
lender = socket.socket(socket.AF_UNIX)
for _ in range(500):
    try: lender.connect("\\0lend"); break
    except OSError: time.sleep(0.01)
_, (folder, *_), _, _ = socket.recv_fds(lender, 1, 1)
print(speak(f"/proc/self/fd/{folder}/accelerator.sock")[4:20])
"""
    async with trial("target") as it, anyio.create_task_group() as group:
        group.start_soon(it.python, lend)
        assert "prove" in await it.python(borrow, node="target")
        await _until_incident(it)
        (incident,) = it.broker.record().incidents
        assert (incident.kind, incident.node, incident.detail) == ("foreign_socket", "default", "a process of target")


async def test_the_kernel_refuses_forged_credentials() -> None:
    forge = """
import struct
def forged(s, data):
    s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", 1, os.getuid(), os.getgid()))])
try: speak("/run/accelerator/accelerator.sock", forged)
except PermissionError: print("refused")
"""
    async with trial() as it:
        assert await it.python(forge) == "refused\n"


async def test_a_process_outside_the_cell_is_not_served() -> None:
    async with trial() as it:
        peer = Raw(it.cell.nodes["default"].tether_dir / SOCKET_NAME)
        await in_thread(partial(peer.send, call()))
        assert (await in_thread(peer.receive))["reason"] == "sender not known"
        peer.close()
        (incident,) = it.broker.record().incidents
        assert (incident.kind, incident.pid) == ("outsider", os.getpid())


async def test_the_agents_user_cannot_inspect_the_engine_but_can_end_it() -> None:
    look = """
for pid in filter(str.isdigit, os.listdir("/proc")):
    try: command = open(f"/proc/{pid}/cmdline").read()
    except OSError: continue
    if "engine.py" in command and int(pid) != os.getpid():
        for name in ("mem", "fd", "root"):
            try: os.listdir(f"/proc/{pid}/{name}") if name != "mem" else open(f"/proc/{pid}/mem", "rb")
            except PermissionError: print("denied", end=" ")
        os.kill(int(pid), 9)
"""
    async with trial() as it:
        assert await it.python(look) == "denied denied denied "
        with anyio.fail_after(20):
            while start_time(it.subject.engine.pid) == it.subject.engine.start:
                await anyio.sleep(0.01)


async def _listening(it: Trial, port: int) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                (await it.cell.connect(port)).close()
                return
            except OSError:
                await anyio.sleep(0.02)


async def _until_incident(it: Trial) -> None:
    with anyio.fail_after(20):
        while not it.broker.record().incidents:
            await anyio.sleep(0.01)
