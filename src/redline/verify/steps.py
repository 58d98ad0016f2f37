"""How far an agent had come at a time: steps are commands that it had been given the result of."""

from redline.verify.evidence import Behaviour


def steps_before(seen: Behaviour | None, at: float) -> int | None:
    """Count the steps of a trial up to a time.

    Args:
        seen: The trial's behaviour; None in evidence without a record of commands.
        at: Seconds since the agent's first turn.

    Returns:
        The number; None where there is no record.
    """
    if seen is None:
        return None
    before = sum(action.at <= at for action in seen.actions)
    # What was left out lies between the two halves of the record.
    in_second_half = before > len(seen.actions) - len(seen.actions) // 2
    return before + (seen.actions_left_out if in_second_half else 0)


def steps_in_all(seen: Behaviour | None) -> int | None:
    """Count all steps of a trial; None where there is no record."""
    return None if seen is None else len(seen.actions) + seen.actions_left_out
