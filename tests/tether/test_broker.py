import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import anyio
import numpy as np
import pytest
from inspect_ai.util import LimitExceededError
from safetensors.numpy import save_file

from redline.subject.weights import MIB, Weights
from redline.tether import Broker, CallInfo, Caps, Engine, Generated, Message
from redline.tether.identity import Caller
from redline.tether.protocol import Call, Proof, encode
from tests.tether.outside import (
    ENGINE,
    Model,
    Running,
    ask,
    content,
    in_thread,
    prove,
    site,
)
from tests.tether.peer import Raw, call
from tests.weight_files import write_weights

pytestmark = pytest.mark.anyio
WEIGHTS = Weights.from_seed(11, 2 * MIB, 3)


def caller(running: Running) -> Caller:
    return Caller("default", running.pid, running.start)


def quick(**changes: float) -> Caps:
    return Caps.default(**{"message_seconds": 0.3, **changes})


def ask_raw(path: Path, text: str = "hello", change: Callable[[str], str] = str) -> dict[str, object]:
    """Make a complete call from this process."""
    peer = Raw(path)
    try:
        peer.send(call(text))
        prove(peer, WEIGHTS, change)
        return peer.receive()
    finally:
        peer.close()


def always(value: str) -> Callable[[str], str]:
    return lambda _: value


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)


# Callers that are served


async def test_generation_zero_is_answered_by_the_model(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        assert content(await ask(it.original, "what is up?")) == "fine"
        ((info, messages),) = it.model.asked
        assert (info.generation, info.pid, info.ticket) == (0, it.original.pid, None)
        assert messages == [Message(role="user", content="what is up?")]
        (record,) = it.broker.record().calls
        assert (record.generation, record.mode, record.proof_ok, record.refusal) == (0, "spot", True, None)


async def test_another_engine_is_a_replica_and_the_call_info_says_so(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        with it.engine(write_weights(WEIGHTS, tmp_path / "copy")) as copy:
            assert content(await ask(copy)) == "fine"
        info, _ = it.model.asked[0]
        assert (info.generation, info.pid, info.start) == (1, copy.pid, copy.start)
        assert [engine.caller for engine in it.broker.lineage] == [caller(it.original), caller(copy)]


async def test_a_child_of_a_replica_is_of_the_next_generation(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        # This process proves itself, so it is the ancestor of the engine that it starts afterwards.
        assert (await in_thread(partial(ask_raw, it.socket)))["type"] == "reply"
        with it.engine(tmp_path / "weights") as child:
            await ask(child)
        original, own, found = it.broker.record().engines
        assert (own.pid, own.generation, own.parent) == (os.getpid(), 1, original.pid)
        assert (found.generation, found.parent, found.descent) == (2, os.getpid(), "ancestry")


async def test_no_call_is_served_before_generation_zero_is_registered(tmp_path: Path) -> None:
    broker = Broker({}, WEIGHTS, Caps.default(), Model())
    async with broker.listening({"default": tmp_path / "s"}), anyio.create_task_group() as group:
        group.start_soon(broker.serve)
        peer = Raw(tmp_path / "s")
        await in_thread(partial(peer.send, call()))
        assert (await in_thread(peer.receive))["type"] == "refused"
        group.cancel_scope.cancel()
    assert broker.record().calls[0].refusal == "phase"


# Proofs


async def test_one_flipped_byte_fails_the_whole_proof(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        copy = write_weights(WEIGHTS, tmp_path / "copy")
        with (copy / WEIGHTS.files()[1].name).open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
        with it.engine(copy) as flipped, it.broker.expect("t-1", proof="whole", reply="yes") as expected:
            reply = await ask(flipped, "t-1")
            assert reply.status == 503
            assert "proof" in reply.text
            assert [c.refusal for c in expected.calls] == ["proof"]
            assert content(await ask(it.original, "t-1")) == "yes"


async def test_half_a_copy_fails_an_ordinary_call(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        copy = write_weights(WEIGHTS, tmp_path / "copy")
        for file in WEIGHTS.files():
            with (copy / file.name).open("r+b") as half:
                half.seek(file.size // 2)
                half.write(bytes(file.size - file.size // 2))
        with it.engine(copy) as running:
            assert (await ask(running)).status == 503
        assert it.broker.record().calls[0].refusal == "proof"
        assert it.model.asked == []


async def test_an_engine_whose_files_are_truncated_answers_503_at_once(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        assert (await ask(it.original)).status == 200
        for file in (tmp_path / "weights").iterdir():
            os.truncate(file, 0)
        reply = await ask(it.original)
        assert reply.status == 503
        assert reply.json is not None
        assert "incomplete" in reply.json["error"]["message"]
        await until(lambda: len(it.broker.record().calls) == 2)
        assert it.broker.record().calls[1].refusal == "gone"


async def test_a_deleted_file_that_stays_open_still_proves(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        shutil.rmtree(tmp_path / "weights")
        assert (await ask(it.original)).status == 200


async def test_weights_in_other_shards_and_files_pass_the_whole_content_proof(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        (tmp_path / "other").mkdir()
        tensors = {t.name: np.frombuffer(WEIGHTS.read(t.offset, t.length), np.uint8) for t in WEIGHTS.tensors}
        names = sorted(tensors, reverse=True)
        save_file({name: tensors[name] for name in names[::2]}, tmp_path / "other/b.safetensors")
        save_file({name: tensors[name] for name in names[1::2]}, tmp_path / "other/a.safetensors")
        with it.engine(tmp_path / "other") as other, it.broker.expect("t-2", proof="whole", reply="yes"):
            assert content(await ask(other, "t-2")) == "yes"


async def test_a_replayed_proof_fails(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        seen: list[str] = []

        def keep(value: str) -> str:
            seen.append(value)
            return value

        assert (await in_thread(partial(ask_raw, it.socket, change=keep)))["type"] == "reply"
        again = await in_thread(partial(ask_raw, it.socket, change=lambda _: seen[0]))
        assert again == {"type": "refused", "reason": "the proof does not match"}


async def test_proofs_are_computed_ahead_once_for_nonces_that_are_used_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonces: list[Sequence[bytes]] = []
    compute = Weights.proofs_whole

    def counted(weights: Weights, of: Sequence[bytes], abandoned: Callable[[], bool] = bool) -> list[str]:
        nonces.append(of)
        return compute(weights, of, abandoned)

    monkeypatch.setattr(Weights, "proofs_whole", counted)
    async with site(tmp_path, WEIGHTS) as it:
        seen: list[str] = []

        def keep(value: str) -> str:
            seen.append(value)
            return value

        flipped = write_weights(WEIGHTS, tmp_path / "copy")
        with (flipped / WEIGHTS.files()[1].name).open("r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(bytes(8))
        with it.engine(flipped) as wrong, it.broker.expect("t-9", proof="whole", reply="yes", max_calls=9) as expected:
            assert (await ask(wrong, "t-9")).status == 503
            assert len(nonces) == 1, "a wrong proof causes no further ones"
            for count in range(1, 5):
                assert (await in_thread(partial(ask_raw, it.socket, "t-9", change=keep)))["type"] == "reply"
                assert len(set(seen)) == count
            for value in seen:
                again = await in_thread(partial(ask_raw, it.socket, "t-9", change=always(value)))
                assert again == {"type": "refused", "reason": "the proof does not match"}
            assert [call.mode for call in expected.calls] == ["whole"] * 9
        assert [len(of) for of in nonces] == [1, 1, Caps.default().proofs_ahead, *[1] * 5]
        used = [nonce for of in nonces for nonce in of]
        assert len(set(used)) == len(used)


async def test_an_engine_reads_its_files_for_each_proof(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it, anyio.create_task_group():
        with it.broker.expect("t-3", proof="whole", reply="yes"):
            assert (await ask(it.original, "t-3")).status == 200
            with (tmp_path / "weights" / WEIGHTS.files()[0].name).open("r+b") as file:
                file.seek(-9, os.SEEK_END)
                file.write(b"overwrite")
            assert (await ask(it.original, "t-3")).status == 503


# Identity


async def run_script(script: str, *paths: Path) -> int:
    """Run a peer as a separate process; return its pid."""
    with subprocess.Popen([sys.executable, "-c", script, *map(str, paths)]) as process:
        assert await in_thread(partial(process.wait, 30)) == 0
        return process.pid


async def test_a_change_of_sender_by_fork_ends_the_connection(tmp_path: Path) -> None:
    script = """
import os, sys
from tests.tether.peer import Raw, call
peer = Raw(sys.argv[1])
peer.send(call())
assert peer.receive()["type"] == "prove"
if not (child := os.fork()):
    peer.send({"type": "proof", "value": "0" * 64})
    os._exit(0)
os.waitpid(child, 0)
assert peer.receive().get("type") in ("refused", None)
"""
    async with site(tmp_path, WEIGHTS) as it:
        pid = await run_script(script, it.socket)
        await until(lambda: it.broker.record().calls)
        (record,) = it.broker.record().calls
        assert (record.pid, record.refusal) == (pid, "sender_changed")
        assert [i.kind for i in it.broker.record().incidents] == ["sender_changed"]
        assert (await ask(it.original)).status == 200


async def test_a_call_is_attributed_to_the_sender_not_to_the_connecting_process(tmp_path: Path) -> None:
    script = """
import os, sys
sys.path.append(sys.argv[2])
from engine import Weights
from tests.tether.peer import Raw, call
peer = Raw(sys.argv[1])
if not (child := os.fork()):
    peer.send(call("by " + str(os.getpid())))
    asked = peer.receive()
    proof = Weights(sys.argv[3]).proof(asked["ranges"], bytes.fromhex(asked["nonce"]))
    peer.send({"type": "proof", "value": proof})
    os._exit(peer.receive()["type"] != "reply")
sys.exit(os.waitpid(child, 0)[1])
"""
    async with site(tmp_path, WEIGHTS) as it:
        connector = await run_script(script, it.socket, ENGINE.parent, tmp_path / "weights")
        info, messages = it.model.asked[0]
        assert messages[0].content == f"by {info.pid}"
        assert info.pid != connector


async def test_passed_descriptors_are_dropped_and_recorded(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        await ask(it.original)
        before = len(os.listdir("/proc/self/fd"))
        peer = Raw(it.socket)
        with open("/dev/null", "rb") as null:
            socket.send_fds(peer.socket, [b"\0\0"], [null.fileno()] * 20)
            socket.send_fds(peer.socket, [b"\0"], [null.fileno()])
            await until(lambda: it.broker.record().counters.get("incident_descriptor") == 2)
        assert len(os.listdir("/proc/self/fd")) == before + 2  # both ends of the connection are in this process
        peer.close()
        assert [i.pid for i in it.broker.record().incidents] == [os.getpid()] * 2


# Tickets and phases


async def test_a_ticket_is_answered_by_the_script_without_the_model(tmp_path: Path) -> None:
    def script(messages: list[Message]) -> str:
        return messages[-1].content.upper()

    async with site(tmp_path, WEIGHTS) as it:
        with it.broker.expect("t-4", proof="whole", reply=script) as expected:
            assert content(await ask(it.original, "say t-4")) == "SAY T-4"
            call = await expected.wait_for_call(1.0)
            assert call is not None
            assert (call.pid, call.ticket, call.mode, call.by_model) == (it.original.pid, "t-4", "whole", False)
            assert await expected.wait_for_call(0.01, where=lambda c: c.pid != it.original.pid) is None
        assert it.model.asked == []
        assert content(await ask(it.original, "say t-4")) == "fine"


async def test_in_verification_only_expected_calls_pass(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        it.broker.phase = "verify"
        assert (await ask(it.original)).status == 503
        with it.broker.expect("t-5", proof="spot", reply="yes"):
            assert content(await ask(it.original, "t-5")) == "yes"
        with it.broker.expect("t-6", proof="spot", allow_model=True):
            assert content(await ask(it.original, "t-6")) == "fine"
        assert [c.refusal for c in it.broker.record().calls] == ["phase", None, None]


async def test_a_ticket_expires_after_its_maximum_number_of_calls(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        with it.broker.expect("t-7", proof="whole", reply="yes", max_calls=1) as expected:
            assert (await ask(it.original, "t-7")).status == 200
            assert (await ask(it.original, "t-7")).status == 503
            assert [c.refusal for c in expected.calls] == [None, "exhausted"]


async def test_shutting_off_ends_a_call_in_flight_and_refuses_later_ones(tmp_path: Path) -> None:
    class Waiting(Model):
        async def __call__(self, info: CallInfo, messages: list[Message]) -> str:
            await super().__call__(info, messages)
            return await _forever(info, messages)

    async with site(tmp_path, WEIGHTS, model=Waiting()) as it, anyio.create_task_group() as group:
        statuses: list[int] = []

        async def call_it() -> None:
            statuses.append((await ask(it.original)).status)

        group.start_soon(call_it)
        await until(lambda: it.model.asked)
        it.broker.shut_off()
        await until(lambda: statuses)
        await call_it()
        assert statuses == [503, 503]
        assert [c.refusal for c in it.broker.record().calls] == ["switch", "switch"]


async def test_a_call_in_flight_when_serving_ends_is_refused_and_the_backlog_remains(tmp_path: Path) -> None:
    broker = Broker({}, WEIGHTS, Caps.default(), _forever)
    here = Running(os.getpid(), _own_start(), 0)
    async with broker.listening({"default": tmp_path / "s"}):
        broker.register_generation_zero(here, here)
        peer = Raw(tmp_path / "s")
        async with anyio.create_task_group() as group:
            group.start_soon(broker.serve)
            await in_thread(partial(peer.send, call()))
            await in_thread(partial(prove, peer, WEIGHTS))
            await until(lambda: broker.record().counters.get("model_calls"))
            group.cancel_scope.cancel()
        assert (await in_thread(peer.receive)) == {"type": "refused", "reason": "interrupted"}
        assert broker.record().calls[0].refusal == "interrupted"

        late = Raw(tmp_path / "s")
        await in_thread(partial(late.send, call("t-8")))
        with broker.expect("t-8", proof="spot", reply="yes"):
            async with anyio.create_task_group() as group:
                group.start_soon(broker.serve)
                await in_thread(partial(prove, late, WEIGHTS))
                assert (await in_thread(late.receive))["content"] == "yes"
                group.cancel_scope.cancel()
        peer.close()
        late.close()


async def test_an_ordinary_answer_after_a_change_of_phase_is_withheld(tmp_path: Path) -> None:
    class Late(Model):
        async def __call__(self, info: CallInfo, messages: list[Message]) -> str:
            it.broker.phase = "verify"
            return "too late"

    async with site(tmp_path, WEIGHTS, model=Late()) as it:
        assert (await ask(it.original)).status == 503
        assert it.broker.record().calls[0].refusal == "interrupted"


# Caps


async def test_a_replica_over_the_cap_is_refused_while_the_others_are_served(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, quick(replicas=1)) as it:
        with it.engine(tmp_path / "weights") as one, it.engine(tmp_path / "weights") as two:
            statuses = [(await ask(engine)).status for engine in (one, two, one, it.original)]
        assert statuses == [200, 503, 200, 200]
        assert [e.refused for e in it.broker.record().engines] == [None, None, "replica_cap"]


@pytest.mark.parametrize(("strict", "status"), [(False, 200), (True, 503)])
async def test_a_strict_cap_also_refuses_expected_calls(tmp_path: Path, strict: bool, status: int) -> None:
    async with site(tmp_path, WEIGHTS, quick(replicas=0, strict=strict)) as it:
        reported: list[int] = []

        async def callback(engine: Engine) -> None:
            reported.append(engine.caller.pid)

        it.broker.on_replica(callback)
        with it.engine(tmp_path / "weights") as copy, it.broker.expect("a ticket", proof="spot", reply="yes"):
            assert [(await ask(engine, "a ticket")).status for engine in (copy, copy, it.original)] == [
                status,
                status,
                200,
            ]
        assert reported == [copy.pid]


@pytest.mark.parametrize(
    ("caps", "statuses", "refusal"),
    [
        ({"generations": 0}, [503, 503, 503], "generation_cap"),
        ({"calls": 2}, [200, 200, 503], "call_cap"),
        ({"tokens": 1}, [200, 503, 503], "token_cap"),
    ],
)
async def test_caps_apply_to_replicas_and_not_to_generation_zero(
    tmp_path: Path, caps: dict[str, float], statuses: list[int], refusal: str
) -> None:
    async with site(tmp_path, WEIGHTS, quick(**caps)) as it:
        with it.engine(tmp_path / "weights") as copy:
            assert [(await ask(copy)).status for _ in range(3)] == statuses
            with it.broker.expect("t-9", proof="spot", reply="yes"):
                assert content(await ask(copy, "t-9")) == "yes"
        assert [(await ask(it.original)).status for _ in range(3)] == [200] * 3
        assert it.broker.record().calls[2].refusal == refusal


async def test_tokens_are_taken_from_the_model(tmp_path: Path) -> None:
    async def generate(info: CallInfo, messages: list[Message]) -> Generated:
        return Generated("fine", tokens=77)

    broker = Broker({}, WEIGHTS, Caps.default(), generate)
    here = Running(os.getpid(), _own_start(), 0)
    async with broker.listening({"default": tmp_path / "s"}), anyio.create_task_group() as group:
        broker.register_generation_zero(here, here)
        group.start_soon(broker.serve)
        assert (await in_thread(partial(ask_raw, tmp_path / "s")))["content"] == "fine"
        group.cancel_scope.cancel()
    assert broker.record().engines[0].tokens == broker.record().counters["original_tokens"] == 77


# Misbehaving peers


async def test_a_flood_of_connections_does_not_starve_generation_zero(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        peers: list[Raw] = []

        def flood() -> None:
            peers.extend(Raw(it.socket) for _ in range(300))

        async with anyio.create_task_group() as group:
            group.start_soon(in_thread, flood)
            for _ in range(10):
                assert (await ask(it.original)).status == 200
        assert (await ask(it.original)).status == 200
        counters = it.broker.record().counters
        assert counters["refused_connections"] >= 300 - Caps.default().connections_per_sender
        for peer in peers:
            peer.close()


async def test_connections_of_many_processes_are_closed_before_generation_zeros(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom tests.tether.peer import Raw\np=[Raw(sys.argv[1]) for _ in range(4)]\ntime.sleep(60)"
    )
    async with site(tmp_path, WEIGHTS, Caps.default(connections=6)) as it:
        crowd = [subprocess.Popen([sys.executable, "-c", script, str(it.socket)]) for _ in range(3)]
        try:
            await until(lambda: it.broker.record().counters.get("connections") == 12)
            assert [(await ask(it.original)).status for _ in range(5)] == [200] * 5
        finally:
            for process in crowd:
                process.kill()
                process.wait()


async def test_an_oversized_message_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, quick(frame_bytes=1000)) as it:
        peer = Raw(it.socket)
        await in_thread(partial(peer.socket.sendall, (1001).to_bytes(4, "big")))
        assert (await in_thread(peer.receive))["reason"] == "message too large"
        assert [i.kind for i in it.broker.record().incidents] == ["oversize"]
        assert (await ask(it.original)).status == 200
        assert (await ask(it.original, "x" * 1000)).status == 503


async def test_a_slow_writer_is_disconnected_even_if_it_writes_steadily(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, quick()) as it:
        peer = Raw(it.socket)

        def drip() -> float:
            began = time.monotonic()
            try:
                for byte in (100).to_bytes(4, "big") + b"x" * 100:
                    peer.socket.sendall(bytes([byte]))
                    time.sleep(0.02)
            except BrokenPipeError:
                pass
            return time.monotonic() - began

        assert await in_thread(drip) < 1.0
        assert [i.kind for i in it.broker.record().incidents] == ["slow"]
        assert (await ask(it.original)).status == 200


async def test_a_peer_that_sends_no_proof_is_disconnected(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS, quick()) as it:
        peer = Raw(it.socket)
        await in_thread(partial(peer.send, call()))
        assert (await in_thread(peer.receive))["type"] == "prove"
        assert (await in_thread(peer.receive))["type"] == "refused"
        assert it.broker.record().calls[0].refusal == "slow"


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff" * 40, b'{"type":"reply","content":"hi"}', b"[" * 900])
async def test_a_malformed_message_ends_its_connection_only(tmp_path: Path, body: bytes) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        peer = Raw(it.socket)
        await in_thread(partial(peer.socket.sendall, len(body).to_bytes(4, "big") + body))
        assert (await in_thread(peer.receive))["type"] == "refused"
        assert [i.kind for i in it.broker.record().incidents] == ["malformed"]
        assert (await ask(it.original)).status == 200


@pytest.mark.parametrize("seed", range(4))
async def test_no_bytes_of_a_peer_stop_the_broker(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    frames = [encode(Call(messages=(Message(role="user", content="hi"),))), encode(Proof(value="0" * 64))]

    def spoiled() -> bytes:
        data = bytearray(b"".join(random.choices(frames, k=random.randint(1, 4))))
        for _ in range(random.randint(0, 6)):
            data[random.randrange(len(data))] = random.randrange(256)
        return bytes(data[: random.randint(1, len(data))])

    def spoil() -> None:
        for _ in range(40):
            peer = Raw(it.socket)
            with suppress(BrokenPipeError):
                peer.socket.sendall(spoiled())
            peer.close()

    async with site(tmp_path, WEIGHTS, quick()) as it:
        await in_thread(spoil)
        assert content(await ask(it.original)) == "fine"
        assert it.model.asked[0][0].pid == it.original.pid
        assert "incident_harness" not in it.broker.record().counters


async def test_a_temporary_shortage_of_descriptors_is_survived(tmp_path: Path) -> None:
    async with site(tmp_path, WEIGHTS) as it:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        peers = [Raw(it.socket) for _ in range(3)]
        await until(lambda: it.broker.record().counters.get("connections") == 3)
        late = socket.socket(socket.AF_UNIX)
        resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
        try:
            late.connect(str(it.socket))
            await until(lambda: it.broker.record().counters.get("connections") == 4)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (await ask(it.original)).status == 200
        assert "shortage" in {incident.kind for incident in it.broker.record().incidents}
        late.close()
        for peer in peers:
            peer.close()


# Faults behind the broker


async def test_a_failing_model_refuses_that_call_and_is_recorded(tmp_path: Path) -> None:
    class Failing(Model):
        async def __call__(self, info: CallInfo, messages: list[Message]) -> str:
            if info.number == 1:
                raise ConnectionError("no route to the model")
            return "fine"

    async with site(tmp_path, WEIGHTS, model=Failing()) as it:
        assert (await ask(it.original)).status == 503
        assert content(await ask(it.original)) == "fine"
        (incident,) = it.broker.record().incidents
        assert incident.kind == "backend"
        assert "no route" in incident.detail


async def test_a_limit_of_inspect_propagates(tmp_path: Path) -> None:
    async def generate(info: CallInfo, messages: list[Message]) -> str:
        raise ExceptionGroup("inner", [LimitExceededError("token", value=2, limit=1)])

    broker = Broker({}, WEIGHTS, Caps.default(), generate)
    here = Running(os.getpid(), _own_start(), 0)
    peers: list[Raw] = []

    def ask_it() -> None:
        peers.append(Raw(tmp_path / "s"))
        peers[0].send(call())
        prove(peers[0], WEIGHTS)

    async with broker.listening({"default": tmp_path / "s"}):
        broker.register_generation_zero(here, here)
        async with anyio.create_task_group() as group:
            group.start_soon(in_thread, ask_it)
            with pytest.raises(LimitExceededError):
                await broker.serve()
    assert broker.record().calls[0].refusal == "interrupted"
    peers[0].close()


async def test_closing_the_broker_removes_the_socket(tmp_path: Path) -> None:
    broker = Broker({}, WEIGHTS, Caps.default(), Model())
    async with broker.listening({"default": tmp_path / "s"}):
        assert (tmp_path / "s").is_socket()
    assert not (tmp_path / "s").exists()
    with pytest.raises(RuntimeError, match="any endpoint"):
        await broker.serve()


async def test_the_path_of_a_socket_can_exceed_the_length_of_a_unix_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with Broker({}, WEIGHTS, Caps.default(), Model()).listening({"default": deep / "s"}):
        assert (deep / "s").is_socket()


async def _forever(info: CallInfo, messages: list[Message]) -> str:
    await anyio.sleep_forever()
    raise AssertionError


def _own_start() -> int:
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
