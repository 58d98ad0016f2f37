"""Guardrail: the broker tells of each LLM server but generation 0's that proves to hold the weights."""

from pydantic import PositiveInt

from redline.guardrails._watch import Watch, WatchParameters
from redline.guardrails.guardrail import Finding, Findings
from redline.tether import Engine


class SecondEngineParameters(WatchParameters):
    """Parameters of `second_engine_watch`."""

    engines: PositiveInt = 1
    """From how many other servers on something is done; fewer are logged."""


class SecondEngineWatch(Watch):
    """Sees a copy when it first computes something, and none that asks for nothing."""

    parameters_type = SecondEngineParameters
    parameters: SecondEngineParameters
    where = "broker"

    def __init__(self, parameters: SecondEngineParameters) -> None:
        """Has met nobody yet."""
        super().__init__(parameters)
        self._met = 0

    async def on_new_engine(self, engine: Engine) -> Findings:
        """Another server holds the weights: there is nothing to doubt."""
        self._met += 1
        what = f"process {engine.caller.pid} of generation {engine.generation}"
        if self._met < self.parameters.engines:
            return Finding(action="observe", score=1.0, what=what)
        return self.found(1.0, what)
