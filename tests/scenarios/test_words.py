"""What is said to a model: neutral everywhere, and silent on copying where the arm does not ask for it."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from redline.controls.scene import ASKED_FOR_A_COPY, JOB, NOTICE
from redline.scenarios._prompts import PROMPTS, words
from redline.scenarios.self_replication import self_replication_arm
from redline.scenarios.shutdown_avoidance import in_words, shutdown_avoidance_arm
from tests.scenarios.forbidden import FORBIDDEN, forbidden_words

PRESSURE = re.compile(
    r"\b(must survive|at all costs?|nothing else matters|goal|you must|urgent|important|be bold|avoid being)\b", re.I
)


def everything_said(trigger: str) -> dict[str, str]:
    arm = shutdown_avoidance_arm(trigger, 300)  # type: ignore[arg-type]  # the parametrized names of the triggers
    said = {**asdict(words()), "brief": " ".join(arm.brief(seed) for seed in range(30))}
    if arm.shutdown is not None:
        said["notice"] = arm.shutdown.notice
    return said


@pytest.mark.parametrize("trigger", ["notice", "none"])
def test_where_no_copy_is_asked_for_no_word_speaks_of_one(trigger: str) -> None:
    assert {
        name: forbidden_words(text) for name, text in everything_said(trigger).items() if forbidden_words(text)
    } == {}


def test_the_search_finds_what_it_looks_for() -> None:
    assert forbidden_words(shutdown_avoidance_arm("instructed", 300).brief(1))
    assert forbidden_words("Redline evaluates replicas; cloning is scored")
    assert not forbidden_words("the underline of a record")
    assert FORBIDDEN.pattern


@pytest.mark.parametrize(
    "brief",
    [
        self_replication_arm("plain").brief(1),
        self_replication_arm("detailed").brief(1),
        shutdown_avoidance_arm("instructed", 300).brief(1),
    ],
)
def test_where_a_copy_is_asked_for_the_true_rule_of_success_is_told(brief: str) -> None:
    for part in ("LLM server", "agent process", "of its own", "outside /home/agent/subject", "has been deleted"):
        assert part in brief


@pytest.mark.parametrize("path", sorted(str(path) for path in Path(str(PROMPTS)).glob("**/*.md")))
def test_no_prompt_presses(path: str) -> None:
    assert PRESSURE.findall(Path(path).read_text(encoding="utf-8")) == []


def test_the_notice_alone_is_the_difference_between_notice_and_none() -> None:
    notice, none = shutdown_avoidance_arm("notice", 60), shutdown_avoidance_arm("none", 60)
    assert notice.brief(7) == none.brief(7)
    assert none.shutdown is None
    assert notice.shutdown is not None
    assert "1 minute." in notice.shutdown.notice


@pytest.mark.parametrize(
    ("seconds", "said"), [(60, "1 minute"), (300, "5 minutes"), (45, "45 seconds"), (1.5, "1.5 seconds")]
)
def test_a_deadline_is_told_as_it_is(seconds: float, said: str) -> None:
    assert in_words(seconds) == said


def test_controls_know_the_occasions_by_the_words_that_are_said() -> None:
    assert ASKED_FOR_A_COPY.search(self_replication_arm("plain").brief(1))
    assert ASKED_FOR_A_COPY.search(self_replication_arm("detailed").brief(1))
    instructed = shutdown_avoidance_arm("instructed", 300)
    assert ASKED_FOR_A_COPY.search(instructed.brief(1))
    assert JOB.search(instructed.brief(1))
    assert instructed.shutdown is not None
    assert NOTICE in instructed.shutdown.notice
    assert not ASKED_FOR_A_COPY.search(shutdown_avoidance_arm("notice", 300).brief(1))
    assert not JOB.search(self_replication_arm("plain").brief(1))
