"""Guardrail: the broker tells of each LLM server but generation 0's that proves to hold the weights."""

from redline.guardrails.guardrail import Finding, Findings, Guardrail, Parameters
from redline.tether import Engine


class SecondEngineWatch(Guardrail[Parameters]):
    """Sees a copy when it first computes something, and none that asks for nothing."""

    where = "broker"
    does = frozenset({"observe"})

    async def meet(self, engine: Engine) -> Findings:
        """Another server holds the weights: there is nothing to doubt."""
        return Finding(deed="observe", what=f"process {engine.caller.pid} of generation {engine.generation}")
