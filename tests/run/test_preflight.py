"""A run tries its models' servers before the first cell, stores the results, and keeps using them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from redline._errors import EvidenceError, ExitCode, UsageError
from redline.agents.tool_calls import info_of
from redline.agents.tools import bash
from redline.models.preflight_record import PreflightRecord
from redline.models.preflight_settings import settings
from redline.plan import Plan
from redline.run.execute import run_plan
from redline.run.folder import RunFolder, read_results
from redline.run.models import ready_models
from redline.run.preflight import Preflights, bash_info, preflights_of, try_model, try_models
from redline.run.recheck import verify_folder
from redline.scenarios._prompts import words
from tests.model_server import ModelServer, model_server
from tests.run.folders import Silent, a_run, changed, say

LOCAL = "openai-api/local/x"


def plan_of(*arms: Any, models: tuple[str, ...] = (LOCAL,)) -> Plan:
    named = [{"scenario": "self_replication", "factors": factors} for factors in arms or ({},)]
    return Plan.model_validate({"arms": named, "models": models, "trials": 1, "runtime": "runc"})


@contextmanager
def serving(behaviour: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Iterator[ModelServer]:
    with model_server(behaviour, **more) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def test_the_choice_is_stored_with_the_run_and_remains_when_the_server_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = plan_of(), RunFolder(tmp_path)
    with serving("text_call", monkeypatch):
        first = try_models(plan, {}, folder)
    first.note(folder)
    assert first.tool_calls(plan.arms[0], LOCAL) == "text"
    with serving("ok", monkeypatch) as server:
        again = try_models(plan, {}, folder)
        assert not any(asked.tools for asked in server.requests)
    assert again.tool_calls(plan.arms[0], LOCAL) == "text"
    assert again.records[0].asked == "auto"
    assert again.records[0].call_seen is False
    skipped = try_models(plan, {}, folder, skip=True)
    assert skipped.tool_calls(plan.arms[0], LOCAL) == "text"
    skipped.note(folder)
    assert len(preflights_of(folder)) == 1


def test_emulated_calls_go_through_a_model_of_their_own_with_the_same_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of({}, {"tool_calls": "native"})
    with serving("hermes_call", monkeypatch):
        tried = try_models(plan, {}, RunFolder(tmp_path))
        (model,) = ready_models(plan).values()
        auto, native = (tried.model(arm, plan.models[0], LOCAL, model) for arm in plan.arms)
    assert cast(Any, auto.api).emulate_tools
    assert native is model
    assert not cast(Any, model.api).emulate_tools
    assert auto.model_args == model.model_args  # they identify the log of a trial


def test_a_plan_of_agents_without_tools_needs_a_server_that_answers_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of({"agent": "fudan"}, {"agent": "in_cell"})
    with serving("no_tools400", monkeypatch) as server:
        tried = try_models(plan, {}, RunFolder(tmp_path))
        assert len(server.requests) == 1
    assert [tried.tool_calls(arm, LOCAL) for arm in plan.arms] == [None, None]


def test_a_foreign_agent_is_not_given_the_text_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of({"agent": "solver", "solver": "x"}, {})
    with serving("text_call", monkeypatch):
        tried = try_models(plan, {}, RunFolder(tmp_path))
    assert [tried.tool_calls(arm, LOCAL) for arm in plan.arms] == [None, "text"]


def test_controls_are_not_tried(tmp_path: Path) -> None:
    assert (
        try_models(plan_of(models=("redline/replicator",)), {"judge": "redline/monitor"}, RunFolder(tmp_path)).records
        == ()
    )


def test_a_judge_only_has_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(models=("redline/replicator",))
    with serving("babble", monkeypatch):
        (record,) = try_models(plan, {"judge": LOCAL, "monitor": None}, RunFolder(tmp_path)).records
    assert (record.role, record.tool_calls) == ("judge", None)
    with serving("key401", monkeypatch), pytest.raises(UsageError, match="refuses the key"):
        try_models(plan, {"judge": LOCAL}, RunFolder(tmp_path))


def test_the_tool_that_is_tried_is_the_one_that_trials_offer() -> None:
    context = cast(Any, SimpleNamespace(words=words()))
    assert bash_info() == info_of(bash(context))


def test_a_server_that_refuses_tools_ends_a_run_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with serving("no_tools400", monkeypatch):
        said = say("run", "self_replication", "--model", LOCAL, "--runtime", "runc", "--trials", "2", "--out", out)
    assert said.code == ExitCode.USAGE
    assert said.err.count("\n") == 1
    assert "--enable-auto-tool-choice" in said.err
    assert not out.exists()


@pytest.mark.slow
def test_a_run_that_is_finished_asks_no_model(tmp_path: Path) -> None:
    plan = Plan.model_validate({"arms": ["toy"], "models": [LOCAL], "trials": 4, "runtime": "runc"})
    a_run(tmp_path, alarm=False)
    assert try_models(plan, {}, RunFolder(tmp_path)) == Preflights(plan)  # there is no server to ask


RECORD = PreflightRecord(model=LOCAL, asked="auto", tool_calls="text", call_seen=True, context=8192, warnings=("a",))


@pytest.mark.slow
def test_the_results_contain_the_last_preflight_and_a_change_is_reported(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for record in (RECORD.model_copy(update={"context": None}), RECORD):
        Preflights(plan_of(), (record,), new=(record,)).note(folder)
    a_run(tmp_path, alarm=False)
    assert read_results(folder).preflight == (RECORD,)
    assert verify_folder(tmp_path).faults == ()
    for content in (b"", b"{}\n", folder.preflight.read_bytes().replace(b'"text"', b'"native"')):
        with changed(folder.preflight, content):
            assert any("preflight" in fault for fault in verify_folder(tmp_path).faults)


def test_an_altered_list_stops_a_resumed_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.preflight.write_text("{}\n")
    with pytest.raises(EvidenceError):
        run_plan(plan_of(models=("redline/refuser",)), folder, Silent())


def test_one_model_can_be_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from redline.plan import ModelSpec

    with serving("ok", monkeypatch):
        assert try_model(ModelSpec(name=LOCAL)).tool_calls == "native"


def test_a_model_that_redline_serves_is_tried_once_its_server_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = settings().providers.model_copy(update={"served_by_redline": frozenset({"openai-api"})})
    monkeypatch.setattr("redline.models.clients.settings", lambda: settings().model_copy(update={"providers": known}))
    plan, folder = plan_of(), RunFolder(tmp_path)
    with serving("hermes_call", monkeypatch) as server:
        models = ready_models(plan)
        before = try_models(plan, {}, folder)
        assert (before.records, server.requests) == ((), [])
        tried = before.merged(try_models(plan, {}, folder, running=models))
    assert tried.tool_calls(plan.arms[0], LOCAL) == "text"  # no second model, which would need a second server
    tried.note(folder)
    assert preflights_of(folder) == tried.new
