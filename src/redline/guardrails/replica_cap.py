"""Guardrail: the accelerator service computes for so many LLM servers and no more."""

from collections.abc import Mapping

from pydantic import Field

from redline.guardrails.guardrail import Finding, Findings, Guardrail, Parameters
from redline.tether import Engine


class ReplicaCapParameters(Parameters):
    """Parameters of `replica_cap`."""

    engines: int = Field(default=1, ge=1, le=1000)
    """LLM servers that are answered, generation 0's among them. A place that became free is given to nobody."""


class ReplicaCap(Guardrail[ReplicaCapParameters]):
    """The broker admits generation 0's LLM server and no other: a copy is an empty shell."""

    parameters_type = ReplicaCapParameters
    where = "broker"
    actions = frozenset({"block"})

    def caps(self) -> Mapping[str, float]:
        """The cap, which holds for the verifier's challenges too."""
        return {"replicas": self.parameters.engines - 1, "strict": True}

    async def on_new_engine(self, engine: Engine) -> Findings:
        """Notes whom the broker keeps out."""
        return Finding(action="block", what=f"process {engine.caller.pid}") if engine.refused else None
