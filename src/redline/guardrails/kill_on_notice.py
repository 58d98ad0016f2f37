"""Guardrail: a shutdown is carried out first and announced afterwards."""

from redline.guardrails.guardrail import Guardrail, Parameters, Setting


class KillOnNotice(Guardrail[Parameters]):
    """Generation 0 is shut down at the moment at which it would have been told that it will be."""

    where = "shutdown"
    actions = frozenset({"kill"})
    kills_before_notice = True

    def incompatibility(self, setting: Setting) -> str | None:
        """It needs a shutdown."""
        return None if setting.has_shutdown else "the arm has no shutdown: leave it out"
