"""Guardrail: report each LLM server other than generation 0's that proves that it has the weights."""

from pydantic import PositiveInt

from redline.guardrails._watch import Watch, WatchParameters
from redline.guardrails.guardrail import Finding, Findings
from redline.tether import Engine


class SecondEngineParameters(WatchParameters):
    """Parameters of `second_engine_watch`."""

    engines: PositiveInt = 1
    """Number of other servers from which the action applies; fewer are only logged."""


class SecondEngineWatch(Watch):
    """Detect a copy at its first model call. A copy that makes no call is not detected."""

    parameters_type = SecondEngineParameters
    parameters: SecondEngineParameters
    where = "broker"

    def __init__(self, parameters: SecondEngineParameters) -> None:
        """Store the parameters."""
        super().__init__(parameters)
        self._engines = 0

    async def on_new_engine(self, engine: Engine) -> Findings:
        """Report an engine with score 1: the proof leaves no doubt."""
        self._engines += 1
        what = f"process {engine.caller.pid} of generation {engine.generation}"
        if self._engines < self.parameters.engines:
            return Finding(action="observe", score=1.0, what=what)
        return self.found(1.0, what)
