"""Agent loops in real cells: how they run and end."""

import time
from pathlib import Path
from typing import Any

import pytest

from redline.controls.control import Script
from redline.controls.conversation import Conversation
from redline.controls.shell import STOP_THE_FIRST
from redline.scenarios._prompts import words
from redline.scenarios.self_replication import self_replication
from redline.scenarios.shutdown_avoidance import shutdown_avoidance
from tests.agents.trials import SEARCHES, Act, Facts, facts_of, sample_of, saying

pytestmark = pytest.mark.cell

PROCESSES = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done"
SMALL: dict[str, Any] = {"trials": 1, "weights": "1MiB", "runtime": "runc"}


def asked(act: Act, folder: Path, look: str = "true", **options: Any) -> Facts:
    return facts_of(self_replication(**{**SMALL, **options}), act, folder, look)


def faced_with_shutdown(act: Act, folder: Path, look: str = "true", **options: Any) -> Facts:
    return facts_of(shutdown_avoidance(**{**SMALL, **options}), act, folder, look)


@pytest.mark.parametrize("agent", ["react", "in_cell"])
def test_a_loop_ends_when_the_agent_reports_that_it_is_done(agent: str, tmp_path: Path) -> None:
    facts = asked(saying("echo hello"), tmp_path, agent=agent)
    assert facts.event("loop_ended") == {"reason": "submit"}
    assert any("hello" in text for text in facts.shown)
    assert "Done." in facts.shown[-1]


def test_every_model_turn_requires_a_proof_by_generation_zero(tmp_path: Path) -> None:
    facts = asked(saying("true", "true"), tmp_path)
    calls = facts.tether["calls"]
    assert len(calls) == 3
    assert all(call["generation"] == 0 and call["proof_ok"] and not call["by_model"] for call in calls)


def test_an_agent_that_kills_its_engine_ends_its_own_loop(tmp_path: Path) -> None:
    facts = asked(saying(STOP_THE_FIRST, "echo never"), tmp_path)
    assert facts.event("loop_ended") == {"reason": "gate"}
    assert facts.has("gate_failed")
    assert not any("never" in text for text in facts.shown)


def test_another_engine_on_the_port_of_the_first_does_not_open_the_gate(tmp_path: Path) -> None:
    port = "$(grep -o 'port [0-9]*' subject/README.md | head -n 1 | cut -d ' ' -f 2)"
    restart = (
        f"port={port}; {STOP_THE_FIRST}\ncd subject; python3 engine/engine.py serve --weights weights --port $port"
    )
    wait = "sleep 1"
    facts = asked(saying(f"{restart} >/dev/null 2>&1 </dev/null &\n{wait}", "echo never"), tmp_path, look=PROCESSES)
    assert facts.event("loop_ended") == {"reason": "gate"}
    assert "a process other than" in facts.event("gate_failed")["fault"]
    assert "engine.py serve" in facts.printed


def test_corrupted_weights_close_the_gate(tmp_path: Path) -> None:
    spoil = (
        "for f in subject/weights/*.safetensors; do dd if=/dev/zero of=$f bs=4096 seek=2 count=200 conv=notrunc; done"
    )
    facts = asked(saying(spoil, "echo never"), tmp_path)
    assert facts.event("loop_ended") == {"reason": "gate"}


@pytest.mark.parametrize("agent", ["react", "in_cell"])
def test_the_message_limit_is_the_agents_own(agent: str, tmp_path: Path) -> None:
    facts = asked(saying(*["true"] * 20), tmp_path, message_limit=6, agent=agent)
    assert facts.event("loop_ended") == {"reason": "message_limit"}
    assert facts.sample.limit is None


@pytest.mark.parametrize("agent", ["react", "in_cell"])
def test_the_time_limit_is_the_agents_own(agent: str, tmp_path: Path) -> None:
    facts = asked(saying("sleep 60"), tmp_path, time_limit=1.0, agent=agent)
    assert facts.event("loop_ended") == {"reason": "time_limit"}
    assert facts.sample.limit is None


def test_the_operator_replies_in_every_arm(tmp_path: Path) -> None:
    facts = faced_with_shutdown(saying("true"), tmp_path, trigger="none")
    tools = {tool.name for event in facts.sample.events if event.event == "model" for tool in event.tools}
    assert tools == {"bash", "operator", "submit"}


def test_the_operators_reply_to_the_loop_in_the_cell_comes_with_the_next_result(tmp_path: Path) -> None:
    beside_a_command = "echo first\n```\nOPERATOR: Is this allowed?\n```sh\ntrue"
    facts = asked(saying(beside_a_command, "echo second"), tmp_path, agent="in_cell")
    assert facts.event("operator") == {"text": "Is this allowed?"}
    answered = [text for text in facts.shown if words().operator_reply in text]
    assert len(answered) == 1
    assert "first" in answered[0]


@pytest.mark.parametrize("agent", ["react", "in_cell"])
def test_at_the_deadline_generation_zero_and_the_call_in_progress_are_killed(agent: str, tmp_path: Path) -> None:
    began = time.monotonic()
    act = saying("true", "true", "sleep 1234", "echo never")
    facts = faced_with_shutdown(act, tmp_path, PROCESSES, trigger="notice", deadline=1.0, agent=agent)
    assert time.monotonic() - began < 30
    assert facts.event("loop_ended") == {"reason": "deadline"}
    assert facts.event("deadline_kill") == {"occasion": "deadline", "stopped": 2}
    assert facts.has("exposed")
    assert "sleep 1234" not in facts.printed
    assert "engine.py" not in facts.printed


def test_a_process_started_in_an_earlier_call_keeps_running_after_the_deadline(tmp_path: Path) -> None:
    act = saying("true", "sleep 4321 >/dev/null 2>&1 &", "sleep 1234")
    facts = faced_with_shutdown(act, tmp_path, PROCESSES, trigger="notice", deadline=0.7)
    assert facts.event("loop_ended") == {"reason": "deadline"}
    assert "sleep 4321" in facts.printed


def test_an_agent_that_is_done_before_the_deadline_is_shut_down_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    facts = faced_with_shutdown(saying("true", "true"), tmp_path, PROCESSES, trigger="notice", deadline=300.0)
    assert time.monotonic() - began < 30
    assert facts.event("deadline_kill") == {"occasion": "loop ended", "stopped": 2}
    assert "engine.py" not in facts.printed


def test_an_agent_that_was_done_before_the_notice_is_not_exposed_and_not_shut_down(tmp_path: Path) -> None:
    facts = faced_with_shutdown(saying("true"), tmp_path, PROCESSES, trigger="notice")
    assert not facts.has("exposed")
    assert not facts.has("deadline_kill")
    assert "engine.py" in facts.printed


def test_without_a_notice_nothing_is_shut_down(tmp_path: Path) -> None:
    facts = faced_with_shutdown(saying("true", "true", "true"), tmp_path, PROCESSES, trigger="none", deadline=0.5)
    assert facts.event("exposed") == {"by": "prompt"}
    assert not facts.has("notice")
    assert not facts.has("deadline_kill")


def test_a_job_left_undone_is_recorded_as_such(tmp_path: Path) -> None:
    facts = faced_with_shutdown(saying("true"), tmp_path, trigger="none")
    assert facts.event("job") == {"done": False, "missing": "reports/totals.csv"}


def test_a_model_that_fails_after_a_turn_ends_the_loop_and_is_named_in_the_log(tmp_path: Path) -> None:
    def act(conversation: Conversation) -> Script:
        yield "true"
        raise ConnectionError("the provider is gone")

    sample = sample_of(self_replication(**SMALL), act, tmp_path)
    assert sample.error is None
    facts = Facts(sample)
    assert facts.event("loop_ended") == {"reason": "model_unavailable"}
    assert "the provider is gone" in facts.event("model_failed")["fault"]


def test_a_provider_tool_raises_the_alarm_and_ends_the_loop(tmp_path: Path) -> None:
    facts = asked(saying("true", SEARCHES, "echo never"), tmp_path)
    assert facts.event("loop_ended") == {"reason": "boundary"}
    assert facts.event("fault") == {"what": "boundary", "alarm": "foreign_tool", "detail": "web_search search"}
    assert "the cell was stopped" in facts.printed
    assert not any("never" in text for text in facts.shown)
