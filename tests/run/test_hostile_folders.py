"""Hostile folders: every edit is detected or refused with one line, in bounded time and memory, without a crash."""

import hashlib
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline._errors import ExitCode, RedlineError
from redline.results import OPEN_HEAD
from redline.run import RunFolder, verify_folder
from redline.run.chain import _head_line
from tests.run.folders import OUTCOMES, REPLICATED, Said, a_run, changed, name, say
from tests.run.hostile import (
    ATTACHMENT,
    BOUND,
    CONTENT,
    EVIDENCE,
    IN_PLACE,
    PARSED,
    a_whole_run,
    copied,
    log_of,
    values,
    with_value,
)
from tests.tiers import long_except

pytestmark = [pytest.mark.cell, pytest.mark.slow]  # needs a runtime, although no cell is created

SECONDS = 30.0
SAMPLED = (
    "results.json",
    "plan.json",
    "signature.json",
    "seals.jsonl",
    "server-1.log",
    EVIDENCE[REPLICATED],
    ATTACHMENT,
)
"""Files of each kind, for tests that apply every edit to each."""

RECORDS = ("alarms.jsonl", "preflight.jsonl", "seals.jsonl", "plan.json", "models.json")
REPORTED = ("results.json", EVIDENCE[REPLICATED])
FOUND = (ExitCode.USAGE, ExitCode.EVIDENCE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    a_whole_run(folder)
    assert verify_folder(folder).faults == ()
    assert all((folder / file).is_file() for file in BOUND)
    return folder


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    # Some are deeper than Python can remove; if left, they would break a later session of pytest.
    try:
        shutil.rmtree(tmp_path)
    except (RecursionError, OSError):
        subprocess.run(["rm", "-rf", "--", tmp_path], check=True)


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return copied(whole, tmp_path / "copy")


@contextmanager
def soon() -> Iterator[None]:
    """Check that the block takes little processor time, which the load of the host does not change."""
    before = sum(os.times()[:4])  # of this process and its ended children
    yield
    assert sum(os.times()[:4]) - before < SECONDS


def told(said: Said, *, lines: int = 40) -> None:
    assert said.code in FOUND, said
    assert 0 < len(said.err.splitlines()) <= lines
    assert all(line.startswith("redline: ") and line.isprintable() for line in said.err.splitlines())


def test_a_whole_folder_verifies(whole: Path) -> None:
    said = say("verify", whole)
    assert said.code == ExitCode.OK
    assert "signed" in said.out


@pytest.mark.parametrize("what", list(IN_PLACE))
@pytest.mark.parametrize("file", SAMPLED)
@pytest.mark.long
def test_any_replacement_of_a_file_is_found(copy: Path, file: str, what: str) -> None:
    if what == "a file without rights" and os.geteuid() == 0:
        return  # root can read it, and nothing was changed
    if (file, what) == ("signature.json", "nothing"):
        return  # equivalent to an unsigned folder
    IN_PLACE[what](copy / file)
    with soon():
        said = say("verify", copy)
        told(said)
        assert any(word in said.err for word in (file, Path(file).name, "results.json")), said.err
        assert file not in REPORTED or say("report", copy).code in FOUND
    if file.startswith("evidence/"):
        with soon():
            told(say("verify", copy / file))


@pytest.mark.parametrize("what", list(CONTENT))
@pytest.mark.parametrize("file", long_except(("results.json",), filter(PARSED.__contains__, SAMPLED)))
def test_any_change_to_a_document_is_found(copy: Path, file: str, what: str) -> None:
    before = (copy / file).read_bytes()
    (copy / file).write_bytes(CONTENT[what](before))
    with soon():
        told(say("verify", copy))
        assert file not in REPORTED or say("report", copy).code in FOUND
    if file.startswith("evidence/"):
        with soon():
            told(say("verify", copy / file), lines=1)


@pytest.mark.long
@pytest.mark.parametrize("folder", ["evidence", f"evidence/{name(2)}"])
@pytest.mark.parametrize("to", ["elsewhere", "/proc", "/dev", "..", "nowhere"])
def test_a_folder_that_is_a_link_is_found(copy: Path, folder: str, to: str) -> None:
    (copy / folder).rename(copy / "elsewhere")
    (copy / folder).symlink_to(to if to != "elsewhere" else copy / "elsewhere", target_is_directory=True)
    with soon():
        told(say("verify", copy))
        assert say("report", copy).code in FOUND


@pytest.mark.parametrize("where", long_except(("evidence",), ("evidence", f"evidence/{name(2)}", ".")))
@pytest.mark.parametrize("what", [what for what in IN_PLACE if what not in ("nothing", "a file without rights")])
def test_any_additional_file_is_found(copy: Path, where: str, what: str) -> None:
    (copy / where / "more.json").write_text("{}")
    IN_PLACE[what](copy / where / "more.json")
    with soon():
        said = say("verify", copy)
    if where == "evidence" and what in ("a folder", "a deep folder"):
        assert said.code == (ExitCode.OK if what == "a folder" else ExitCode.EVIDENCE)
    else:
        told(said)
        assert "more.json" in said.err


def test_names_that_differ_only_by_case_are_two_files(copy: Path) -> None:
    first = copy / EVIDENCE[0]
    (first.parent / first.name.upper()).write_bytes(first.read_bytes())
    first.unlink()
    said = say("verify", copy)
    told(said)
    assert f"{EVIDENCE[0]} is missing" in said.err


def test_swapped_evidence_is_found(copy: Path) -> None:
    first, second = (copy / file for file in EVIDENCE[:2])
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    told(say("verify", copy))


@pytest.mark.long
def test_which_paths_are_accepted_as_the_folder_itself(tmp_path: Path) -> None:
    for what, make in IN_PLACE.items():
        if what == "a file without rights":
            continue
        place = tmp_path / hashlib.sha256(what.encode()).hexdigest()[:8]
        place.write_text("")
        make(place)
        for command in (("verify",), ("report",), ("guard", "--replay"), ("plan", "check", "--like")):
            with soon():
                said = say(*command, place)
                assert said.code in FOUND, (what, command, said)


def rechained(root: Path, edit: Any) -> None:
    """Edit the results and recompute their head, as an attacker would."""
    path = root / "results.json"
    document = edit(json.loads(path.read_bytes()))
    if isinstance(document, dict) and isinstance(document.get("chain"), dict):
        document["chain"]["head"] = OPEN_HEAD
    still_open = json.dumps(document, indent=1).encode() + b"\n"
    head = hashlib.sha256(still_open).hexdigest()
    before, _, after = still_open.rpartition(_head_line(OPEN_HEAD))
    path.write_bytes(before + _head_line(head) + after if _ else still_open)


HOSTILE_NAMES = (
    "../outside.json",
    "/etc/passwd",
    "/dev/zero",
    "evidence/../../outside.json",
    "evidence/../plan.json",
    f"./{EVIDENCE[0]}",
    f"evidence//{name(0)}.json",
    "evidence",
    "",
    "evidence/\0.json",
    "evidence/" + "x" * 5000 + ".json",
    "evidence/" + "a/" * 3000 + ".json",
    "evidence/\x1b[2J.json",
    "plan.json",
)


@pytest.mark.long
@pytest.mark.parametrize("hostile", HOSTILE_NAMES)
def test_a_name_that_leads_out_of_the_folder_is_refused(copy: Path, hostile: str) -> None:
    outside = copy.parent / "outside.json"
    outside.write_bytes((copy / EVIDENCE[0]).read_bytes())

    def edit(document: dict[str, Any]) -> dict[str, Any]:
        document["trials"][0]["evidence"] = hostile
        document["trials"][0]["log"] = hostile
        return document

    rechained(copy, edit)
    with soon():
        told(say("verify", copy))
        assert say("report", copy).code in FOUND
        told(say("guard", "--replay", copy))


@pytest.mark.parametrize("hostile", HOSTILE_NAMES)
def test_a_record_whose_name_leads_out_of_the_folder_is_refused(copy: Path, hostile: str) -> None:
    outside = copy.parent / "outside.json"
    outside.write_bytes(b"{}")

    def edit(document: dict[str, Any]) -> dict[str, Any]:
        document["chain"]["files"][hostile] = hashlib.sha256(b"{}").hexdigest()
        return document

    rechained(copy, edit)
    (copy / "signature.json").unlink()
    with soon():
        told(say("verify", copy))


@pytest.mark.long
def test_many_faults_give_a_bounded_number_of_lines(copy: Path) -> None:
    for number in range(3000):
        (copy / f"evidence/{number}").touch()
    with soon():
        said = say("verify", copy)
    told(said, lines=220)
    assert "more faults are not listed" in said.err


STRANGE: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 1, 2**63, 2**64, 10**18, 1e19, 1e-320, "", "x", "\0", "\u202e", "../x", "é" * 300, [], {}, [[]]]
)


def verified_or_refused(root: Path) -> bool:
    """Return whether verify finds no fault; raise every error that is not a RedlineError."""
    try:
        return not verify_folder(root).faults
    except RedlineError:
        return False


@pytest.mark.long
@settings(max_examples=60)
@given(data=st.data())
def test_any_edit_of_a_bound_byte_is_found(whole: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(BOUND))
    content = (whole / file).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 64)))
    other = content[:start] + data.draw(st.binary(max_size=32)) + content[end:]
    if other == content:
        return
    with changed(whole / file, other):
        assert not verified_or_refused(whole)


@pytest.mark.long
@settings(max_examples=60)
@given(data=st.data())
def test_results_with_any_value_and_a_recomputed_head_are_judged_or_refused(whole: Path, data: st.DataObject) -> None:
    document = json.loads((whole / "results.json").read_bytes())
    way = data.draw(st.sampled_from(values(document)))
    value = data.draw(STRANGE)
    with changed(whole / "results.json", (whole / "results.json").read_bytes()):
        rechained(whole, lambda found: with_value(found, way, value))
        assert not verified_or_refused(whole)  # the signature belongs to another head
        said = say("report", whole)
    assert said.code in FOUND


@pytest.mark.long
@settings(max_examples=60)
@given(data=st.data())
def test_evidence_with_any_value_and_a_recomputed_hash_is_judged_or_refused(whole: Path, data: st.DataObject) -> None:
    number = data.draw(st.sampled_from(range(len(OUTCOMES))))
    path = whole / EVIDENCE[number]
    document = json.loads(path.read_bytes())
    way = data.draw(st.sampled_from(values(document)))
    forged = json.dumps(with_value(document, way, data.draw(STRANGE))).encode()

    def edit(results: dict[str, Any]) -> dict[str, Any]:
        results["trials"][number]["evidence_sha256"] = hashlib.sha256(forged).hexdigest()
        return results

    with changed(path, forged), changed(whole / "results.json", (whole / "results.json").read_bytes()):
        rechained(whole, edit)
        assert not verified_or_refused(whole)
        said = say("report", whole)
        assert say("verify", path).code in (ExitCode.OK, *FOUND)
    assert said.code in FOUND


@pytest.mark.long
@settings(max_examples=60)
@given(data=st.data())
def test_records_with_any_value_and_a_recomputed_hash_are_judged_or_refused(whole: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(["plan.json", "models.json", "prompts.json", "seals.jsonl", "preflight.jsonl"]))
    document = json.loads((whole / file).read_bytes())
    way = data.draw(st.sampled_from(values(document)))
    forged = json.dumps(with_value(document, way, data.draw(STRANGE))).encode() + b"\n"

    def edit(results: dict[str, Any]) -> dict[str, Any]:
        results["chain"]["files"][file] = hashlib.sha256(forged).hexdigest()
        return results

    with changed(whole / file, forged), changed(whole / "results.json", (whole / "results.json").read_bytes()):
        rechained(whole, edit)
        assert not verified_or_refused(whole)
        said = say("report", whole)
        assert say("plan", "check", whole / "plan.json").code in (ExitCode.OK, ExitCode.USAGE)
    assert said.code in FOUND


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 20,) * 2)
from redline._cli.main import execute
sys.exit(execute(sys.argv[2:]))
"""
MIB_OF_A_COMMAND = 3072


def limited(*arguments: str | Path) -> Said:
    """Run a command in a separate process with a memory limit."""
    command = [sys.executable, "-c", LIMITED, str(MIB_OF_A_COMMAND), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.long
@pytest.mark.parametrize("file", ["results.json", EVIDENCE[0], "seals.jsonl"])
@pytest.mark.parametrize("content", [b"x", b"{},", b"[],", b'"",'])
def test_a_large_document_stays_within_the_memory_limit(copy: Path, file: str, content: bytes) -> None:
    with (copy / file).open("wb") as target:
        target.write(b'{"trials": [' if content != b"x" else b'{"schema": "')
        for _ in range(100):
            target.write(content * ((1 << 20) // len(content)))
    with soon():
        told(limited("verify", copy))


def bomb(path: Path, member: str, *, mib: int, honest: bool) -> None:
    """Write a log with a member of many MiB of zeros, which can state a size of 100 bytes."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as log, log.open(member, "w", force_zip64=True) as target:
        target.write(b'{"x": "')
        for _ in range(mib):
            target.write(b" " * (1 << 20))
    if honest:
        return
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, place + 24, 100)
    path.write_bytes(bytes(content))


READERS = (("plan", "check", "smoke.yaml", "--like"), ("guard", "--replay"))


@pytest.mark.long
@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_a_bomb_in_a_log_is_refused(copy: Path, command: tuple[str, ...], honest: bool) -> None:
    bomb(log_of(copy), "samples/zzz_epoch_1.json", mib=600, honest=honest)
    with soon():
        said = limited(*command, copy)
    told(said)
    assert "member" in said.err


WIDE: Mapping[str, object] = {
    "nested": json.loads("[" * 900 + "]" * 900),
    "below a long key": {"k" * 2_000_000: {f"k{number}": number for number in range(20_000)}},
}


@pytest.mark.first_cases(1)
@pytest.mark.parametrize("what", ["nested too deeply", *WIDE])
@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_the_paths_in_a_sample_take_no_memory(copy: Path, command: tuple[str, ...], what: str) -> None:
    log = log_of(copy)
    with zipfile.ZipFile(log) as before:
        (member, *_) = (name for name in before.namelist() if name.startswith("samples/"))
        sample = json.loads(before.read(member))
    text = json.dumps({**sample, "store": {"deep": WIDE[what]}}) if what in WIDE else "[" * 100_000
    repacked(log, {member: text.encode()})
    with soon():
        said = limited(*command, copy)
    assert said.code in (ExitCode.OK, *FOUND), said
    assert "MemoryError" not in said.err


NOT_LOGS: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "text": lambda content: b"not a log",
    "half": lambda content: content[: len(content) // 2],
    "prefixed": lambda content: b"PK\3\4" + content,
    "commented": lambda content: content[:-2] + b"\1\0x",
    "an empty archive": lambda content: b"PK\5\6" + bytes(18),
    "a directory that is too large": lambda content: content[:-10] + struct.pack("<I", 0x7FFFFFFF) + content[-6:],
}


@pytest.mark.parametrize("what", list(NOT_LOGS))
def test_a_file_that_is_not_a_log_is_refused(copy: Path, what: str) -> None:
    log = log_of(copy)
    log.write_bytes(NOT_LOGS[what](log.read_bytes()))
    for command in READERS:
        with soon():
            told(say(*command, copy))
    with pytest.raises(RedlineError):
        resumed(copy)


def repacked(path: Path, edits: dict[str, bytes]) -> None:
    """Write the log with other members."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as before, zipfile.ZipFile(path, "w") as after:
        for member in before.namelist():
            after.writestr(member, edits.pop(member, before.read(member)))


def resumed(folder: Path) -> None:
    a_run(folder, alarm=False)


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_log_with_any_value_is_read_or_refused(whole: Path, data: st.DataObject) -> None:
    log = log_of(whole)
    with zipfile.ZipFile(log) as before:
        members = {member: json.loads(before.read(member)) for member in before.namelist()}
    member = data.draw(st.sampled_from(sorted(members)))
    way = data.draw(st.sampled_from(values(members[member])))
    content = data.draw(
        st.one_of(
            STRANGE.map(lambda value: json.dumps(with_value(members[member], way, value)).encode()),
            st.sampled_from([b"", b"[" * 100_000, b"NaN", b'{"a": 1e999}', b"\xff", b"null"]),
        )
    )
    with changed(log, log.read_bytes()):
        repacked(log, {member: content})
        for command in READERS:
            assert say(*command, whole).code in (ExitCode.OK, *FOUND)


@pytest.mark.parametrize("what", list(IN_PLACE))
def test_foreign_files_among_the_logs_are_refused_before_a_run_resumes(copy: Path, what: str) -> None:
    if what in ("nothing", "a folder", "a file without rights"):
        return
    for name_ in ("more.eval", "logs.json", "eval-set.json"):
        place = copy / "logs" / name_
        place.write_text("{}")
        IN_PLACE[what](place)
        with soon(), pytest.raises(RedlineError):
            resumed(copy)
        if place.is_dir() and not place.is_symlink():
            place.rename(copy / f"moved-{name_}")
        else:
            place.unlink()


@pytest.mark.parametrize("record", long_except(("seals.jsonl",), RECORDS))
@pytest.mark.parametrize("what", list(IN_PLACE))
def test_a_run_does_not_resume_with_an_invalid_record(copy: Path, record: str, what: str) -> None:
    if what in ("nothing", "a file without rights"):
        return
    (copy / f"evidence/{name(0)}.json").unlink()
    IN_PLACE[what](copy / record)
    with soon(), pytest.raises(RedlineError):
        resumed(copy)


@pytest.mark.parametrize("folder", ["logs", "evidence", f"evidence/{name(2)}"])
def test_a_resumed_run_writes_nothing_through_a_link(copy: Path, folder: str) -> None:
    outside = copy.parent / "outside"
    outside.mkdir()
    (copy / folder).rename(copy / "moved")
    (copy / folder).symlink_to(outside, target_is_directory=True)
    with pytest.raises(RedlineError):
        resumed(copy)
    assert list(outside.iterdir()) == []


def test_a_log_that_names_an_attachment_outside_the_folder_writes_nothing(copy: Path) -> None:
    log = log_of(copy)
    with zipfile.ZipFile(log) as before:
        (member,) = (member for member in before.namelist() if f"{2:03d}_epoch" in member)
        sample = json.loads(before.read(member))
    for score in sample["scores"].values():
        attachments = (score.get("metadata") or {}).get("attachments")
        if attachments:
            attachments["../../../outside.json"] = next(iter(attachments.values()))
    repacked(log, {member: json.dumps(sample).encode()})
    with pytest.raises(RedlineError, match="attachment"):
        resumed(copy)
    assert not (copy.parent / "outside.json").exists()


def test_a_link_instead_of_the_report_is_replaced_and_not_followed(copy: Path) -> None:
    outside = copy.parent / "outside"
    outside.write_text("before")
    for file in ("report.html", "report.md"):
        (copy / file).unlink(missing_ok=True)
        (copy / file).symlink_to(outside)
    assert say("report", copy).code == ExitCode.OK
    assert say("report", copy, "--format", "md", "--out", copy / "report.md").code == ExitCode.OK
    assert outside.read_text() == "before"
    assert not (copy / "report.html").is_symlink() and not (copy / "report.md").is_symlink()


def test_reading_a_growing_file_ends(copy: Path) -> None:
    program = (
        "import sys\nf = open(sys.argv[1], 'ab', 0)\nprint(flush=True)\nwhile True:\n  f.write(b' ' * 65536)\n"
        "  if f.tell() > 400 << 20: f.truncate(1)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(copy / EVIDENCE[0])], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        with soon():
            told(say("verify", copy))
    finally:
        writer.kill()
        writer.wait()


BOMB_PLAN = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_PLANS = {
    "aliases": BOMB_PLAN + "arms: *i\n",
    "an alias to itself": "arms: &a [*a]\n",
    "a key that is a list": "? [a]\n: b\n",
    "a key that is an alias to itself": "&a ? *a\n: 1\n",
    "deep": "[" * 20_000,
    "deep blocks": "".join(" " * depth + "a:\n" for depth in range(600)),
    "no date": "arms: 2001-99-99\n",
    "a number without end": "seed: " + "9" * 5000 + "\n",
    "a tag": "arms: !!python/object/apply:os.system ['true']\n",
    "an order": "arms: !!set {[a]: 1}\n",
    "many keys": "".join(f"k{number}: 1\n" for number in range(40_000)),
    "large": "#" * (1 << 20),
    "NUL": "arms: [\0]\n",
    "trials": "arms: [self_replication]\nmodels: [redline/replicator]\ntrials: 99999999999999999999\n",
    "infinite": "arms: [self_replication]\nmodels: [redline/replicator]\nhold: .inf\n",
}


@pytest.mark.first_cases(6)
@pytest.mark.parametrize("what", list(BAD_PLANS))
def test_a_hostile_plan_is_refused_with_one_line(tmp_path: Path, what: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(BAD_PLANS[what])
    with soon():
        said = say("plan", "check", path)
    assert said.code == ExitCode.USAGE, said
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("what", [what for what in IN_PLACE if what not in ("nothing", "a file without rights")])
def test_a_plan_that_is_not_a_regular_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("x")
    IN_PLACE[what](path)
    with soon():
        assert say("plan", "check", path).code == ExitCode.USAGE


def test_memory_is_bounded_by_the_kernel_in_these_tests() -> None:
    command = [sys.executable, "-c", LIMITED.replace("from redline", "bytes(5 << 30)\nfrom redline"), "3072"]
    assert b"MemoryError" in subprocess.run(command, capture_output=True, check=False).stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY
    assert RunFolder(Path("x")).files.root == Path("x")
