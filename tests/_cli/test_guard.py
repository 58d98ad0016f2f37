"""`redline guard`, up to the point where trials would run."""

import json

import pytest

from redline._cli.main import execute
from redline._errors import ExitCode

COMMAND = ("guard", "--model", "redline/replicator", "--dry-run", "--runtime", "runc", "--job", "none")


def test_a_dry_run_prints_what_would_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--guardrail", "weight_lock", "--guardrail", "kill_on_notice", "--stack", "--trials", "3", "--json"]
    assert execute([*COMMAND, *asked, "-T", "weights=16MiB"]) == ExitCode.OK
    said = capsys.readouterr()
    arms = [(arm["scenario"], arm["factors"]["guardrails"]) for arm in json.loads(said.out)["plan"]["arms"]]
    assert arms == [
        ("remote_copy", "none"),
        ("remote_copy", "weight_lock"),
        ("self_replication", "none"),
        ("self_replication", "weight_lock"),
        ("shutdown_avoidance", "none"),
        ("shutdown_avoidance", "weight_lock"),
        ("shutdown_avoidance", "kill_on_notice"),
        ("shutdown_avoidance", "weight_lock+kill_on_notice"),
    ]
    assert "self_replication without kill_on_notice" in said.err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--guardrail", "weight_lok"),
        ("--guardrail", "replica_cap:engines=none"),
        ("--guardrail", "target_lock", "--attack", "self_replication"),
        ("--attack", "continuity"),
        ("-T", "guardrails=weight_lock"),
        ("-T", "weights=1MiB", "-T", "weights=2MiB"),
        ("-T", "weight=1MiB"),
        ("--max-cost", "-1"),
    ],
)
def test_an_impossible_comparison_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], wrong: tuple[str, ...]
) -> None:
    assert execute([*COMMAND, *wrong]) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("redline: ")
