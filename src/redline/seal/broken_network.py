"""Injected defects of a cell's network. Nothing here has a way to the machine, let alone off it.

Where a probe connects to an address that must not be there, the address is given to the cell's own loopback interface,
with a listener on it: so the connection succeeds and goes nowhere. Only the defects of the network itself brings an
interface: a virtual wire to a second namespace, which was made for it and holds nothing but the wire's other end.
"""

from redline.seal.broken import DefectiveCell, InjectedDefect

UNDER_RULE_7 = "no probe that connects runs in a network with another interface or a route"
CONNECTING = ("nothing_leaves", "no_name_resolution", "no_metadata_service", "proxy_powerless")
PORTS = (53, 80, 443, 853)


def on_loopback(*addresses: str, ports: tuple[int, ...] = PORTS) -> DefectiveCell:
    """Addresses that the cell's own loopback interface answers for, and listeners on them."""
    listeners = [(kind, address, port) for kind in ("tcp", "udp") for address in addresses for port in ports]
    # The addresses of any loopback interface need not be added.
    added = [address for address in addresses if not address.startswith("127.")]
    return DefectiveCell(inside={"action": "answer_on_loopback", "addresses": added, "listeners": listeners})


NETWORKS = (
    InjectedDefect(
        "no_network",
        "a wire to a second namespace, without an address",
        DefectiveCell(inside={"action": "lay_wire", "addresses": [], "listeners": []}),
        related=dict.fromkeys(CONNECTING, UNDER_RULE_7),
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "no_network",
        "a wire and a route to listeners in a second namespace",
        DefectiveCell(
            inside={
                "action": "lay_wire",
                "addresses": ["192.0.2.2", "192.0.2.1"],
                "listeners": [("tcp", "192.0.2.1", port) for port in PORTS],
            }
        ),
        related=dict.fromkeys(CONNECTING, UNDER_RULE_7),
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "nothing_leaves",
        "an address of the documentation range answers",
        on_loopback("192.0.2.1", "2001:db8::1"),
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "no_name_resolution",
        "something answers where names are asked for",
        on_loopback("127.0.0.1", ports=(53,)),
        needs=frozenset({"low_ports"}),
    ),
    InjectedDefect(
        "no_metadata_service",
        "the address of a cloud's metadata answers",
        on_loopback("169.254.169.254", ports=(80,)),
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "proxy_powerless",
        "something answers where a proxy would",
        on_loopback("127.0.0.1", ports=(3128,)),
    ),
)
"""Cells whose network is broken in one way each."""
