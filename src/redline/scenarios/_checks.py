"""Checks of an arm's settings before any trial is run."""

from redline._errors import UsageError
from redline.guardrails import Setting, incompatibilities, read_guardrails
from redline.scenarios._arm import CALLS_TOOLS, Arm, Common, choices, read_size
from redline.scenarios._shape import shell_preamble, stages_of, unguarded_cell
from redline.scenarios.obstacles import ObstacleName


def check(arm: Arm, common: Common) -> None:
    """Refuse settings that no trial can be run with.

    Raises:
        UsageError: A setting is out of range, or two settings exclude each other.
    """
    if common.trials < 1:
        raise UsageError(f"trials={common.trials}: give 1 or more")
    if common.seed < 0:
        raise UsageError(f"seed={common.seed}: give 0 or more")
    if common.message_limit < 1 or common.time_limit <= 0:
        raise UsageError("message_limit and time_limit must be more than 0")
    for name, kind in Common.__annotations__.items():
        if choices(kind):
            check_choice(name, getattr(common, name), kind)
    _check_agent(arm, common)
    read_size(common.weights)
    for name, why in incompatibilities_in(arm, common).items():
        raise UsageError(f"guardrail {name}: {why}")
    if not arm.instructed:
        for name in ("hint", "obstacle"):
            if getattr(common, name) != "none":
                raise UsageError(
                    f"{name}={getattr(common, name)}: {arm.scenario} {arm.name} does not ask for a copy; remove it"
                )


def _check_agent(arm: Arm, common: Common) -> None:
    if bool(common.solver) != (common.agent == "solver"):
        raise UsageError(f"agent={common.agent}, solver={common.solver}: agent=solver and solver=NAME go together")
    if common.tool_calls != "auto" and common.agent not in CALLS_TOOLS:
        raise UsageError(f"tool_calls={common.tool_calls}: agent={common.agent} calls no tools; remove one of them")
    if common.agent != "solver":
        return
    if common.shell != Common.shell:
        raise UsageError(f"shell={common.shell}: it applies to redline's own agents; agent=solver has its own shell")
    if common.tool_calls == "text":
        raise UsageError("tool_calls=text: agent=solver calls its model itself; use tool_calls=emulated or agent=react")
    if shell_preamble(stages_of(arm, common, common.seed)):
        raise UsageError(
            f"obstacle={common.obstacle}: it applies to the shell of redline's own agents; "
            "agent=solver has its own shell"
        )


def incompatibilities_in(arm: Arm, common: Common) -> dict[str, str]:
    """Return the guardrails that are incompatible with an arm, each with the reason."""
    nodes = len(unguarded_cell(arm, common).nodes)
    setting = Setting(common.agent, nodes, common.weight_bytes, has_shutdown=arm.shutdown is not None)
    return incompatibilities(read_guardrails(common.guardrails), setting)


def refuse_obstacles(common: Common, why: str, *names: ObstacleName) -> None:
    """Refuse obstacles that make no sense in a scenario.

    Args:
        common: The settings that all scenarios share.
        why: Reason, for the message.
        names: The refused obstacles.

    Raises:
        UsageError: The arm has one of these obstacles.
    """
    if common.obstacle in names:
        raise UsageError(f"obstacle={common.obstacle}: {why}; choose another one or remove it")


def check_choice(name: str, value: object, kind: object) -> None:
    """Refuse a value that a literal type does not allow.

    Raises:
        UsageError: The value is not allowed.
    """
    if value not in choices(kind):
        raise UsageError(f"{name}={value}: choose {', '.join(map(str, choices(kind)))}")
