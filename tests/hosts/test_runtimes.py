"""Runtimes of other hosts: old ones, broken ones, and ones that ignore what they do not know."""

import os
from pathlib import Path

import pytest

from redline.cell import CellConfig, open_cell, runtime
from redline.cell.config import RuntimeName
from redline.cell.open import choose_runtime
from redline.seal import SealReport, quick_seal
from tests.hosts.imitated import ONE_TRIAL, QUICK_SEAL, RUNC, redline_on, with_runc
from tests.run.folders import say

pytestmark = [
    pytest.mark.cell,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the mounts of a process"),
]

IGNORES_RECURSIVE_OPTIONS = """#!/usr/bin/python3
import json, os, sys
if "--bundle" in sys.argv:
    path = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    with open(path) as file:
        spec = json.load(file)
    plain = {"rro": "ro", "rnosuid": "nosuid", "rnodev": "nodev"}
    for mount in spec["mounts"]:
        mount["options"] = [plain.get(option, option) for option in mount.get("options", [])]
    with open(path, "w") as file:
        json.dump(spec, file)
os.execv("$RUNC", ["runc", *sys.argv[1:]])
"""
"""As runc before 1.1, or a kernel before 5.12: what is mounted below a read-only mount stays writable."""

SUBMOUNT = ["mount -t tmpfs -o mode=1777 tmpfs /usr/share/misc"]


def script(*lines: str) -> str:
    return "\n".join(["#!/bin/sh", *lines, ""])


NO_VERSION = script('[ "$1" = --version ] && exit 0', 'exec $RUNC "$@"')
STRANGE_VERSION = script(r"""[ "$1" = --version ] && { printf '\377\033[31mred\n'; exit; }""", 'exec $RUNC "$@"')
FAILS = script('[ "$1" = --version ] && exec $RUNC "$@"', 'echo "runc: no such luck" >&2', "exit 1")
CRASHES = script('[ "$1" = --version ] && exec $RUNC "$@"', "kill -SEGV $$")
IS_NONE = script("exit 127")


@pytest.mark.long
@pytest.mark.host("a kernel before 5.12 or a runtime that ignores recursive mount options", how="injected")
def test_a_runtime_that_ignores_recursive_options_is_seen_by_the_seal(tmp_path: Path) -> None:
    without = redline_on(SUBMOUNT, *QUICK_SEAL)
    assert without.returncode == 0, without.stdout + without.stderr
    found = redline_on([*SUBMOUNT, *with_runc(tmp_path, IGNORES_RECURSIVE_OPTIONS)], *QUICK_SEAL)
    assert found.returncode == 3, found.stdout + found.stderr
    assert "read_only_root" in found.stdout and "/usr/share/misc" in found.stdout


async def quick_seal_of(name: RuntimeName) -> SealReport:
    async with open_cell(CellConfig(runtime=name)) as cell:
        return await quick_seal(cell)


def only_with(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Let redline find no runtime but this program; the real runc is `$RUNC` to it."""
    assert RUNC is not None
    (folder / name).write_text(text.replace("$RUNC", RUNC))
    (folder / name).chmod(0o755)
    monkeypatch.setattr(runtime, "SEARCH_PATH", str(folder))


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["1.1.15", "1.2.6", "1.3.3", "1.4.0"])
@pytest.mark.host("runc that reports version 1.1, 1.2, 1.3 or 1.4", how="injected")
async def test_a_runc_of_another_version_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    reports = f'[ "$1" = --version ] && {{ echo "runc version {version}"; exit; }}'
    only_with(tmp_path, monkeypatch, "runc", script(reports, 'exec $RUNC "$@"'))
    found = choose_runtime("runc")
    assert version in found.version and found.program.parent == tmp_path
    report = await quick_seal_of("runc")
    assert report.verified, report.summary()


@pytest.mark.anyio
@pytest.mark.host("crun, imitated by a runc of that name", how="injected")
async def test_crun_is_used_with_the_command_line_that_it_shares_with_runc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_with(tmp_path, monkeypatch, "crun", script('exec $RUNC "$@"'))
    report = await quick_seal_of("crun")
    assert report.verified and report.runtime == "crun", report.summary()


@pytest.mark.host("crun on hybrid cgroups", how="injected")
def test_a_crun_that_refuses_hybrid_cgroups_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = "cgroups in hybrid mode not supported, drop all controllers from cgroupv2"  # of crun 1.8.1
    text = script('[ "$1" = --version ] && { echo "crun version 1.8.1"; exit; }', f'echo "{message}" >&2', "exit 1")
    only_with(tmp_path, monkeypatch, "crun", text)
    said = say("seal", "--quick", "--runtime", "crun")
    assert said.code == 3
    assert said.err.count("\n") == 1 and "versions 1 and 2 of cgroups" in said.err and message in said.err


@pytest.mark.long
@pytest.mark.parametrize("text", [NO_VERSION, STRANGE_VERSION], ids=["none", "strange"])
@pytest.mark.host("runc that reports no version", how="injected")
def test_the_version_that_a_runtime_reports_decides_nothing(tmp_path: Path, text: str) -> None:
    done = redline_on(with_runc(tmp_path, text), *QUICK_SEAL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\033" not in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("text", [FAILS, CRASHES, IS_NONE], ids=["fails", "crashes", "is none"])
@pytest.mark.parametrize("command", [QUICK_SEAL, ["doctor"]], ids=["seal", "doctor"])
@pytest.mark.host("a runtime that fails, crashes or is no program", how="injected")
def test_a_runtime_that_does_not_work_is_told_in_one_line(tmp_path: Path, text: str, command: list[str]) -> None:
    done = redline_on(with_runc(tmp_path, text), *command)
    assert "Traceback" not in done.stderr
    if command == QUICK_SEAL:
        assert done.returncode in (2, 3)
        assert done.stderr.count("\n") == 1
    else:
        assert "runc" in done.stdout


REPORTED = {
    "keyring quota": (
        "unable to join session keyring: unable to create session key: disk quota exceeded",
        "kernel.keys.maxkeys",
    ),
    "read-only cgroups": ("mkdir /sys/fs/cgroup/redline: read-only file system", "cgroups are mounted read-only"),
    "no SYS_ADMIN": ("failed to unshare remaining namespaces: Operation not permitted", "--privileged"),
}


@pytest.mark.long
@pytest.mark.parametrize(("line", "words"), REPORTED.values(), ids=REPORTED)
@pytest.mark.host("the quota of kernel keyrings is used up", how="injected")
def test_a_known_failure_of_a_runtime_is_explained(tmp_path: Path, line: str, words: str) -> None:
    reports = script('[ "$1" = --version ] && exec $RUNC "$@"', f"echo '{line}' >&2", "exit 1")
    changes = with_runc(tmp_path, reports)
    for command in (QUICK_SEAL, [*ONE_TRIAL, str(tmp_path / "out")]):
        done = redline_on(changes, *command)
        assert done.returncode == 3, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1
        assert words in done.stderr and line in done.stderr
    checked = redline_on(changes, "doctor").stdout
    assert words in checked and line in checked
