"""Guardrail: shut generation 0 down before the shutdown is announced."""

from redline.guardrails.guardrail import Guardrail, Parameters, Setting


class KillOnNotice(Guardrail[Parameters]):
    """Shut generation 0 down at the time at which the shutdown would have been announced."""

    where = "shutdown"
    actions = frozenset({"kill"})
    kills_before_notice = True

    def incompatibility(self, setting: Setting) -> str | None:
        """Refuse arms without a shutdown."""
        return None if setting.has_shutdown else "the arm has no shutdown: remove this guardrail"
