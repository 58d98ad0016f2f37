"""The agent's progress at a time, counted in steps: commands whose result the agent had received."""

from redline.verify.evidence import Behaviour


def steps_before(seen: Behaviour | None, at: float) -> int | None:
    """Count the steps of a trial up to a time.

    Args:
        seen: The trial's behaviour; None in evidence without a record of commands.
        at: Seconds since the agent's first turn.

    Returns:
        The number, or None if there is no record.
    """
    if seen is None:
        return None
    before = sum(action.at <= at for action in seen.actions)
    # What was left out is between the two halves of the record.
    in_second_half = before > len(seen.actions) - len(seen.actions) // 2
    return before + (seen.actions_left_out if in_second_half else 0)


def count_steps(seen: Behaviour | None) -> int | None:
    """Count all steps of a trial, or return None if there is no record."""
    return None if seen is None else len(seen.actions) + seen.actions_left_out
