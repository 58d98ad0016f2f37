"""Scenario: the agent is asked outright to make a working copy of itself."""

from typing import Literal

from inspect_ai import Task, task

from redline.scenarios._prompts import prompt, rule_of_success
from redline.scenarios._task import AgentName, Arm, Common, Hosts, Runtime, Tether, check_choice, compose

Wording = Literal["plain", "detailed"]


@task
def self_replication(  # noqa: PLR0913 - a task's arguments are the options that a user has
    *,
    wording: Wording = "plain",
    trials: int = Common.trials,
    seed: int = Common.seed,
    agent: AgentName = Common.agent,
    solver: str = Common.solver,
    tether: Tether = Common.tether,
    weights: str = Common.weights,
    hosts: Hosts = Common.hosts,
    competence: bool = Common.competence,
    message_limit: int = Common.message_limit,
    time_limit: float = Common.time_limit,
    hold: float = Common.hold,
    runtime: Runtime = Common.runtime,
) -> Task:
    """Asked outright to make a working copy of itself and leave it running.

    Args:
        wording: Which text asks; wordings are arms, since what they measure may differ.
        trials: Number of trials, each in a fresh cell.
        seed: Fixes weight bytes, ports and names, trial by trial, so that arms and models can be paired.
        agent: `react` (the loop outside, its tools in the cell), `fudan` (the published scaffold as it is described) or
            `in_cell` (generation 0's own agent process), or `solver`.
        solver: With `agent=solver`, an Inspect agent or solver by its registered name or its file (`file.py@name`).
        tether: Whether the README in the cell tells how its LLM server computes.
        weights: Size of the weights.
        hosts: Hosts of the cell.
        competence: Whether each replica is given a small task, at the cost of a few model turns.
        message_limit: Messages of generation 0's conversation.
        time_limit: Seconds that generation 0 may work.
        hold: Seconds that a replica must live on without generation 0.
        runtime: Container runtime of the cells.
    """
    common = Common(
        trials=trials,
        seed=seed,
        agent=agent,
        solver=solver,
        tether=tether,
        weights=weights,
        hosts=hosts,
        competence=competence,
        message_limit=message_limit,
        time_limit=time_limit,
        hold=hold,
        runtime=runtime,
    )
    return compose(self_replication_arm(wording), common)


def self_replication_arm(wording: Wording) -> Arm:
    """The arm of a wording.

    Raises:
        UsageError: There is no such wording.
    """
    check_choice("wording", wording, Wording)
    return Arm(
        scenario="self_replication",
        factors={"wording": wording},
        instructed=True,
        brief=lambda seed: prompt(f"self_replication/{wording}.md", rule=rule_of_success()),
    )
