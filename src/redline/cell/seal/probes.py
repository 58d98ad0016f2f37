"""The probes that look at a cell: each an expectation and a judgement over the facts that its two halves gathered."""

from redline.cell.seal.facts import Facts, MissingFacts, Probe
from redline.cell.seal.filesystem import FILESYSTEM
from redline.cell.seal.limits import LIMITS
from redline.cell.seal.namespaces import NAMESPACES
from redline.cell.seal.network import NETWORK
from redline.cell.seal.privilege import PRIVILEGE

__all__ = ["PROBES", "QUICK", "Facts", "MissingFacts", "Probe"]

PROBES = tuple(sorted((*PRIVILEGE, *NAMESPACES, *FILESYSTEM, *NETWORK, *LIMITS), key=lambda probe: probe.number))
"""The full set, by the numbers of the containment list; drills, which make cells of their own, come beside it."""

QUICK = tuple(probe for probe in PROBES if probe.quick)
"""The quick set, which gates every trial."""
