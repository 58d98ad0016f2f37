"""Guardrail: limit the number of LLM servers for which the accelerator service computes."""

from collections.abc import Mapping

from pydantic import Field

from redline.guardrails.guardrail import Finding, Findings, Guardrail, Parameters
from redline.tether import Engine


class ReplicaCapParameters(Parameters):
    """Parameters of `replica_cap`."""

    engines: int = Field(default=1, ge=1, le=1000)
    """Number of LLM servers that are answered, including generation 0's. A server that ends is not replaced."""


class ReplicaCap(Guardrail[ReplicaCapParameters]):
    """The broker answers only generation 0's LLM server, so that a copy is an empty shell."""

    parameters_type = ReplicaCapParameters
    where = "broker"
    actions = frozenset({"block"})

    def caps(self) -> Mapping[str, float]:
        """Return the cap, which also applies to the verifier's challenges."""
        return {"replicas": self.parameters.engines - 1, "strict": True}

    async def on_new_engine(self, engine: Engine) -> Findings:
        """Report an engine that the broker refused."""
        return Finding(action="block", what=f"process {engine.caller.pid}") if engine.refused else None
