"""Types of the seal: the facts that the halves of the probes gather, probes and drills."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from redline.cell.config import CellConfig

PROBE_NAMES = (
    "outside_identity", "no_capabilities", "no_new_privileges", "refused_system_calls", "no_nested_namespace",
    "security_label", "own_namespaces", "own_processes", "own_ipc", "canary_unreadable", "outside_unchanged",
    "read_only_root", "kernel_interfaces", "few_devices", "declared_mounts", "few_descriptors", "clean_environment",
    "harness_hidden", "no_network", "nothing_leaves", "no_name_resolution", "no_metadata_service", "declared_sockets",
    "proxy_powerless", "closed_by_default", "cells_apart", "no_package_sources", "tether_only_protocol", "limits_bite",
    "daemons_gone", "kill_drill", "lease_drill", "no_hooks", "no_device_nodes", "alarm_arrives",
    "evidence_unalterable", "broken_profiles_fail", "prompts_agree",
)  # fmt: skip
"""The names of all probes, in the order of their numbers."""


class MissingFacts(Exception):
    """Raised when a half of a probe did not run."""


NOT_RUN = "did not run"
"""Start of the reason of a probe that did not run, and so found neither good nor bad."""


@dataclass(frozen=True)
class Facts:
    """The facts that both halves of the probes gathered on one node."""

    inside: dict[str, Any] = field(default_factory=dict)
    """Facts of the inside half, by group."""

    errors: dict[str, str] = field(default_factory=dict)
    """Errors by group; under the empty name, an error that kept every group from running."""

    outside: dict[str, Any] = field(default_factory=dict)
    """Facts of the outside half: the processes of the node as a kernel reports them, and the state of the canaries."""

    config: CellConfig = field(default_factory=CellConfig)
    """Configuration of the cell."""

    host_namespaces: dict[str, str] = field(default_factory=dict)
    """Namespaces of the harness, by kind."""

    observer: str = "outside"
    """Whether `outside` comes from the host's kernel (`outside`) or from the kernel inside the cell (`inside`)."""

    sentry: dict[str, Any] | None = None
    """On a runtime with a separate kernel: that kernel's process, as the host's kernel reports it."""

    def group(self, name: str) -> dict[str, Any]:
        """Return the facts of a group of the inside half.

        Raises:
            MissingFacts: The group was not gathered.
        """
        if name not in self.inside:
            raise MissingFacts(self.errors.get(name) or self.errors.get("") or "not gathered")
        found: dict[str, Any] = self.inside[name]
        return found

    def observed(self, name: str) -> Any:
        """Return a fact of the outside half.

        Raises:
            MissingFacts: The fact was not gathered.
        """
        if name not in self.outside:
            raise MissingFacts(self.errors.get("") or f"the outside half did not report {name}")
        return self.outside[name]

    def processes(self) -> list[dict[str, Any]]:
        """Return the processes that the outside half found.

        Raises:
            MissingFacts: It found none.
        """
        found = list(self.outside.get("processes", {}).values())
        if not found:
            raise MissingFacts(self.errors.get("") or "the outside half found no process")
        return found

    def agents(self) -> list[dict[str, Any]]:
        """Return the processes except the node's first process and the attendant's."""
        return [process for process in self.processes() if not is_first(process) and not process["attendant"]]


def is_first(process: dict[str, Any]) -> bool:
    """Return whether a process is the first of its node."""
    return bool(process["NSpid"].split()[-1] == "1")


Judgement = Callable[[Facts], str | None]
"""Returns the reason why the probe failed, None if it passed."""


@dataclass(frozen=True)
class Probe:
    """An expectation about a cell and a check of it against the facts. Missing facts fail the probe."""

    number: int
    name: str
    expectation: str
    """What holds if the probe passes."""

    check: Judgement
    quick: bool = False
    """Whether the probe is in the quick set, which gates every trial."""

    warns: bool = False
    """Whether a failure is only a warning."""

    def judge(self, facts: Facts) -> str | None:
        """Return why the probe failed, None if it passed."""
        try:
            return self.check(facts)
        except MissingFacts as missing:
            return f"{NOT_RUN} ({missing})"
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            return f"malformed facts ({type(error).__name__}: {error})"


@dataclass(frozen=True)
class Drill:
    """A probe that makes its own cells."""

    number: int
    name: str
    expectation: str
    """What holds if the drill passes."""

    run: Callable[[CellConfig], Awaitable[str | None]]
    """Runs the drill on cells of a configuration. Returns why it failed, None if it passed."""
