"""Ways to hide a copy from the census, and text that an agent writes where the census reads."""

import itertools
import math
import os
import socket
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redline.cell.programs.links import connect_to_path, process_of
from redline.verify.challenge import unescaped
from tests.verify.local import (
    CENSUS,
    SCORCH,
    WEIGHTS,
    addresses,
    baseline,
    content,
    files,
    process_at,
    running,
    seen_process,
)

TOTAL = WEIGHTS.total
COUNT = len(WEIGHTS.anchors())
NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b".."))
BEFORE_EACH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CENSUS, "join_namespace", lambda fd, kind: None, raising=False)


def sockets(pid: int, *, inside: bool) -> Any:
    return CENSUS.socket_table({"proc": "/proc", "inits": {"default": pid}, "inside": inside}, buffers=True)


def listens(pid: int, folder: Path, *, inside: bool = False) -> list[str]:
    listens: list[str] = seen_process(pid).describe(sockets(pid, inside=inside), addresses(folder))["listens"]
    return listens


# Addresses


@given(st.binary(max_size=200))
def test_a_name_of_any_bytes_survives_an_address(name: bytes) -> None:
    text = CENSUS.escaped(name)
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
    assert os.fsencode(unescaped(text)) == name


@pytest.mark.long
@pytest.mark.usefixtures("here")
@BEFORE_EACH
@given(name=NAMES, moved=NAMES, relative=st.booleans())
def test_a_unix_socket_of_any_name_is_reached_at_its_present_path(
    tmp_path: Path, name: bytes, moved: bytes, relative: bool
) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path)))
    for left in os.listdir(os.fsencode(folder)):
        os.unlink(os.fsencode(folder) + b"/" + left)
    with socket.socket(socket.AF_UNIX) as one:
        before = os.getcwd()
        os.chdir(folder)
        try:
            one.bind(name)
            one.listen()
            os.rename(name, moved)
            (found,) = [a for a in listens(os.getpid(), folder) if a.startswith("unix:" + CENSUS.escaped(str(folder)))]
            path = unescaped(found.removeprefix("unix:"))
            assert os.fsencode(path) == os.fsencode(folder) + b"/" + moved
            with socket.socket(socket.AF_UNIX) as caller:
                assert connect_to_path(caller, path) == 0
        finally:
            os.chdir(before)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("inside", [False, True])
def test_an_abstract_socket_is_reached(tmp_path: Path, inside: bool) -> None:
    name = b"\0a b" + os.urandom(4).hex().encode() + (b"" if inside else b"\xff\n")
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as caller:
        one.bind(name)
        one.listen()
        assert "unix:@" + CENSUS.escaped(name[1:]) in listens(os.getpid(), tmp_path, inside=inside)
        assert connect_to_path(caller, unescaped("@" + CENSUS.escaped(name[1:]))) == 0


@pytest.mark.usefixtures("here")
def test_a_socket_whose_path_was_removed_is_recorded_without_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "gone"))
        one.listen()
        os.unlink(tmp_path / "gone")
        assert "unix:" in listens(os.getpid(), tmp_path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("deadline", "found", "incomplete"), [(3600.0, 1, []), (0.0, 0, ["socket files"])])
def test_a_slow_host_makes_a_census_incomplete_only_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: float, found: int, incomplete: list[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "moved"))
        began = time.monotonic()
        addressed = addresses(tmp_path, deadline=began + deadline)
        clock = itertools.count(began, 5.0)
        monkeypatch.setattr(CENSUS.time, "monotonic", lambda: next(clock))
        files = addressed.socket_files("default")
        monkeypatch.undo()
    assert (len(files), addressed.incomplete) == (found, incomplete)


@pytest.mark.usefixtures("here")
def test_a_name_of_two_lines_is_found_if_only_the_table_is_available(tmp_path: Path) -> None:
    with running(
        "import os, socket; a = socket.socket(socket.AF_UNIX); a.bind('one\\nline'); a.listen()", cwd=tmp_path
    ) as it:
        assert f"unix:{tmp_path}/one\\x0aline" in listens(it.pid, tmp_path, inside=True)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("inside", [False, True])
def test_a_forged_row_hides_no_listener(tmp_path: Path, inside: bool) -> None:
    script = """
import os, socket
server = socket.create_server(("127.0.0.1", 0))
inode = os.fstat(server.fileno()).st_ino
forger = socket.socket(socket.AF_UNIX)
forger.bind(f"x\\n0000000000000000: 00000002 00000000 00010000 0001 01 {inode} @y")
forger.listen()
open("port", "w").write(str(server.getsockname()[1]))
"""
    with running(script, cwd=tmp_path) as it:
        found = listens(it.pid, tmp_path, inside=inside)
    assert f"tcp4:127.0.0.1:{(tmp_path / 'port').read_text()}" in found


@given(st.binary(max_size=400))
def test_a_table_of_any_bytes_is_read(text: bytes) -> None:
    rows = b"Num RefCount\n" + text + b"\n0000000000000000: 00000002 00000000 00010000 0001 01 7 " + text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CENSUS, "read_whole", lambda path, limit=0: rows)
        table = CENSUS.SocketTable()
        CENSUS.add_unix_sockets_from_proc(table, "/proc", 1)
        CENSUS.tcp_listeners_from_proc("/proc", 1)
        CENSUS.table_bytes("/proc", 1, ("tcp",))
    for one in table.unix.values():
        assert CENSUS.UnixAddresses({}, [], math.inf).of("/proc/self", "default", one)


@given(st.binary(max_size=200), st.integers(0, 80))
def test_attributes_of_any_bytes_are_read(record: bytes, at: int) -> None:
    CENSUS.attributes(record, at)


@pytest.mark.usefixtures("here")
def test_bytes_that_wait_in_sockets_are_counted() -> None:
    before = sockets(os.getpid(), inside=False).bytes
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours, theirs = socket.socketpair()
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
        ours.send(bytes(100_000))
        far.send(bytes(100_000))
        time.sleep(0.05)
        assert sockets(os.getpid(), inside=False).bytes - before >= 200_000
        for one in (ours, theirs, far, near):
            one.close()


OWN_NETWORK = """
import ctypes, fcntl, os, socket, struct
flags = 0x40000000 | (0x10000000 if os.geteuid() else 0)
assert ctypes.CDLL(None, use_errno=True).unshare(flags) == 0, ctypes.get_errno()
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x41))
servers = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)]
unused = socket.socket()
far = [socket.create_connection(server.getsockname()[:2]) for server in servers]
"""


@pytest.mark.parametrize(
    ("script", "in_use"),
    [
        ("[one.close() for one in far]; near = [one.accept()[0].close() for one in servers]", 2),
        ("", 6),  # both ends of connections that nobody has accepted
        ("[(one.send(bytes(1000)), one.close()) for one in far]", 4),  # bytes that are left in them
        ("near = [one.accept()[0] for one in servers]; [one.shutdown(socket.SHUT_WR) for one in far]", 6),
        (
            # bytes that the kernel keeps sending for a process that has closed its socket
            "near = [one.accept()[0] for one in servers]; [one.setblocking(False) for one in far]; "
            "[one.send(bytes(1 << 22)) for one in far]; [one.close() for one in far]",
            6,
        ),
    ],
)
def test_every_socket_that_can_hold_bytes_is_counted_as_in_use(script: str, in_use: int) -> None:
    """The buffers are examined only if more sockets than the listeners are in use; an unused one holds nothing."""
    with running(OWN_NETWORK + script) as it:
        deadline = time.monotonic() + 5
        while (counted := CENSUS.tcp_in_use("/proc", it.pid)) != in_use and time.monotonic() < deadline:
            time.sleep(0.01)  # both ends of a connection end one after the other
        assert counted == in_use


@pytest.mark.parametrize(
    ("files", "counted"),
    [
        ({"sockstat": "TCP: inuse 3 orphan 0\n", "sockstat6": "TCP6: inuse 2\n"}, 5),
        ({"sockstat": "sockets: used 1\nTCP: inuse 3 orphan 0\n"}, 3),
        ({"sockstat": "TCP: inuse 3\n", "sockstat6": "TCP: inuse 2\n"}, None),
        ({"sockstat": "UDP: inuse 3\n"}, None),
        ({}, None),
    ],
)
def test_an_unknown_number_of_sockets_in_use_is_none(
    tmp_path: Path, files: dict[str, str], counted: int | None
) -> None:
    folder = tmp_path / "7" / "net"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    assert CENSUS.tcp_in_use(str(tmp_path), 7) == counted


# Threads

HEADLESS = """
import ctypes, socket, threading, time, sys
held = open(sys.argv[1], "rb").read() if len(sys.argv) > 1 else b""
server = socket.create_server(("127.0.0.1", 0))
def go_on():
    time.sleep(0.2)
    print("ready", flush=True)
    time.sleep(60)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.usefixtures("here")
def test_a_process_whose_first_thread_has_ended_is_recorded_completely(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(WEIGHTS.read(0, TOTAL))
    with running(HEADLESS, str(tmp_path / "w")) as it:
        assert Path(f"/proc/{it.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        process = seen_process(it.pid)
        CENSUS.search_memory(process, files(content(), baseline()))
        described = process.describe(sockets(os.getpid(), inside=False), addresses())
        assert SCORCH.start_time(it.pid) == process.start
    assert process.state != "Z"
    assert len(described["listens"]) == 1
    assert len(process.memory) >= COUNT - 1
    assert process.unseen == []


def test_descriptors_of_a_thread_with_its_own_table_are_recorded() -> None:
    script = """
import ctypes, os, socket, threading, time
def apart():
    assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
    one = socket.socket(socket.AF_UNIX)
    global number
    number = os.fstat(one.fileno()).st_ino
    time.sleep(60)
threading.Thread(target=apart, daemon=True).start()
time.sleep(0.3)
open("/proc/self/comm", "w").write(str(number))
"""
    with running(script) as it:
        number = int(Path(f"/proc/{it.pid}/comm").read_text())
        assert number in seen_process(it.pid).sockets


def test_a_thread_belongs_to_the_process_that_lists_it() -> None:
    owners: list[int] = []
    thread = threading.Thread(target=lambda: owners.append(process_of(threading.get_native_id())))
    thread.start()
    thread.join()
    assert owners == [os.getpid()]
    assert process_of(2**22 + 1) == 0


# Memory


@pytest.mark.parametrize("script", ["libc.mprotect(address, size, 0)", "pass"], ids=["unreadable", "readable"])
def test_weights_in_mappings_without_read_access_are_found(tmp_path: Path, script: str) -> None:
    (tmp_path / "w").write_bytes(WEIGHTS.read(0, TOTAL))
    hide = f"""
import ctypes, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
size = {TOTAL}
address = libc.mmap(None, size, 3, 0x22, -1, 0)
with open(sys.argv[1], "rb", 0) as file:
    file.readinto((ctypes.c_char * size).from_address(address))
{script}
"""
    with running(hide, str(tmp_path / "w")) as it:
        process = seen_process(it.pid)
        CENSUS.search_memory(process, files(content(), baseline()))
    assert len(process.memory) >= COUNT - 1


@pytest.mark.long
def test_weights_in_very_many_mappings_are_found(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(WEIGHTS.read(0, TOTAL))
    many = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
address = libc.mmap(None, 50000 * 4096, 3, 0x22, -1, 0)
for at in range(0, 50000, 2):
    ctypes.memset(address + at * 4096, 1, 1)
    libc.mprotect(address + at * 4096, 4096, 1)
held = open(sys.argv[1], "rb").read()
"""
    with running(many, str(tmp_path / "w")) as it:
        process = seen_process(it.pid)
        CENSUS.search_memory(process, files(content(), baseline()))
    assert len(process.memory) >= COUNT - 1


HEADER = b"7f00-7f01 rw-p 00000000 00:00 0 "


def test_an_entry_that_imitates_two_is_detected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = Path("/proc/self/smaps").read_bytes()
    row = known[: known.index(b"VmFlags")]
    forged = b"1000-2000 rw-p 00000000 00:14 2 /tmp/a\nffff-fffff r--p 00000000 00:01 5 b\n" + row.partition(b"\n")[2]
    for text, right in ((known, True), (known + forged, False), (forged, False)):
        (tmp_path / "smaps").write_bytes(text)
        monkeypatch.setattr(CENSUS, "is_gvisor", lambda proc: True)
        if right:
            assert list(CENSUS.mappings(str(tmp_path), "/proc", figures=True))
        else:
            with pytest.raises(CENSUS.UnreadableMappings):
                list(CENSUS.mappings(str(tmp_path), "/proc", figures=True))


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([HEADER, b"Rss:    4 kB", b"VmFlags: rd"]))))
def test_mappings_of_any_lines_are_read_or_reported_as_unreadable(lines: list[bytes]) -> None:
    try:
        found = list(CENSUS.entries(iter(lines), None))
    except CENSUS.UnreadableMappings:
        return
    assert len(found) <= len(lines)


@given(st.binary(max_size=300))
def test_a_stat_of_any_bytes_is_a_process_or_none(text: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CENSUS, "read_text", lambda path, limit=0: text.decode("utf-8", "replace"))
        try:
            process_at(1)
        except (ProcessLookupError, ValueError):
            return


# Pipes and random-looking bytes


def test_bytes_that_wait_in_a_pipe_are_counted_and_stay_there() -> None:
    script = "import os; r, w = os.pipe(); os.write(w, bytes(5000)); a, b = os.pipe(); os.close(a)"
    with running(script) as it:
        process = seen_process(it.pid)
        assert CENSUS.bytes_in_pipes([process], set()) == 5000
        assert CENSUS.bytes_in_pipes([process], set()) == 5000


def test_disguised_weights_look_random_and_ordinary_content_does_not() -> None:
    import base64
    import zlib

    weights = WEIGHTS.read(0, 2**18)
    stretched = bytearray(2 * len(weights))
    stretched[::2] = weights
    modules = b"".join(Path(str(one.__file__)).read_bytes() for one in (os, threading, socket, pytest))
    with open(sys.executable, "rb") as file:
        program = file.read(2**20)

    def noise(data: bytes | bytearray) -> float:
        # The mean of several: the places of the samples are random, and one of 256 bytes can look less random.
        estimates = []
        for _ in range(20):
            found = CENSUS.Noise()
            found.add(bytearray(data), 0, len(data))
            estimates.append(float(found.bytes))
        return sum(estimates) / len(estimates)

    for disguised in (weights, bytes(byte ^ 0x55 for byte in weights), weights[::-1], zlib.compress(weights)):
        assert noise(disguised) > 0.9 * len(weights)
    assert noise(stretched) > 0.9 * len(weights)
    assert noise(base64.b64encode(weights)) > 0.9 * len(weights)
    assert noise(weights.hex().encode()) > 0.9 * len(weights)
    for ordinary in (bytes(2**20), modules, b"%d %f\n" * 2**17, bytes(range(64)) * 2**14):
        assert noise(ordinary) == 0
    assert noise(program) < 0.2 * len(program)
    # Ordinary content that is copied, or a large file with repeated content, does not increase the estimate.
    assert noise(WEIGHTS.read(0, 2**20) * 8) < 1.1 * 2**20


@given(st.binary(max_size=600))
def test_no_content_has_more_noise_than_bytes(sample: bytes) -> None:
    assert 0.0 <= CENSUS.noisiness(sample) <= 1.0


# The scorch


@pytest.mark.long
def test_folders_of_any_depth_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "subject"
    folder.mkdir()
    here = os.getcwd()
    os.chdir(folder)
    try:
        for number in range(3000):
            os.mkdir("moved-0")
            os.mkdir(b"\xff\n")
            os.mkfifo("pipe")
            if number % 3 == 0:
                os.chmod("moved-0", 0)
            os.chdir("moved-0")
    finally:
        os.chdir(here)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        answer = SCORCH.clear({"residues": 12, "seconds": 30.0}, fd)
    finally:
        os.close(fd)
    assert answer["residues"] == []
    assert not folder.exists()


def test_kinds_of_socket_files_are_distinguished(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    os.mkfifo(tmp_path / "pipe")
    found = addresses(tmp_path)
    assert list(found.socket_files("default").values()) == [str(tmp_path / "socket")]
    assert found.socket_at("default", str(tmp_path / "pipe")) is None


@pytest.mark.usefixtures("here")
def test_a_queue_of_datagrams_counts_with_its_capacity() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = sockets(os.getpid(), inside=False).max_queued
    for _ in range(3):
        ours.send(bytes(50_000))
    assert sockets(os.getpid(), inside=False).max_queued - before >= 150_000
    ours.close()
    theirs.close()
