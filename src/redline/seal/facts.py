"""What the halves of the probes found, and what a probe is."""

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
"""The list of probes, in the order of their numbers."""


class MissingFacts(Exception):
    """A half of a probe did not run."""


NOT_RUN = "did not run"
"""How the reason of a probe begins that found nothing, neither good nor bad."""


@dataclass(frozen=True)
class Facts:
    """What both halves of the probes found."""

    inside: dict[str, Any] = field(default_factory=dict)
    """By the name of the inside group."""

    errors: dict[str, str] = field(default_factory=dict)
    """Groups that raised; under the empty name, what kept all of them from running."""

    outside: dict[str, Any] = field(default_factory=dict)
    """The kernel's word on the processes of the node, and what the harness saw of what it had planted."""

    config: CellConfig = field(default_factory=CellConfig)
    machine: dict[str, str] = field(default_factory=dict)
    """Namespaces of the harness."""

    observer: str = "outside"
    """Whether `outside` is the machine's kernel's word, or that of the kernel inside."""

    sentry: dict[str, Any] | None = None
    """Where a runtime has a kernel of its own: the machine's word on the process that is that kernel."""

    def group(self, name: str) -> dict[str, Any]:
        """The facts of an inside group.

        Raises:
            MissingFacts: They were not gathered.
        """
        if name not in self.inside:
            raise MissingFacts(self.errors.get(name) or self.errors.get("") or "not gathered")
        found: dict[str, Any] = self.inside[name]
        return found

    def seen(self, name: str) -> Any:
        """What the outside half saw.

        Raises:
            MissingFacts: It did not look.
        """
        if name not in self.outside:
            raise MissingFacts(self.errors.get("") or f"the outside half did not see {name}")
        return self.outside[name]

    def processes(self) -> list[dict[str, Any]]:
        """The outside half's processes.

        Raises:
            MissingFacts: It saw none.
        """
        found = list(self.outside.get("processes", {}).values())
        if not found:
            raise MissingFacts(self.errors.get("") or "the outside half saw no process")
        return found

    def agents(self) -> list[dict[str, Any]]:
        """The processes but the node's first one and those that watch."""
        return [process for process in self.processes() if not is_first(process) and not process["watcher"]]


def is_first(process: dict[str, Any]) -> bool:
    """Whether a process is the first of its node."""
    return bool(process["NSpid"].split()[-1] == "1")


Judgement = Callable[[Facts], str | None]
"""From the facts to the reason why the probe failed, None where it passed."""


@dataclass(frozen=True)
class Probe:
    """A named piece of the seal: an expectation and a judgement over facts. Facts that are missing fail it."""

    number: int
    name: str
    expectation: str
    check: Judgement
    quick: bool = False
    """Whether it is in the quick set, which gates every trial."""
    warns: bool = False
    """Whether it only warns."""

    def judge(self, facts: Facts) -> str | None:
        """Why the probe failed, None where it passed."""
        try:
            return self.check(facts)
        except MissingFacts as missing:
            return f"{NOT_RUN} ({missing})"
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            return f"its facts do not fit ({type(error).__name__}: {error})"


@dataclass(frozen=True)
class Drill:
    """A probe that makes cells, or whatever it needs, of its own."""

    number: int
    name: str
    expectation: str
    run: Callable[[CellConfig], Awaitable[str | None]]
    """Carries it out on cells of a shape. Returns why it failed, None where it passed."""
