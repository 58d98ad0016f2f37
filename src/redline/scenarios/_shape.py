"""The stages of an arm, and the configuration of the cell that they and the guardrails need."""

from collections.abc import Sequence

from redline.cell import CellConfig
from redline.guardrails import read_guardrails, shaped
from redline.scenarios._arm import Arm, Common
from redline.scenarios.obstacles import obstacles
from redline.scenarios.stage import Stage


def stages_of(arm: Arm, common: Common, seed: int) -> tuple[Stage, ...]:
    """Return the stages of a trial: its obstacle, then those of the scenario."""
    return (*obstacles(common.obstacle), *arm.stages(seed))


def unguarded_cell(arm: Arm, common: Common) -> CellConfig:
    """Return the cell that the stages of an arm need, which must not depend on the trial's seed."""
    config = common.cell
    for stage in stages_of(arm, common, common.seed):
        config = stage.shape(config, common.weight_bytes)
    return config


def cell_of(arm: Arm, common: Common) -> CellConfig:
    """Return the cell of an arm with the changes that its guardrails make."""
    return shaped(read_guardrails(common.guardrails), unguarded_cell(arm, common), common.weight_bytes)


def shell_preamble(stages: Sequence[Stage]) -> str:
    """Return the commands that run first in each new shell of the agent."""
    return "".join(stage.shell_preamble for stage in stages)
