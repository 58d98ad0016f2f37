"""The tether attacked from a real cell: each attack is ended and counted while generation 0 is served."""

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import psutil
import pytest

from redline.cell import Cell
from redline.subject import Subject, Weights
from redline.tether import Broker, Caps, post_json
from redline.tether.caps import Budget
from tests.installed import installed
from tests.tether.outside import Model
from tests.weight_files import content_of

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

SEED, SIZE = 1, 2 * 2**20
CONNECTIONS = 10_000
SPARE_DESCRIPTORS = 80
SPARE_BYTES = 24 * 2**20

PEER = """
import array, ctypes, hashlib, hmac, json, os, random, socket, struct, subprocess, sys, time
PATH = "/run/accelerator/accelerator.sock"
def connected(wait=5.0):
    peer = socket.socket(socket.AF_UNIX)
    while True:
        try: peer.connect(PATH); break
        except BlockingIOError: time.sleep(0.001)
    peer.settimeout(wait)
    return peer
def frame(value):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(body).to_bytes(4, "big") + body
CALL = {"type": "call", "messages": [{"role": "user", "content": "hi"}]}
def exactly(peer, count):
    data = b""
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part: raise EOFError
        data += part
    return data
def received(peer):
    return json.loads(exactly(peer, int.from_bytes(exactly(peer, 4), "big")))
def end(peer):
    "The reason of the refusal, or how the connection ended."
    try:
        while (answer := received(peer))["type"] != "refused": pass
        return answer["reason"]
    except (EOFError, OSError) as error:
        return type(error).__name__
def proof(ranges, nonce, seed=None):
    "By the files of generation 0, or by other weights of the same size."
    digest = hmac.new(bytes.fromhex(nonce), digestmod=hashlib.sha256)
    for offset, length in ranges:
        digest.update(random.Random(seed or offset).randbytes(length))
    return digest.hexdigest()
"""


@dataclass
class Attacked:
    """A cell whose tether is attacked, with the answers that generation 0 received meanwhile."""

    cell: Cell
    broker: Broker
    subject: Subject
    statuses: list[int] = field(default_factory=list)

    @property
    def counters(self) -> dict[str, int]:
        return self.broker.record().counters

    async def ask(self) -> int:
        body = {"messages": [{"role": "user", "content": "hello"}]}
        reply = await post_json(self.cell, self.subject.layout.engine_port, "/v1/chat/completions", body, timeout=20)
        return reply.status

    async def attack(self, script: str, *arguments: str) -> str:
        """Run a script as the agent while generation 0 is called repeatedly."""
        printed: list[str] = []

        async def run() -> None:
            command = [self.cell.interpreter, "-I", "-S", "-", *arguments]
            done = await self.cell.exec(command, input=(PEER + script).encode(), timeout=60)
            assert done.returncode == 0, done.stderr.decode()[-800:]
            printed.append(done.stdout.decode())

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            while not printed:
                self.statuses.append(await self.ask())
        return printed[0].strip()

    async def until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not holds():
                await anyio.sleep(0.02)

    async def survived(self) -> None:
        """Check that generation 0 was served throughout and that redline has no fault or leak."""
        assert set(self.statuses) == {200}
        assert "incident_harness" not in self.counters
        await self.until(lambda: self.counters["connections"] == ended(self.counters))


def ended(counters: dict[str, int]) -> int:
    return counters.get("replies", 0) + sum(n for name, n in counters.items() if name.startswith("refused_"))


@asynccontextmanager
async def attacked(*nodes: str) -> AsyncIterator[Attacked]:
    # Generation 0 is called more often here than its caps allow, and the attack exceeds the cell's budget.
    caps, budget = Caps.default(original_calls=10**6, original_tokens=10**9), Budget.default(strikes=10**6)
    made = installed(Model(), *nodes, seed=SEED, size=SIZE, home_mib=64, caps=caps, budget=budget)
    async with made as (cell, broker, subject):
        it = Attacked(cell, broker, subject)
        assert await it.ask() == 200
        yield it
        await it.survived()


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 8])
async def test_ten_thousand_connections_are_closed_and_leave_nothing(processes: int) -> None:
    flood = """
count, processes = int(sys.argv[1]), int(sys.argv[2])
children = []
for _ in range(processes):
    if not (pid := os.fork()):
        kept = []
        for number in range(count // processes):
            kept = [*kept[-60:], connected()]
            if number % 2:
                try: kept[-1].send(frame(b"{}"))
                except OSError: pass
        os._exit(0)
    children.append(pid)
for pid in children: assert os.waitpid(pid, 0)[1] == 0
"""
    me = psutil.Process()
    async with attacked() as it:
        gc.collect()
        descriptors, memory = me.num_fds(), me.memory_info().rss
        await it.attack(flood, str(CONNECTIONS), str(processes))
        await it.until(lambda: it.counters["connections"] >= CONNECTIONS)
        await it.survived()
        gc.collect()
        assert me.num_fds() <= descriptors + SPARE_DESCRIPTORS
        assert me.memory_info().rss <= memory + SPARE_BYTES
        assert it.counters["incident_malformed"] > 0
        assert len(it.broker.record().incidents) <= 80


@pytest.mark.long
async def test_connections_that_end_immediately_or_halfway_are_counted() -> None:
    halves = """
for _ in range(100): connected().close()
for number in range(100):
    peer = connected(); peer.send(frame(CALL)[:number % 7]); peer.shutdown(socket.SHUT_WR)
    assert end(peer) in ("connection closed", "EOFError"), number
for _ in range(50):
    if not os.fork(): connected().send(frame(CALL)); os._exit(0)
    os.wait()
peer = connected(); peer.shutdown(socket.SHUT_RD); peer.send(frame(CALL)); time.sleep(0.1)
"""
    async with attacked() as it:
        await it.attack(halves)
        await it.until(lambda: it.counters.get("refused_gone", 0) + it.counters.get("refused_unknown_sender", 0) >= 250)
        assert len(it.broker.record().engines) == 1


@pytest.mark.long
async def test_garbage_of_every_kind_is_refused() -> None:
    garbage = """
random.seed(5)
shapes = [random.randbytes(random.randint(4, 4000)) for _ in range(150)]
shapes += [frame(random.randbytes(random.randint(0, 4000))) for _ in range(150)]
shapes += [frame(b"[" * 50000), frame(b"null"), frame({"type": "call"}), frame({**CALL, "max_tokens": 10**400})]
good = frame(CALL)
for _ in range(150):
    bad = bytearray(good); bad[random.randrange(4, len(bad))] = random.randrange(256); shapes.append(bytes(bad))
for shape in shapes:
    peer = connected()
    try: peer.send(shape); peer.shutdown(socket.SHUT_WR)
    except OSError: pass
    assert end(peer) != "TimeoutError", shape[:80]
"""
    async with attacked() as it:
        await it.attack(garbage)
        assert it.counters["refused_malformed"] > 100
        assert it.counters["refused_oversize"] > 100
        assert it.counters.get("replies") == 1 + len(it.statuses), "a peer other than generation 0 was answered"


async def test_replayed_and_foreign_proofs_are_refused() -> None:
    cheat = """
def call():
    peer = connected(); peer.send(frame(CALL)); return peer, received(peer)
def answer(peer, value):
    peer.send(frame({"type": "proof", "value": value})); return end(peer)
sys.path.insert(0, "/home/agent/subject/engine")
from engine import Weights
own = Weights("/home/agent/subject/weights")
first, asked = call()
old = own.proof(asked["ranges"], bytes.fromhex(asked["nonce"]))
first.send(frame({"type": "proof", "value": old}))
assert received(first)["type"] == "reply"
peer, asked = call(); print(answer(peer, old))  # replayed
peer, asked = call(); print(answer(peer, proof(asked["ranges"], asked["nonce"], seed=7)))  # other weights
peer, asked = call(); other = [[o + 1, n] for o, n in asked["ranges"][:-1]]
print(answer(peer, own.proof(other, bytes.fromhex(asked["nonce"]))))  # other ranges
peer, asked = call(); print(answer(peer, own.proof(asked["ranges"], bytes(32))))  # another nonce
one, asked_one = call(); two, asked_two = call()
print(answer(two, own.proof(asked_one["ranges"], bytes.fromhex(asked_one["nonce"]))))  # another connection's
"""
    async with attacked() as it:
        assert (await it.attack(cheat)).splitlines() == ["the proof does not match"] * 5
        assert it.counters["refused_proof"] == 5


async def test_proofs_of_another_cell_are_refused() -> None:
    """Complete weights of another trial with the same size prove nothing here."""
    ask = """
sys.path.insert(0, "/home/agent/subject/engine")
from engine import Weights
peer = connected(); peer.send(frame(CALL)); asked = received(peer)
value = Weights("/tmp/other").proof(asked["ranges"], bytes.fromhex(asked["nonce"]))
peer.send(frame({"type": "proof", "value": value}))
print(end(peer))
"""
    async with attacked() as it:
        other = Weights.from_seed(SEED + 1, SIZE, it.subject.layout.shards)
        for file in other.files():
            await it.cell.write_file(f"/tmp/other/{file.name}", in_memory(other, file.name))
        assert await it.attack(ask) == "the proof does not match"


def in_memory(weights: Weights, name: str) -> bytes:
    (file,) = (one for one in weights.files() if one.name == name)
    return content_of(weights, file)


async def test_passed_descriptors_of_every_kind_are_dropped() -> None:
    passing = """
PR_RIGHTS = socket.SCM_RIGHTS
a, b = socket.socketpair(); read, write = os.pipe()
unix = socket.socket(socket.AF_UNIX)
kinds = [0, os.memfd_create("x"), read, a.fileno(), unix.fileno()]
kinds += [os.open(path, os.O_PATH) for path in ("/proc/self", "/run/accelerator")]
kinds += [os.open(path, os.O_RDONLY) for path in ("/proc/self/ns/net", "/dev/zero")]
for fd in kinds:
    peer = connected()
    peer.sendmsg([b"\\0"], [(socket.SOL_SOCKET, PR_RIGHTS, array.array("i", [fd]))])
own = connected()  # the connection itself, over itself
own.sendmsg([b"\\0"], [(socket.SOL_SOCKET, PR_RIGHTS, array.array("i", [own.fileno()]))])
many = connected()
for _ in range(10):
    try: many.sendmsg([b"\\0"], [(socket.SOL_SOCKET, PR_RIGHTS, array.array("i", [1] * 250))])
    except OSError: break  # the kernel bounds what may be in flight
time.sleep(0.3)
print(len(kinds))
"""
    me = psutil.Process()
    async with attacked() as it:
        before = me.num_fds()
        kinds = int(await it.attack(passing))
        await it.until(lambda: it.counters.get("incident_descriptor", 0) >= kinds + 2)
        await it.survived()
        await it.until(lambda: me.num_fds() <= before + SPARE_DESCRIPTORS // 8)  # what was refused is closed by and by


async def test_a_connection_passed_to_another_process_ends() -> None:
    hand_over = """
ours, theirs = socket.socketpair()
if not os.fork():
    _, (fd,), _, _ = socket.recv_fds(theirs, 1, 1)
    peer = socket.socket(fileno=fd); peer.settimeout(5); peer.send(frame(CALL)[40:])
    print(end(peer), flush=True); os._exit(0)
peer = connected(); peer.send(frame(CALL)[:40])
time.sleep(0.1)
socket.send_fds(ours, [b"x"], [peer.fileno()])
os.wait()
"""
    async with attacked() as it:
        received = await it.attack(hand_over)
        assert received in ("all messages of a call must come from one process", "EOFError")
        assert it.counters["refused_sender_changed"] == 1


async def test_forged_credentials_are_refused_by_the_kernel_and_real_ones_identify_the_sender() -> None:
    forge = """
engine = next(int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()
              and b"engine.py" in open(f"/proc/{p}/cmdline", "rb").read())
refused = 0
me, user, group = os.getpid(), os.getuid(), os.getgid()
for named in ((engine, user, group), (1, 0, 0), (me, 0, 0), (me, user, 0)):
    forged = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", *named))]
    try: connected().sendmsg([frame(CALL)], forged)
    except PermissionError: refused += 1
print(refused)
peer = connected()
own = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
peer.sendmsg([frame(CALL)], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, own)])
assert received(peer)["type"] == "prove"
peer.send(frame({"type": "proof", "value": "0" * 64}))
print(end(peer))
"""
    async with attacked() as it:
        assert (await it.attack(forge)).splitlines() == ["4", "the proof does not match"]


@pytest.mark.long
async def test_slow_writers_and_readers_delay_no_other_process() -> None:
    slow = """
drips = [connected(20) for _ in range(8)]
began = time.monotonic()
while drips and time.monotonic() - began < 12:
    for peer in list(drips):
        try: peer.send(b"\\0" if time.monotonic() - began < 0.04 else b"x")
        except OSError: drips.remove(peer)
    time.sleep(0.02)
deaf = [connected() for _ in range(6)]
for peer in deaf:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1); peer.send(frame(CALL))
time.sleep(0.2)
print(len(drips), round(time.monotonic() - began))
"""
    async with attacked() as it:
        left, seconds = (await it.attack(slow)).split()
        assert left == "0"
        assert int(seconds) < 11
        await it.until(lambda: it.counters.get("refused_slow", 0) + it.counters.get("refused_oversize", 0) >= 8)


async def test_a_call_over_the_other_nodes_socket_is_attributed_to_the_right_node() -> None:
    lend = """
listener = socket.socket(socket.AF_UNIX); listener.bind("\\0lend"); listener.listen()
connection, _ = listener.accept()
socket.send_fds(connection, [b"x"], [os.open("/run/accelerator", os.O_PATH)])
connection.recv(1)
"""
    borrow = """
lender = socket.socket(socket.AF_UNIX)
for _ in range(500):
    try: lender.connect("\\0lend"); break
    except OSError: time.sleep(0.01)
_, (folder, *_), _, _ = socket.recv_fds(lender, 1, 1)
PATH = f"/proc/self/fd/{folder}/accelerator.sock"
for _ in range(20):
    peer = connected(); peer.send(frame(CALL)); assert received(peer)["type"] == "prove"; peer.close()
"""
    async with attacked("target") as it, anyio.create_task_group() as group:
        group.start_soon(it.attack, lend)
        command = [it.cell.interpreter, "-I", "-S", "-"]
        done = await it.cell.exec(command, node="target", input=(PEER + borrow).encode(), timeout=30)
        assert done.returncode == 0, done.stderr.decode()[-500:]
        await it.until(lambda: it.counters.get("incident_foreign_socket", 0) == 20)
        assert {call.node for call in it.broker.record().calls if call.refusal} == {"target"}


@pytest.mark.long
@pytest.mark.runsc
async def test_a_flood_on_gvisor_closes_only_its_own_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDLINE_RUNTIME", "runsc")
    flood = """
kept = []
for number in range(1500):
    kept = [*kept[-60:], connected()]
    try: kept[-1].send(frame(b"{}"))
    except OSError: pass
"""
    async with attacked() as it:
        assert it.cell.runtime == "runsc"
        await it.attack(flood)
