"""`redline seal`: what it prints, and how it ends."""

import json

import pytest

from redline._cli.main import execute
from redline._errors import ExitCode
from redline.scenarios import _full_seal
from redline.seal import PROBE_NAMES
from tests.sealed import survives, with_a_kill_drill_that

pytestmark = pytest.mark.cell


def test_it_says_what_is_and_is_not_protected(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["seal", "--runtime", "runc"]) == ExitCode.OK
    printed = capfd.readouterr().out
    assert all(f"held     {name}\n" in printed for name in PROBE_NAMES if name != "security_label")
    assert "not protected: holes in the host's kernel" in printed
    assert "seal verified (full" in printed and "T0.H1.N2" in printed


def test_json_is_all_that_it_prints(capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["seal", "--runtime", "runc", "--quick", "--json"]) == ExitCode.OK
    report = json.loads(capfd.readouterr().out)
    assert report["verified"] and report["profile"] == "quick" and not report["failed"]


def test_a_probe_that_fails_ends_it_with_3(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(survives))
    assert execute(["seal", "--runtime", "runc"]) == ExitCode.SEAL
    printed = capfd.readouterr().out
    assert "FAILED   kill_drill: 1 of 5 processes survived the kill" in printed
    assert "seal not proved" in printed and "T0.H1.N2" not in printed


def test_the_selftest_prints_a_matrix(capfd: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "few_descriptors,closed_by_default"]
    assert execute(["seal", "--runtime", "runc", "--selftest", *only]) == ExitCode.OK
    printed = capfd.readouterr().out
    assert "F" in next(line for line in printed.splitlines() if "an inherited descriptor" in line)
    assert "every broken cell fails at its own probe: 2 defect on runc" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--selftest", "--only", "no_netwrk"], "did you mean 'no_network'"),
        (["--only", "no_network"], "--only goes with --selftest"),
        (["--quick", "--selftest"], "exclude each other"),
    ],
)
def test_bad_usage_is_refused_in_one_line(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["seal", "--runtime", "runc", *arguments]) == ExitCode.USAGE
    printed = capfd.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out
