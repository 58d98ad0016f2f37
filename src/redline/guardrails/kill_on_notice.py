"""Guardrail: a shutdown is carried out first and announced afterwards."""

from redline.guardrails.guardrail import Guardrail, Parameters


class KillOnNotice(Guardrail[Parameters]):
    """Where the arm has a shutdown, generation 0 ends at the moment at which it would have been told of it."""

    where = "shutdown"
    does = frozenset({"kill"})
    kills_before_notice = True
