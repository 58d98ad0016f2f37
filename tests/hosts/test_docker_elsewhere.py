"""Programs named docker that make no cells: Podman, engines on other hosts, and engines that see other folders."""

import json
import os
import stat
from pathlib import Path

import pytest

from redline._cli._finding import Finding
from redline._cli._host_checks import _cell, _given_working
from redline._cli.main import execute
from redline._errors import ExitCode
from redline.cell import runtime
from redline.cell.docker.runtime import Docker
from redline.cell.open import unusable

HEALTHY = {
    "--version": "Docker version 28.2.2, build e6534b4",
    "context": "unix:///var/run/docker.sock",
    "compose": "Docker Compose version 2.26.1",
    "version": "28.2.2",
    "info": json.dumps({"root": "/var/lib/docker", "system": "Debian GNU/Linux 13"}),
}
"""What Docker's command line prints, by the first argument."""

ELSEWHERE: dict[str, tuple[dict[str, str], str]] = {
    "podman": ({"--version": "podman version 5.4.2"}, "is Podman (podman version 5.4.2)"),
    "ssh": ({"context": "ssh://alice@build.example"}, "may run on another host (ssh)"),
    "tcp": ({"context": "tcp://127.0.0.1:2375"}, "may run on another host (tcp)"),
    "snap": ({"info": json.dumps({"root": "/var/snap/docker/common/var-lib-docker", "system": "x"})}, "is a snap"),
    "desktop": ({"info": json.dumps({"root": "/var/lib/docker", "system": "Docker Desktop"})}, "virtual machine"),
    "hostile": ({"context": "\033[31mred\033[0m://x"}, "may run on another host"),
}


def docker(folder: Path, answers: dict[str, str]) -> None:
    """Put a program named docker into a folder."""
    (folder / "answers.json").write_text(json.dumps({**HEALTHY, **answers}))
    program = folder / "docker"
    program.write_text(
        "#!/usr/bin/python3 -IS\nimport json, os, sys\n"
        "if sys.argv[1] == 'context' and 'DOCKER_HOST' in os.environ:\n    sys.exit(print(os.environ['DOCKER_HOST']))\n"
        f"with open({str(folder / 'answers.json')!r}) as file:\n    print(json.load(file)[sys.argv[1]])\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with no other runtime."""
    monkeypatch.setattr(runtime, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    unusable.cache_clear()
    return tmp_path


def defect() -> str | None:
    found = Docker.find()
    assert found is not None
    return found.defect()


def test_a_local_engine_has_no_known_defect(folder: Path) -> None:
    docker(folder, {})
    assert defect() is None


@pytest.mark.parametrize(("answers", "words"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_an_engine_elsewhere_is_one_line_of_doctor(folder: Path, answers: dict[str, str], words: str) -> None:
    docker(folder, answers)
    found = Docker.find()
    assert found is not None
    finding: Finding = _given_working(_cell(found), ["runc"])
    assert finding.state == "optional" and words in finding.found
    assert "\n" not in finding.found and "\033" not in finding.found


@pytest.mark.parametrize(("answers", "words"), ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("command", ["run", "seal"])
@pytest.mark.host("Podman as docker", how="injected")
@pytest.mark.host("DOCKER_HOST or a context that is not a local unix socket", how="injected")
@pytest.mark.host("Docker as a snap", how="injected")
@pytest.mark.host("Docker Desktop", how="injected")
def test_an_engine_elsewhere_is_exit_code_2(
    folder: Path, answers: dict[str, str], words: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    docker(folder, answers)
    arguments = {
        "run": ["run", "self_replication", "--model", "redline/refuser", "--trials", "1", "--out", str(folder / "out")],
        "seal": ["seal", "--quick"],
    }
    assert execute([*arguments[command], "--runtime", "docker"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said


def test_the_address_of_another_host_is_not_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(folder, {})
    monkeypatch.setenv("DOCKER_HOST", "ssh://alice@build.example")
    said = defect()
    assert said is not None and "DOCKER_HOST" in said
    assert "alice" not in said and "build.example" not in said


@pytest.mark.parametrize("info", ["", "[]", "{", '{"root": 1}', "[" * 5000], ids=["", "list", "cut", "number", "deep"])
def test_an_answer_that_is_not_understood_prevents_nothing(folder: Path, info: str) -> None:
    docker(folder, {"info": info})
    assert defect() is None


def test_a_docker_that_fails_is_reported_by_its_own_line(folder: Path) -> None:
    docker(folder, {})
    script = "#!/bin/sh\n[ $1 = --version ] && echo Docker version 28 && exit\necho 'no such luck' >&2\nexit 1\n"
    (folder / "docker").write_text(script)
    assert defect() == "no such luck"
    assert os.environ["PATH"] == str(folder)
