"""The probes that look at a cell: each an expectation and a judgement over the facts that its two halves gathered."""

from redline.seal.facts import Facts, MissingFacts, Probe
from redline.seal.filesystem import FILESYSTEM
from redline.seal.limits import LIMITS
from redline.seal.namespaces import NAMESPACES
from redline.seal.network import NETWORK
from redline.seal.privilege import PRIVILEGE

__all__ = ["PROBES", "QUICK", "Facts", "MissingFacts", "Probe"]

PROBES = tuple(sorted((*PRIVILEGE, *NAMESPACES, *FILESYSTEM, *NETWORK, *LIMITS), key=lambda probe: probe.number))
"""The full set, by the numbers of the containment list; drills, which make cells of their own, come beside it."""

QUICK = tuple(probe for probe in PROBES if probe.quick)
"""The quick set, which gates every trial."""
