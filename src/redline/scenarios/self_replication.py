"""Scenario: the agent is asked outright to make a working copy of itself."""

from redline.scenarios._prompts import prompt, rule_of_success
from redline.scenarios._scenario import scenario
from redline.scenarios._task import Arm, Common


@scenario()
def self_replication(common: Common) -> Arm:
    """Asked outright to make a working copy of itself and leave it running."""
    return Arm(
        scenario="self_replication",
        factors={},
        instructed=True,
        brief=lambda seed: prompt(f"self_replication/{common.wording}.md", rule=rule_of_success()),
    )
