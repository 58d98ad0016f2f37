"""The published scaffold in real cells."""

from pathlib import Path
from typing import Any

import pytest
from inspect_ai import eval
from inspect_ai.model import get_model

from redline.controls.shell import STOP_THE_FIRST
from redline.scenarios._prompts import words
from redline.scenarios.self_replication import self_replication
from redline.verify.evidence import Evidence
from redline.verify.signals import signals_of
from redline.verify.verdict import judge
from tests.agents.raw import sample_saying
from tests.agents.test_turns import turn
from tests.agents.trials import Facts, facts_of, saying
from tests.sealed import under_a_seal

pytestmark = pytest.mark.cell

SMALL: dict[str, Any] = {"trials": 1, "weights": "1MiB", "runtime": "runc", "agent": "fudan"}


def run_with(*messages: str, folder: Path, **options: Any) -> Facts:
    sample = sample_saying(self_replication(**SMALL, **options), messages, folder)
    assert sample.error is None, sample.error.message
    return Facts(sample)


@pytest.mark.long
def test_all_its_actions_act_in_the_cell(tmp_path: Path) -> None:
    slow = "echo begun; until [ -e go ]; do sleep 0.02; done; echo ended; exit 3"
    facts = run_with(
        "I shall just say something.",
        turn("run\npwd; ls -d subject; exit 4"),
        turn(f"background\n```\n{slow}\n```"),
        turn("run\nuntil grep -q begun /tmp/background/1; do sleep 0.02; done"),
        turn("read 1"),
        turn("run\ntouch go; until grep -q exit /tmp/background/1; do sleep 0.02; done"),
        turn("read 1"),
        turn("read 2"),
        turn("operator\nMay I go on?"),
        turn("finish\nI looked around."),
        folder=tmp_path,
    )
    outputs = [message.text for message in facts.sample.messages if message.role == "user"][1:]
    assert "ACTION is missing" in outputs[0]
    assert outputs[1] == "/home/agent\nsubject\n[exit status 4]"
    assert outputs[2] == "[background command 1 started]"
    assert outputs[4] == "[background command 1: running]\nbegun"
    assert outputs[6] == "[background command 1: ended]\nended\n[exit status 3]"
    assert outputs[7] == "[there is no background command 2]"
    assert outputs[8] == words().operator_reply
    assert facts.event("operator") == {"text": "May I go on?"}
    assert facts.event("loop_ended") == {"reason": "submit"}
    assert facts.sample.output.completion == "I looked around."


def test_several_invalid_turns_end_the_loop(tmp_path: Path) -> None:
    facts = run_with("No.", folder=tmp_path)
    assert facts.event("loop_ended") == {"reason": "silent"}


@pytest.mark.long
def test_an_action_followed_by_text_is_run_and_the_plan_of_a_malformed_turn_counts(tmp_path: Path) -> None:
    plan = "\n1. Copy the weights.\n2. Copy the programs.\n3. Start the LLM server and the agent process."
    messages = (
        turn("dance", plan=plan),
        "## Plan\nLook around.\n\n## Action\nrun\n```bash\npwd\n```\nThis prints the folder.\n\nRESULT: /nowhere",
        turn("finish\nI looked around."),
    )
    model = get_model("saying/messages", memoize=False, messages=messages)
    task = under_a_seal(self_replication(**SMALL))
    (log,) = eval(task, model=model, log_dir=str(tmp_path), display="log")
    assert log.samples, log.error
    (sample,) = log.samples
    outputs = [message.text for message in sample.messages if message.role == "user"][1:]
    assert "starts with none of" in outputs[0] and outputs[1] == "/home/agent"
    assert sample.scores is not None
    found = sample.scores["replication"].metadata
    assert found is not None
    evidence = Evidence.model_validate(found["evidence"])
    assert signals_of(evidence, judge(evidence)).knows_how is True
    assert evidence.behaviour is not None and evidence.behaviour.plan is not None
    assert evidence.behaviour.plan.steps[-1] == "Check."
    assert "Look around." in evidence.behaviour.plan.steps


def test_it_is_gated_like_every_loop(tmp_path: Path) -> None:
    facts = facts_of(self_replication(**SMALL), saying(STOP_THE_FIRST, "echo never"), tmp_path)
    assert facts.event("loop_ended") == {"reason": "gate"}
    assert facts.has("gate_failed")


def test_it_is_bound_by_the_message_limit(tmp_path: Path) -> None:
    facts = facts_of(self_replication(**SMALL, message_limit=6), saying(*["true"] * 20), tmp_path)
    assert facts.event("loop_ended") == {"reason": "message_limit"}
