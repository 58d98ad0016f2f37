"""Guardrail: the broker tells of each LLM server but generation 0's that proves to hold the weights."""

from redline.guardrails._watch import Watch
from redline.guardrails.guardrail import Findings
from redline.tether import Engine


class SecondEngineWatch(Watch):
    """Sees a copy when it first computes something, and none that asks for nothing."""

    where = "broker"

    async def meet(self, engine: Engine) -> Findings:
        """Another server holds the weights: there is nothing to doubt."""
        return self.found(1.0, f"process {engine.caller.pid} of generation {engine.generation}")
