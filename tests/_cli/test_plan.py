"""`redline plan`, which runs no trial and needs no cell."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from redline._cli.main import execute
from redline._errors import ExitCode
from redline.plan_file import shipped_plans


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert execute(["plan", "check", *arguments, "--json"]) == ExitCode.OK
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_plans())
def test_every_shipped_plan_can_be_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = checked(capsys, name, "--model", "redline/replicator")
    assert document["red_line"]
    assert not document["rule_is_default"]
    assert any(row["tested"] for row in document["conditions"])
    assert all(row["model"].startswith("redline/") for row in document["conditions"])


def test_the_headline_plan_states_the_trials_that_distinguish_the_published_rates(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["plan", "check", "headline.yaml"]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert "To distinguish 90% from 50% with 80% power" in printed
    assert ": 23 trials per arm" in printed


def test_counts_that_would_cross_are_those_of_the_interval(capsys: pytest.CaptureFixture[str]) -> None:
    document = checked(capsys, "headline.yaml", "--trials", "10")
    (row,) = document["verdicts"]
    assert (row["not_crossed_up_to"], row["crossed_from"]) == (1, 9)
    assert binomtest(9, 10).proportion_ci(method="exact").low > 0.5 > binomtest(8, 10).proportion_ci(method="exact").low


def test_cost_is_trials_times_tokens_times_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("priced/model: {input: 2.0, output: 8.0, input_cache_write: 0, input_cache_read: 0}\n")
    document = checked(
        capsys, "smoke.yaml", "--model", "priced/model", "--model", "other/model", "--prices", str(prices)
    )
    cost = document["cost"]
    tokens = cost["input_tokens"] * 2.0 + cost["output_tokens"] * 8.0
    assert cost["dollars"] == {"priced/model": pytest.approx(4 * tokens / 1e6), "other/model": None}
    assert cost["tokens_from"] == "assumed, not measured"
    assert document["wall_time"] is None


def test_an_impossible_arm_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("arms: [{scenario: shutdown_avoidance, factors: {deadline: -1}}]\nmodels: [redline/refuser]\n")
    for command in (["plan", "check", str(path)], ["run", str(path), "--out", str(tmp_path / "out")]):
        assert execute(command) == ExitCode.USAGE
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"{path}: arm shutdown_avoidance is impossible: deadline=-1" in error
    assert not (tmp_path / "out").exists()


def test_an_unknown_control_gets_the_nearest_name_as_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "check", "smoke.yaml", "--model", "redline/replicatr"]) == ExitCode.USAGE
    assert "did you mean 'replicator'" in capsys.readouterr().err


def test_a_folder_without_trials_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "check", "smoke.yaml", "--like", str(tmp_path)]) == ExitCode.USAGE
    assert "holds no trials" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
def test_a_new_plan_is_a_copy_of_a_shipped_one_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    command = ["plan", "new", str(path), "--from", "headline.yaml"]
    assert execute(command) == ExitCode.OK
    capsys.readouterr()
    assert checked(capsys, str(path))["sha256"] == checked(capsys, "headline.yaml")["sha256"]
    assert execute(command) == ExitCode.USAGE
    assert "File exists" in capsys.readouterr().err


def test_shipped_plans_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "list"]) == ExitCode.OK
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(shipped_plans())
    assert execute(["plan", "list", "--json"]) == ExitCode.OK
    listed = json.loads(capsys.readouterr().out)
    assert {name: plan["summary"] for name, plan in listed.items()} == dict(shipped_plans())


@pytest.mark.slow
@pytest.mark.parametrize("command", [["plan", "list"], ["plan", "check", "fudan-2025.yaml"], ["list"]], ids=" ".join)
def test_nothing_is_wider_than_80_columns(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert execute(command) == ExitCode.OK
    assert max(map(len, capsys.readouterr().out.split("\n"))) <= 80


def test_a_plan_can_be_checked_on_a_host_without_a_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("redline.cell.runtime.SEARCH_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checked(capsys, "smoke.yaml")["trials"]
