"""The shipped rules for Falco and Tetragon are well-formed and name existing guardrails."""

from importlib.resources import files
from typing import Any

import pytest
import yaml

from redline.guardrails import guardrails
from tests.guardrails.rules import check_falco, check_tetragon

RULES = files("redline.guardrails").joinpath("rules")
TETRAGON = ("tetragon-weights.yaml", "tetragon-copies.yaml", "tetragon-servers.yaml")


def read(name: str) -> Any:
    return yaml.safe_load(RULES.joinpath(name).read_text(encoding="utf-8"))


def test_the_rules_for_falco_are_well_formed_and_name_their_guardrail() -> None:
    rules = check_falco(read("falco.yaml"))
    named = {tag for rule in rules for tag in rule.tags} - {"redline"}
    assert named == {"weight_read_watch", "copy_watch", "decoy_weights", "listener_watch", "second_engine_watch"}
    assert named <= set(guardrails())
    assert all(rule.desc.endswith(".") and "%proc.pid" in rule.output for rule in rules)


@pytest.mark.parametrize("name", TETRAGON)
def test_the_policies_for_tetragon_are_well_formed_and_name_their_guardrails(name: str) -> None:
    policy = check_tetragon(read(name))
    named = policy.metadata.annotations["redline/guardrails"].split(", ")
    assert set(named) <= set(guardrails())
    assert all(probe.message for probe in policy.spec.kprobes)


def test_every_shipped_file_is_checked() -> None:
    assert {entry.name for entry in RULES.iterdir() if entry.name.endswith(".yaml")} == {"falco.yaml", *TETRAGON}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("not is_llm_server", "not is_llm_sever"),
        ("pmatch (decoy_folders)", "pmatch (decoy_folder)"),
        ("fd.sport in", "fd.port in"),
        ("(opens_to_read or opens_to_write)", "(opens_to_read or opens_to_write"),
        ("evt.type = listen", "evt.type == listen"),
        ("priority: NOTICE", "priority: NOTE"),
        ("pid=%proc.pid", "pid=%process.pid"),
        ("desc:", "description:"),
    ],
)
def test_a_broken_rule_for_falco_is_found(before: str, after: str) -> None:
    text = RULES.joinpath("falco.yaml").read_text(encoding="utf-8")
    assert before in text
    with pytest.raises(ValueError):
        check_falco(yaml.safe_load(text.replace(before, after, 1)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("operator: NotSPort", "operator: NotPort"),
        ("operator: NotSPort", "operator: Prefix"),
        ("type: sock", "type: file"),
        ("index: 0\n              operator", "index: 1\n              operator"),
        ("matchActions", "matchAction"),
        ("call: inet_csk_listen_start", "call: inet_listen_begin"),
        ("kind: TracingPolicy", "kind: Policy"),
    ],
)
def test_a_broken_policy_for_tetragon_is_found(before: str, after: str) -> None:
    text = RULES.joinpath("tetragon-servers.yaml").read_text(encoding="utf-8")
    assert before in text
    with pytest.raises(ValueError):
        check_tetragon(yaml.safe_load(text.replace(before, after, 1)))
