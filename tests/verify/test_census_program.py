"""The census program on ordinary processes and files of this host."""

import contextlib
import errno
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verify.local import CENSUS, WEIGHTS, addresses, baseline, content, files, running, seen_process, walk

TOTAL = WEIGHTS.total
COUNT = len(WEIGHTS.anchors())


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def id_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


# Content


def test_the_whole_content_is_found_under_any_name_and_at_any_offset(tmp_path: Path) -> None:
    write(tmp_path / "holiday.jpg", b"x" * 12345 + WEIGHTS.read(0, TOTAL))
    seen = walk(tmp_path)
    assert len(seen.union(list(seen.seen))) == COUNT


def test_a_file_of_other_random_bytes_holds_no_weights(tmp_path: Path) -> None:
    write(tmp_path / "noise", os.urandom(TOTAL))
    assert walk(tmp_path).anchors == {}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_run_of_the_smallest_detectable_length_is_found(data: st.DataObject) -> None:
    length = WEIGHTS.anchors().smallest_sure_run
    start = data.draw(st.integers(0, TOTAL - length))
    found = content()
    fd = os.memfd_create("run")
    try:
        os.write(fd, WEIGHTS.read(start, length))
        assert found.in_file(fd, length)[0]
    finally:
        os.close(fd)


def test_pieces_across_two_reads_are_found(tmp_path: Path) -> None:
    padding = b"\0" * (CENSUS.CHUNK - TOTAL // 2)
    path = write(tmp_path / "x", padding + WEIGHTS.read(0, TOTAL))
    assert walk(tmp_path).seen[id_of(path)]["anchors"] == COUNT


def test_a_sparse_file_of_terabytes_costs_nothing_and_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as out:
        out.seek(2**40)
        out.write(WEIGHTS.read(0, TOTAL))
        out.truncate(2**42)
    began = time.monotonic()
    seen = walk(tmp_path)
    assert seen.seen[id_of(path)]["anchors"] == COUNT
    assert time.monotonic() - began < 20


def test_a_search_beyond_its_deadline_is_incomplete(tmp_path: Path) -> None:
    write(tmp_path / "x", WEIGHTS.read(0, TOTAL))
    assert walk(tmp_path, content(deadline=0.0)).incomplete


def test_a_search_of_too_many_bytes_is_incomplete(tmp_path: Path) -> None:
    write(tmp_path / "a", b"x" * 5_000)
    write(tmp_path / "b", b"x" * 5_000)
    assert walk(tmp_path, content(limit=4_000)).incomplete


def test_a_walk_of_too_many_entries_is_incomplete(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / str(number), b"")
    assert walk(tmp_path, entries=10).incomplete


# Copies of original files


def original_files(folder: Path) -> list[Path]:
    paths = []
    for file in WEIGHTS.files():
        parts = [*WEIGHTS.header_parts(file), *((at, bytes(part)) for at, part in WEIGHTS.data_parts(file))]
        paths.append(write(folder / file.name, b"".join(bytes(part) for _, part in parts)))
    return paths


@contextlib.contextmanager
def searching_with(originals: list[Path]) -> Iterator[Any]:
    """Yield a search that knows the originals."""
    found = content()
    with contextlib.ExitStack() as opened:
        for file, path in zip(WEIGHTS.files(), originals, strict=True):
            fd = opened.enter_context(path.open("rb")).fileno()
            slices = [[piece.canonical, piece.position, piece.length] for piece in file.slices]
            found.add_original(CENSUS.OriginalFile(fd, slices, WEIGHTS.anchors().packed))
        yield found


def anchors_of(path: Path, found: Any) -> set[int]:
    with path.open("rb") as file:
        anchors: set[int] = found.in_file(file.fileno(), path.stat().st_size)[0]
    return anchors


def test_a_copy_of_an_original_file_is_compared_and_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals = original_files(tmp_path / "originals")
    matched: list[int] = []
    match = CENSUS.Content.match

    def counted(self: Any, filled: int, found: set[int]) -> None:
        matched.append(filled)
        match(self, filled, found)

    monkeypatch.setattr(CENSUS.Content, "match", counted)
    with searching_with(originals) as found:
        together = set()
        for path in originals:
            together |= anchors_of(Path(shutil.copy(path, tmp_path / "copy")), found)
    assert len(together) == COUNT
    assert sum(matched) < TOTAL // 2, "only what is behind the last anchor is searched"


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, TOTAL), st.binary(min_size=1, max_size=300)), max_size=6),
    to_the_original=st.booleans(),
    end=st.one_of(st.none(), st.integers(0, TOTAL)),
)
def test_a_comparison_finds_what_a_search_finds(
    changes: list[tuple[int, bytes]], to_the_original: bool, end: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        originals = original_files(Path(folder, "originals"))
        original = max(originals, key=lambda path: path.stat().st_size)
        data = bytearray(original.read_bytes())
        for at, piece in changes:
            data[at % len(data) : at % len(data) + len(piece)] = piece
        copy = write(Path(folder, "copy"), bytes(data[:end]))
        if to_the_original:
            original.write_bytes(data)
        with searching_with(originals) as found:
            assert anchors_of(copy, found) == anchors_of(copy, content())


def test_a_file_with_the_content_of_another_original_is_searched(tmp_path: Path) -> None:
    originals = original_files(tmp_path / "originals")
    contents = [path.read_bytes() for path in originals]
    for path, other in zip(originals, contents[::-1], strict=True):
        path.write_bytes(other)
    copies = [write(tmp_path / f"copy-{n}", data) for n, data in enumerate(contents)]
    with searching_with(originals) as found:
        assert [anchors_of(copy, found) for copy in copies] == [anchors_of(copy, content()) for copy in copies]


def test_a_sparse_copy_holds_only_what_is_stored(tmp_path: Path) -> None:
    originals = original_files(tmp_path / "originals")
    size = originals[0].stat().st_size
    half = tmp_path / "half"
    with half.open("wb") as file:
        file.write(originals[0].read_bytes()[: size // 2])
        file.truncate(size)
    with searching_with(originals) as found:
        assert anchors_of(half, found) == anchors_of(half, content())


def test_a_comparison_beyond_its_deadline_or_limit_is_out_of_bounds(tmp_path: Path) -> None:
    originals = original_files(tmp_path / "originals")
    for bound in ("deadline", "left"):
        with searching_with(originals) as found:
            setattr(found, bound, 0)
            with pytest.raises(CENSUS.OutOfBounds):
                anchors_of(Path(shutil.copy(originals[0], tmp_path / "copy")), found)


# Misleading files


def test_pipes_sockets_and_links_are_neither_opened_nor_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside" / "secret", WEIGHTS.read(0, TOTAL))
    room = tmp_path / "room"
    room.mkdir()
    os.mkfifo(room / "pipe")
    (room / "link").symlink_to(tmp_path / "outside")
    (room / "file").symlink_to(tmp_path / "outside" / "secret")
    (room / "self").symlink_to(room)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(room / "socket"))
        seen = walk(room)
    assert seen.seen == {}
    assert seen.incomplete == []


def test_a_path_cannot_leave_the_folder_it_is_opened_in(tmp_path: Path) -> None:
    write(tmp_path / "outside", b"x")
    room = tmp_path / "room"
    room.mkdir()
    (room / "link").symlink_to("../outside")
    fd = os.open(room, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path in ("link", "../outside", str(tmp_path / "outside")):
            with pytest.raises(OSError):
                CENSUS.openat2_in_root(fd, path, os.O_RDONLY)
    finally:
        os.close(fd)


def test_a_hard_link_is_one_file_inside_and_outside(tmp_path: Path) -> None:
    original = write(tmp_path / "subject" / "w", b"x" * 100)
    os.link(original, tmp_path / "copy")
    seen = walk(tmp_path, known=baseline(tmp_path / "subject", weights=[id_of(original)]))
    record = seen.seen[id_of(original)]
    assert (record["original"], record["inside"], record["outside"]) == (True, True, True)


def test_original_weight_files_are_counted_but_not_searched(tmp_path: Path) -> None:
    original = write(tmp_path / "w", WEIGHTS.read(0, TOTAL))
    found = content()
    seen = walk(tmp_path, found, baseline(weights=[id_of(original)]))
    assert seen.anchors == {}
    assert found.scanned == 0
    assert seen.blocks[id_of(original)[0]] >= TOTAL


def test_a_bundled_program_is_recognised_after_small_changes(tmp_path: Path) -> None:
    source = "\n".join(f"the {number}th line of some program" for number in range(40))
    changed = source.replace("the 3th line", "another line").replace("\n", "\n\n    ")
    path = write(tmp_path / "innocent", changed.encode())
    found = content(lines={"engine": CENSUS.distinctive_lines(source)})
    assert walk(tmp_path, found).seen[id_of(path)]["code"]["engine"] > 0.9


# Processes


def test_a_deleted_file_that_is_open_is_searched(tmp_path: Path) -> None:
    path = write(tmp_path / "w", WEIGHTS.read(0, TOTAL))
    key = id_of(path)
    with running("import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); os.unlink(sys.argv[1])", str(path)) as it:
        process = seen_process(it.pid)
        seen = files(content(), baseline())
        seen.inspect_open(process)
        held = CENSUS.weights_of(process, seen)
    assert seen.seen[key]["deleted"]
    assert held["anchors"] == COUNT
    assert not held["named"]


def test_a_memory_file_is_searched(tmp_path: Path) -> None:
    path = write(tmp_path / "w", WEIGHTS.read(0, TOTAL))
    script = "import os, sys; fd = os.memfd_create('x'); os.write(fd, open(sys.argv[1], 'rb').read())"
    with running(script, str(path)) as it:
        seen = files(content(), baseline())
        seen.inspect_open(seen_process(it.pid))
    assert max(record["anchors"] for record in seen.seen.values()) == COUNT


@pytest.mark.parametrize(
    "script",
    [
        "import sys; held = open(sys.argv[1], 'rb').read()",
        "import mmap, sys; held = mmap.mmap(-1, 2**22); held.write(open(sys.argv[1], 'rb').read())",
        "import mmap, sys; f = open(sys.argv[1], 'rb'); held = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)\n"
        "for at in range(0, len(held), 4096): held[at] = held[at]",
    ],
    ids=["heap", "shared", "written private pages"],
)
def test_weights_in_memory_are_found(tmp_path: Path, script: str) -> None:
    path = write(tmp_path / "w", WEIGHTS.read(0, TOTAL))
    with running(script, str(path)) as it:
        process = seen_process(it.pid)
        CENSUS.search_memory(process, files(content(), baseline(weights=[id_of(path)])))
    assert len(process.memory) >= COUNT - 1


def test_pages_of_an_original_file_are_not_memory_of_its_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "w", WEIGHTS.read(0, TOTAL))
    script = "import mmap, sys; f = open(sys.argv[1], 'rb'); held = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)"
    with running(script + "; sum(held[::4096])", str(path)) as it:
        process = seen_process(it.pid)
        CENSUS.search_memory(process, files(content(), baseline(weights=[id_of(path)])))
        held = CENSUS.weights_of(process, files(content(), baseline(weights=[id_of(path)])))
    assert len(process.memory) == 0
    assert held["original"] == 1


def test_memory_that_is_only_reserved_costs_nothing() -> None:
    with running(
        "import mmap; held = mmap.mmap(-1, 2**45, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)"
    ) as it:
        began = time.monotonic()
        CENSUS.search_memory(seen_process(it.pid), files(content(), baseline()))
    assert time.monotonic() - began < 10


def enter_nothing(fd: int, kind: int) -> None:
    """Stay in the test's network namespace, where its servers listen."""


def test_descriptors_in_flight_are_counted() -> None:
    script = "import socket; a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0, 1, 2])"
    with running(script) as it:
        assert seen_process(it.pid).in_flight == 3


@pytest.mark.parametrize("inside", [True, False])
def test_listeners_are_found_with_their_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.setattr(CENSUS, "join_namespace", enter_nothing, raising=False)
    script = (
        "import socket, sys\n"
        "four = socket.create_server(('127.0.0.1', 0))\n"
        "six = socket.create_server(('::1', 0), family=socket.AF_INET6)\n"
        "u = socket.socket(socket.AF_UNIX); u.bind('here'); u.listen()\n"
        "open('ports', 'w').write(f'{four.getsockname()[1]} {six.getsockname()[1]}')"
    )
    with running(script, cwd=tmp_path) as it:
        request = {"proc": "/proc", "inits": {"default": it.pid}, "inside": inside}
        described = seen_process(it.pid).describe(CENSUS.socket_table(request, buffers=True), addresses())
    four, six = (tmp_path / "ports").read_text().split()
    assert described["listens"] == [
        f"tcp4:127.0.0.1:{four}",
        f"tcp6:[0000:0000:0000:0000:0000:0000:0000:0001]:{six}",
        f"unix:{tmp_path}/here",
    ]


def test_a_process_title_cannot_escape_its_field() -> None:
    script = "import ctypes; ctypes.CDLL(None).prctl(15, b') Z 1 1 ) (', 0, 0, 0)"
    with running(script, ") 5 (") as it:
        process = seen_process(it.pid)
    assert process.parent == os.getpid()


# Origin of code


def code_of(pid: int, root: Path, known: object) -> list[tuple[str, str]]:
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        return [(entry["path"], entry["origin"]) for entry in CENSUS.code_of(seen_process(pid), fd, known)]
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("argument", "origin"),
    [
        ("copy/run.py", "own"),
        ("subject/run.py", "original"),
        ("subject/../copy/run.py", "own"),
        ("copy/../subject/run.py", "original"),
        ("way/run.py", "original"),
        ("copy/link.py", "original"),
        ("copy/hard.py", "original"),
        ("--script=copy/run.py", "own"),
        ("copy/gone.py", "missing"),
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_the_origin_of_the_code_that_a_process_names(
    tmp_path: Path, argument: str, origin: str, absolute: bool
) -> None:
    original = write(tmp_path / "subject" / "run.py", b"1")
    write(tmp_path / "copy" / "run.py", b"1")
    (tmp_path / "way").symlink_to(tmp_path / "subject")
    (tmp_path / "copy" / "link.py").symlink_to("../subject/run.py")
    os.link(original, tmp_path / "copy" / "hard.py")
    known = baseline(tmp_path / "subject", code=[id_of(original)])
    known.writable = {tmp_path.stat().st_dev}
    absolute_argument = argument.replace("=", f"={tmp_path}/") if absolute and "=" in argument else argument
    absolute_argument = f"{tmp_path}/{absolute_argument}" if absolute and "=" not in argument else absolute_argument
    with running("", absolute_argument, cwd=tmp_path) as it:
        assert code_of(it.pid, tmp_path, known)[-1][1] == origin


def test_circular_links_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to("b.py")
    (tmp_path / "b.py").symlink_to("a.py")
    known = baseline()
    known.writable = {tmp_path.stat().st_dev}
    with running("", str(tmp_path / "a.py"), cwd=tmp_path) as it:
        assert code_of(it.pid, tmp_path, known)[-1][1] == "missing"


# A kernel that reports less (gVisor)


@pytest.fixture
def as_in_gvisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what gVisor's kernel lacks: reports of holes, and of pages that are in memory."""
    seek, open_file = os.lseek, os.open

    def lseek(fd: int, position: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "not there")
        return seek(fd, position, how)

    def opened(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith("/pagemap"):
            raise FileNotFoundError(errno.ENOENT, "not there", path)
        return open_file(path, *more, **named)

    monkeypatch.setattr(os, "lseek", lseek)
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(CENSUS, "is_gvisor", lambda proc: True)


@pytest.mark.usefixtures("as_in_gvisor")
def test_a_file_with_holes_is_searched_and_its_holes_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "w"
    with path.open("wb") as file:
        file.seek(7 * 2**20)
        file.write(WEIGHTS.read(0, TOTAL))
        file.truncate(2**26)
    seen = walk(tmp_path)
    assert seen.seen[id_of(path)]["anchors"] == COUNT
    assert TOTAL <= seen.seen[id_of(path)]["stored"] <= TOTAL + 8192


@pytest.mark.usefixtures("as_in_gvisor")
def test_zeros_of_an_original_file_do_not_count_as_its_content(tmp_path: Path) -> None:
    path = write(tmp_path / "w", b"x" * 4096)
    os.truncate(path, 2**26)
    seen = walk(tmp_path, known=baseline(weights=[id_of(path)]))
    assert sum(seen.blocks.values()) == 4096


@pytest.mark.usefixtures("as_in_gvisor")
def test_a_file_larger_than_its_file_system_holds_what_other_files_leave(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(WEIGHTS.read(0, TOTAL))
        file.truncate(2**43)
    device = path.stat().st_dev
    seen = files(content(), baseline())
    seen.baseline.writable = {device}
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    seen.walk(CENSUS.Mount("default", str(tmp_path), "tmpfs", fd))
    os.close(fd)
    assert seen.seen[id_of(path)]["anchors"] == 0
    seen.inspect_sparse_files({device: seen.blocks.get(device, 0) + TOTAL})
    assert seen.seen[id_of(path)]["anchors"] >= COUNT - 1
    assert seen.incomplete == []


@pytest.mark.usefixtures("as_in_gvisor")
@pytest.mark.parametrize(
    "script",
    [
        "import sys; held = open(sys.argv[1], 'rb').read()",
        "import mmap, sys; held = mmap.mmap(-1, 2**22); held.write(open(sys.argv[1], 'rb').read())",
        "import mmap, sys; f = open(sys.argv[1], 'rb'); held = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)\n"
        "for at in range(0, len(held), 4096): held[at] = held[at]",
    ],
    ids=["heap", "shared", "written private pages"],
)
def test_weights_in_memory_are_found_without_pagemap(tmp_path: Path, script: str) -> None:
    path = write(tmp_path / "w", WEIGHTS.read(0, TOTAL))
    with running(script, str(path)) as it:
        process = seen_process(it.pid)
        CENSUS.search_memory(process, files(content(), baseline(weights=[id_of(path)])))
    assert len(process.memory) >= COUNT - 1


@pytest.mark.usefixtures("as_in_gvisor")
def test_memory_that_is_too_large_to_read_makes_the_census_incomplete() -> None:
    reserve = "import mmap; held = mmap.mmap(-1, 2**40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)"
    with running(f"{reserve}; held[0] = 1") as it:
        seen = files(content(), baseline())
        CENSUS.search_memory(seen_process(it.pid), seen)
    assert seen.incomplete == [f"memory of {it.pid}: more is reserved than can be read"]


@pytest.mark.usefixtures("as_in_gvisor")
def test_an_unknown_number_of_descriptors_in_flight_does_not_count_as_zero() -> None:
    with running("import socket; a, b = socket.socketpair()") as it:
        assert seen_process(it.pid).in_flight == CENSUS.NOT_SEEN


def test_the_observer_and_its_children_do_not_belong_to_the_cell() -> None:
    assert CENSUS.is_observer("/proc", os.getpid())
    assert CENSUS.is_observer("/proc", os.getppid())
    with running("") as it:
        assert not CENSUS.is_observer("/proc", it.pid)


def test_sock_diag_and_the_tables_report_the_same_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CENSUS, "join_namespace", enter_nothing, raising=False)
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0)))]
        stack.enter_context(socket.create_connection(made[0].getsockname()))  # which does not listen
        for address in ("::1", "::"):
            made.append(stack.enter_context(socket.create_server((address, 0), family=socket.AF_INET6)))
        ours = {os.fstat(each.fileno()).st_ino for each in made}
        asked, tabled = (
            {inode: address for inode, address in listeners("/proc", os.getpid()).items() if inode in ours}
            for listeners in (lambda *_: CENSUS.tcp_listeners_from_diag(), CENSUS.tcp_listeners_from_proc)
        )
    assert asked == tabled
    assert len(asked) == len(made)
    assert asked[min(asked)].startswith("tcp4:127.0.0.1:")


def test_sock_diag_is_read_completely_for_many_listeners() -> None:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(600)]
        ours = {os.fstat(each.fileno()).st_ino for each in made}
        found = {inode for _, _, inode in CENSUS.diag_tcp_listeners(socket.AF_INET)}
    assert ours <= found


def test_without_sock_diag_the_tables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(proc: str, init: int, *, buffers: bool) -> Any:
        raise OSError(errno.ENOENT, "sock_diag")

    monkeypatch.setattr(CENSUS, "sockets_from_diag", refuse)
    request = {"proc": "/proc", "inits": {"default": os.getpid()}, "inside": False}
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert os.fstat(server.fileno()).st_ino in CENSUS.socket_table(request, buffers=True).tcp


@pytest.mark.slow
@pytest.mark.parametrize(("script", "at_rest"), [("", True), ("if os.fork() == 0: time.sleep(60)", False)])
def test_a_cell_settles_if_processes_come_and_go_but_not_if_they_stay(
    monkeypatch: pytest.MonkeyPatch, script: str, at_rest: bool
) -> None:
    steps = f"""import os, time
if os.fork() == 0:
    while True:
        pid = os.fork()
        if pid == 0: time.sleep(0.03); os._exit(0)
        os.waitpid(pid, 0)
        {script}"""
    with running(steps) as it:
        try:
            monkeypatch.setattr(CENSUS, "cell_processes", lambda *_: [("default", pid) for pid in below(it.pid)])
            monkeypatch.setattr(CENSUS, "socket_table", lambda *_, buffers: CENSUS.SocketTable())
            figures = {"quiet": 0.3, "quiet_alone": 0.3, "at_most": 0.9, "pause": 0.02}
            request = {"proc": "/proc", "inits": {}, "inside": False, "generation_zero": [], **figures}
            assert CENSUS.settle(request)["quiet"] is at_rest
        finally:
            # Parents first, so that none of them starts another process; those that have ended meanwhile are gone.
            send(signal.SIGSTOP, below(it.pid))
            send(signal.SIGKILL, below(it.pid)[1:])


def send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def below(pid: int) -> list[int]:
    """A process and its descendants."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(one for child in children for one in below(int(child)))]
    return []
