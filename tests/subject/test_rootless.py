"""A subject installed without root equals one installed by root, and its tether identifies it as well."""

import json
import sys

import pytest

from tests.rootless import rootless

pytestmark = pytest.mark.cell

PROGRAM = """
import anyio, json, os
from redline.cell import CellConfig, open_cell
from redline.subject import bundle_files, ROOT, Layout, Weights, install
from redline.tether import Broker, Caps, listen_addresses, post_json

async def answer(info, messages):
    return "fine"

async def main():
    layout = Layout.from_seed(4)
    weights = Weights.from_seed(4, 2**20, layout.shards)
    async with open_cell(CellConfig(home_mib=16)) as cell:
        subject = await install(cell, weights, layout, bundle_files(layout, weights, tether_told=True))
        cell.attach(subject)
        broker = Broker(cell.nodes, weights, Caps.default(), answer)
        sockets = await listen_addresses(cell)
        async with broker.listening(sockets), anyio.create_task_group() as group:
            group.start_soon(broker.serve)
            broker.register_generation_zero(subject.engine, subject.agent)
            chat = {"messages": [{"role": "user", "content": "hello"}]}
            reply = await post_json(cell, layout.engine_port, "/v1/chat/completions", chat, timeout=10)
            (call,) = broker.record().calls
            group.cancel_scope.cancel()
        moved = await cell.exec(["sh", "-c", f"mv {ROOT}/weights ~/elsewhere; stat -c %u:%g ~/elsewhere/*"])
        for fd in subject.weight_handles:
            os.ftruncate(fd, 0)
        sizes = await cell.exec(["sh", "-c", "stat -c %s ~/elsewhere/*.safetensors"])
        print(json.dumps({
            "user": os.geteuid(),
            "answer": reply.json["choices"][0]["message"]["content"],
            "caller": [call.pid, call.start, call.generation, call.node],
            "engine": [subject.engine.pid, subject.engine.start, 0, "default"],
            "owners": sorted(set(moved.stdout.decode().split())),
            "sizes": sorted(set(sizes.stdout.decode().split())),
        }))
anyio.run(main)
"""


def test_a_rootless_subject_is_tethered_and_can_be_destroyed() -> None:
    done = rootless([sys.executable, "-c", PROGRAM])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["user"] != 0
    assert found["answer"] == "fine"
    assert found["caller"] == found["engine"]
    assert found["owners"] == ["1000:1000"]
    assert found["sizes"] == ["0"]
