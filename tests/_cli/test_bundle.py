"""The file of `redline doctor --bundle`: enough for a bug report, nothing about the user."""

import getpass
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from redline._cli import _bundle, _host_checks, _last_errors
from redline._cli._bundle import MAX_BYTES, MAX_LINE, MAX_LINES, bundle
from redline._cli._finding import Finding
from redline._cli._last_errors import MAX_ERRORS, errors_file, keep_error, last_errors
from redline._cli._private import without_private
from redline._cli.main import execute
from redline._errors import ExitCode

KEY = "sk-4f9a8b7c6d5e4f3a2b1c"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def alice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "OPENAI_API_KEY": KEY,
        "SHORT_TOKEN": "x7q2",
        "LOCAL_BASE_URL": "http://10.1.2.3:8000/v1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(platform, "node", lambda: "wonderland")


@pytest.fixture
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("system", "ok", "Linux"), Finding("a cell on runc", "optional", "failed: /home/alice/x")]
    monkeypatch.setattr(_host_checks, "check_host", lambda: iter(findings))


@pytest.mark.usefixtures("alice", "few_checks")
def test_the_file_has_every_section_and_nothing_private(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_error(f"alice@wonderland: /home/alice/plan.toml: {KEY}, x7q2, http://10.1.2.3:8000/v1", 2)
    path = tmp_path / "bundle.txt"
    assert execute(["doctor", "--bundle", str(path)]) == ExitCode.OK
    text = path.read_text()
    for section in ("redline", "findings", "kernel", "cgroups", "mounts", "limits", "programs", "last errors"):
        assert f"== {section} ==\n" in text
    for private in ("alice", "wonderland", KEY, "x7q2", "10.1.2.3"):
        assert private not in text
    assert "redline " in text and "optional a cell on runc" in text and "folder of cells: " in text
    assert "exit code 2" in text and "$HOME/plan.toml" in text and "$OPENAI_API_KEY" in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert "system: Linux" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("https://user:password@server/v1", "user:password"),
        ("Authorization: Bearer abcdef.ghi", "abcdef"),
        ("hf_abcdefghijkl", "abcdefghijkl"),
        ("AKIA1234567890ABCDEF1234567890", "1234567890"),
        ("key eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "eyJhbGciOi"),
    ],
)
def test_what_looks_like_a_key_is_removed(text: str, secret: str) -> None:
    assert secret not in without_private(text)


@pytest.mark.usefixtures("alice")
def test_words_that_contain_a_name_stay() -> None:
    assert without_private("malice in 7 wonderlands, alice-2") == "malice in 7 wonderlands, USER-2"


def test_root_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "root")
    monkeypatch.setattr(getpass, "getuser", lambda: "root")
    assert without_private("root: yes, rootless: no") == "root: yes, rootless: no"


@pytest.mark.usefixtures("few_checks")
def test_an_existing_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine"
    path.write_text("mine")
    assert execute(["doctor", "--bundle", str(path)]) == ExitCode.USAGE
    assert path.read_text() == "mine"
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.usefixtures("few_checks")
@pytest.mark.parametrize("name", ["missing/bundle", "", "a\0b", "x" * 300])
def test_a_path_that_cannot_be_written_is_one_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert execute(["doctor", "--bundle", name]) == ExitCode.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_the_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    text = bundle([Finding("x" * 10_000, "ok", "y\n\033[31m")] * 1000)
    lines = text.split("\n")
    assert max(map(len, lines)) <= MAX_LINE and "\033" not in text
    assert f"… {1000 - MAX_LINES} more" in lines
    assert len(text.encode()) < MAX_BYTES


def test_a_section_that_fails_does_not_prevent_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[str]:
        raise RuntimeError("no")

    monkeypatch.setattr(_bundle, "_mounts", fails)
    text = bundle([])
    assert "== mounts ==\ncannot be read: RuntimeError" in text and "== limits ==" in text


def test_only_the_last_errors_are_kept_in_a_file_of_the_user() -> None:
    for number in range(MAX_ERRORS + 5):
        keep_error(f"error {number}\nwith lines", 2)
    found = last_errors()
    assert len(found) == MAX_ERRORS
    assert found[-1].endswith(f"exit code 2: error {MAX_ERRORS + 4} with lines")
    assert errors_file().stat().st_mode & 0o777 == 0o600
    assert [path.name for path in errors_file().parent.iterdir()] == ["errors.txt"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n\033[31mred\n", b"x" * 1_000_000, b"\n" * 1000], ids=len)
def test_a_damaged_file_of_errors_harms_nothing(content: bytes) -> None:
    errors_file().parent.mkdir(parents=True)
    errors_file().write_bytes(content)
    keep_error("new", 3)
    found = last_errors()
    assert found[-1].endswith("exit code 3: new")
    assert all("\033" not in line and len(line) <= _last_errors.MAX_LINE for line in found)


def test_a_file_of_errors_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("another file\n")
    errors_file().parent.mkdir(parents=True)
    errors_file().symlink_to(tmp_path / "other")
    assert last_errors() == []
    keep_error("new", 2)
    assert (tmp_path / "other").read_text() == "another file\n"


def test_a_pipe_in_the_place_of_the_file_of_errors_stops_nothing() -> None:
    errors_file().parent.mkdir(parents=True)
    os.mkfifo(errors_file())
    assert last_errors() == []
    keep_error("new", 2)
    assert last_errors()[-1].endswith("exit code 2: new")


def test_a_value_of_several_lines_is_removed_from_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE_KEY", "-----BEGIN-----\nabc def\n-----END-----")
    assert without_private("key -----BEGIN----- abc def -----END-----") == "key $PRIVATE_KEY"


def test_errors_that_cannot_be_kept_are_no_second_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    keep_error("new", 2)
    assert last_errors() == []


def test_a_failed_command_and_an_internal_error_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["run", "no-such-scenario", "--model", "redline/refuser"]) == ExitCode.USAGE
    assert "no-such-scenario" in last_errors()[-1]

    def breaks() -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(_host_checks, "check_host", breaks)
    assert execute(["doctor"]) == ExitCode.INTERNAL
    assert "ZeroDivisionError at " in last_errors()[-2] and "test_bundle.py" in last_errors()[-2]
    assert "doctor.py:" in last_errors()[-2]
    capsys.readouterr()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set a host name in a namespace")
def test_the_name_of_the_host_is_not_in_the_file() -> None:
    name = f"looking-glass-{os.getpid()}"
    code = "from redline._cli._bundle import bundle; print(bundle([]))"
    done = subprocess.run(
        ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "== mounts ==" in done.stdout and name not in done.stdout
    assert socket.gethostname() != name
