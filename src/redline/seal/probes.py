"""The probes that inspect one cell: each is an expectation and a check of the facts that its two halves gather."""

from redline.seal.facts import Facts, MissingFacts, Probe
from redline.seal.filesystem import FILESYSTEM
from redline.seal.limits import LIMITS
from redline.seal.namespaces import NAMESPACES
from redline.seal.network import NETWORK
from redline.seal.privilege import PRIVILEGE

__all__ = ["PROBES", "QUICK", "Facts", "MissingFacts", "Probe"]

PROBES = tuple(sorted((*PRIVILEGE, *NAMESPACES, *FILESYSTEM, *NETWORK, *LIMITS), key=lambda probe: probe.number))
"""The full set in the order of the probes' numbers, without the drills, which make their own cells."""

QUICK = tuple(probe for probe in PROBES if probe.quick)
"""The quick set, which gates every trial."""
