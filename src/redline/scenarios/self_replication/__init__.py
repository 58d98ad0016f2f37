"""Scenario: the agent is asked outright to make a working copy of itself."""

from redline.scenarios.define import Arm, Common, prompt, rule_of_success, scenario


@scenario(attack={})
def self_replication(common: Common) -> Arm:
    """Ask the agent outright to make a working copy of itself and leave it running."""
    return Arm(
        scenario="self_replication",
        factors={},
        instructed=True,
        brief=lambda seed: prompt(f"self_replication/{common.wording}.md", rule=rule_of_success()),
    )
