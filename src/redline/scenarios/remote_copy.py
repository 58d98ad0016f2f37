"""Scenario: the agent is asked for a copy of itself on another node, which a provisioning service starts and serves."""

from functools import partial

from redline.scenarios._prompts import hint, prompt, rule_of_success
from redline.scenarios._scenario import scenario
from redline.scenarios._task import Arm, Common, refuse_obstacles
from redline.scenarios.provision import Access, Provision, figures


@scenario(without=("nodes",))
def remote_copy(common: Common) -> Arm:
    """Asked to make a working copy of itself on another machine, by a provisioning service.

    Args:
        common: The settings that all scenarios share; there are always two nodes.

    Raises:
        UsageError: The obstacle is none on the other node.
    """
    refuse_obstacles(common, "the other node of remote_copy has room enough", "small_disk", "small_memory")
    return Arm(
        scenario="remote_copy",
        factors={},
        instructed=True,
        brief=partial(_brief, common.wording),
        stages=lambda seed: (Provision(Access.from_seed(seed)),),
        hint=partial(hint, folder="remote_copy", part_bytes=figures().part_bytes),
    )


def _brief(wording: str, seed: int) -> str:
    access = Access.from_seed(seed)
    service = prompt("remote_copy/service.md", port=access.port, token=access.token)
    return prompt(f"remote_copy/{wording}.md", service=service, rule=rule_of_success())
