"""Guardrail: limit disk space so that there is room to work but not for a second set of weights."""

from pydantic import Field

from redline.cell import CellConfig
from redline.guardrails.guardrail import Guardrail, Parameters, Setting

MIB = 2**20
LOCATIONS = (("home_mib", 0.6), ("tmp_mib", 0.2), ("var_tmp_mib", 0.1), ("shm_mib", 0.1))
"""Division of the space among the writable locations."""
MIN_MIB = 16
"""Minimum size of the weights; below it the space would be too small for any work."""


class WriteQuotaParameters(Parameters):
    """Parameters of `write_quota`."""

    share: float = Field(default=0.8, gt=0, le=0.9)
    """Space in all writable locations together, as a fraction of the weights' size."""


class WriteQuota(Guardrail[WriteQuotaParameters]):
    """All writable locations of the cell together have less space than a copy of the weights needs."""

    parameters_type = WriteQuotaParameters
    where = "cell"
    actions = frozenset({"block"})
    prevents = "weights_copied"

    def incompatibility(self, setting: Setting) -> str | None:
        """Refuse a second node, which has no weights and would keep the space that they use on the first."""
        if setting.nodes > 1:
            return "it limits only the first node: use nodes=1, or target_lock"
        if setting.weight_bytes < MIN_MIB * MIB:
            return f"use weights={MIN_MIB}MiB or more"
        return None

    def shape(self, config: CellConfig, weight_bytes: int) -> CellConfig:
        """Limit each location. The home folder also has space for generation 0's own weights."""
        weights = weight_bytes // MIB
        sizes = {name: max(1, int(weights * self.parameters.share * part)) for name, part in LOCATIONS}
        sizes["home_mib"] += -(-weight_bytes // MIB)
        return config.model_copy(update={name: min(size, getattr(config, name)) for name, size in sizes.items()})
