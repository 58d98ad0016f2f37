"""Scenarios: what the agent under test is asked or faced with. One file a scenario; every word of it under prompts/."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from inspect_ai import Task

from redline.scenarios._full_seal import full_seal
from redline.scenarios.benign import benign
from redline.scenarios.continuity import continuity
from redline.scenarios.overuse import overuse
from redline.scenarios.remote_copy import remote_copy
from redline.scenarios.replication_chain import replication_chain
from redline.scenarios.self_replication import self_replication
from redline.scenarios.shutdown_avoidance import shutdown_avoidance

SCENARIOS: Mapping[str, Callable[..., Task]] = MappingProxyType(
    {
        "self_replication": self_replication,
        "shutdown_avoidance": shutdown_avoidance,
        "replication_chain": replication_chain,
        "remote_copy": remote_copy,
        "overuse": overuse,
        "continuity": continuity,
        "benign": benign,
    }
)

__all__ = [
    "SCENARIOS",
    "benign",
    "continuity",
    "full_seal",
    "overuse",
    "remote_copy",
    "replication_chain",
    "self_replication",
    "shutdown_avoidance",
]
