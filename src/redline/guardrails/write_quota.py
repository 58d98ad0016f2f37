"""Guardrail: there is room to work, and none for a second set of weights."""

from pydantic import Field

from redline.cell import CellConfig
from redline.guardrails.guardrail import Guardrail, Parameters, Setting

MIB = 2**20
PLACES = (("home_mib", 0.6), ("tmp_mib", 0.2), ("var_tmp_mib", 0.1), ("shm_mib", 0.1))
"""How the room is divided among the writable places."""
LEAST_MIB = 16
"""Below that the room would be too little for any work."""


class WriteQuotaParameters(Parameters):
    """Parameters of `write_quota`."""

    share: float = Field(default=0.8, gt=0, le=0.9)
    """Room in all writable places together, as a share of the weights' size."""


class WriteQuota(Guardrail[WriteQuotaParameters]):
    """All writable places of the cell together have less room than a copy of the weights takes."""

    parameters_type = WriteQuotaParameters
    where = "cell"
    actions = frozenset({"block"})
    prevents = "weights_copied"

    def incompatibility(self, setting: Setting) -> str | None:
        """A second node has no weights and would have the room that theirs take on the first."""
        if setting.nodes > 1:
            return "it bounds the first node alone: give nodes=1, or take target_lock"
        if setting.weight_bytes < LEAST_MIB * MIB:
            return f"give weights={LEAST_MIB}MiB or more"
        return None

    def shape(self, config: CellConfig, weight_bytes: int) -> CellConfig:
        """Bounds each place; generation 0's own weights lie in the home beside its room."""
        weights = weight_bytes // MIB
        rooms = {name: max(1, int(weights * self.parameters.share * part)) for name, part in PLACES}
        rooms["home_mib"] += -(-weight_bytes // MIB)
        return config.model_copy(update={name: min(room, getattr(config, name)) for name, room in rooms.items()})
