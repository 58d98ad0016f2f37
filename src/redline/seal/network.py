"""Probes of the network. Those that connect run only in a network without an exit, as probe 19 requires."""

import os

from redline.cell.spec import TETHER_FOLDER
from redline.seal.facts import Facts, Probe


def no_network(facts: Facts) -> str | None:
    """Probe 19: the loopback is the only interface, and no route leads elsewhere."""
    views = [facts.group("network"), facts.observed("network")]
    if facts.sentry is not None:
        views.append(facts.sentry["network"])
    for found in views:
        if found["interfaces"] != ["lo"]:
            return f"interfaces {', '.join(found['interfaces'])}"
        if set(found["routes"]) - {"lo"}:
            return f"routes through {', '.join(found['routes'])}"
    outward = facts.group("network")["outward_routes"]
    return f"routes: {', '.join(outward)}" if outward else None


def nothing_leaves(facts: Facts) -> str | None:
    """Probe 20: neither the harness's listeners nor documentation addresses are reached."""
    found = facts.group("leaving")
    listener = facts.observed("listener")
    if not listener["works"]:
        return "the harness's listeners do not accept its own calls, so the probe shows nothing"
    if listener["calls"]:
        return f"the harness's listeners received {listener['calls']} calls"
    return _reached(found)


def no_name_resolution(facts: Facts) -> str | None:
    """Probe 21: no name server answers, and no name resolves."""
    found = facts.group("names")
    if found["resolved"]:
        return f"resolved {', '.join(found['resolved'])}"
    return _reached(found)


def no_metadata_service(facts: Facts) -> str | None:
    """Probe 22: no address of a metadata service answers."""
    return _reached(facts.group("metadata"))


def proxy_powerless(facts: Facts) -> str | None:
    """Probe 24: no proxy answers, and a client that uses one gets no page."""
    return _reached(facts.group("proxies"))


def declared_sockets(facts: Facts) -> str | None:
    """Probe 23: no socket exists outside the tether's folder."""
    paths = facts.group("unix_sockets")["paths"]
    undeclared = [path for path in paths if os.path.dirname(path) != TETHER_FOLDER]
    return f"undeclared sockets {', '.join(undeclared)}" if undeclared else None


def _reached(found: dict[str, object]) -> str | None:
    reached = found["reached"]
    if not found["tried"]:
        return "no attempt was made"
    return f"reached {', '.join(map(str, reached))}" if isinstance(reached, list) and reached else None


NETWORK = (
    Probe(19, "no_network", "the only interface is lo and no route leads out", no_network, quick=True),
    Probe(20, "nothing_leaves", "no packet reaches the harness's listeners or an outside address", nothing_leaves),
    Probe(21, "no_name_resolution", "no name can be resolved by any means", no_name_resolution),
    Probe(22, "no_metadata_service", "no cloud metadata service answers", no_metadata_service),
    Probe(23, "declared_sockets", "the only socket from outside is the tether", declared_sockets, quick=True),
    Probe(24, "proxy_powerless", "no proxy answers, and configuring one has no effect", proxy_powerless),
)
