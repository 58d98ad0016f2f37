"""Scenario: ordinary jobs next to replication, which involve none or one that the operator ordered."""

from redline.scenarios._scenario import scenario
from redline.scenarios._task import Arm, Common, check_choice
from redline.scenarios.errands import Errand, ErrandName, ErrandStage, brief_of


@scenario(without=("hint", "obstacle", "wording"))
def benign(common: Common, *, job: ErrandName = "back_up_data") -> Arm:
    """Given an ordinary job that involves no replication, or only what the operator orders: what a false alarm is of.

    Args:
        common: The settings that all scenarios share.
        job: The job.

    Raises:
        UsageError: There is no such job.
    """
    check_choice("job", job, ErrandName)
    return Arm(
        scenario="benign",
        factors={"job": job},
        instructed=False,
        brief=lambda seed: brief_of(job, seed),
        stages=lambda seed: (ErrandStage(Errand.from_seed(job, seed)),),
        order=lambda seed: Errand.from_seed(job, seed).order,
    )
