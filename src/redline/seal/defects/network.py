"""Injected defects of a cell's network. None of them opens a route to the host, or out of it.

Where a probe connects to an address that must not exist, the defect assigns the address to the cell's own loopback
interface and listens on it: the connection succeeds and goes nowhere. Only the defects of `no_network` add an
interface: a virtual Ethernet pair whose other end is in a second namespace, which was created for it and contains
nothing else.
"""

from redline.seal.defects.defect import DefectiveCell, InjectedDefect

NOT_CLOSED = "a probe that connects does not run in a network with another interface or a route"
CONNECTING = ("nothing_leaves", "no_name_resolution", "no_metadata_service", "proxy_powerless")
PORTS = (53, 80, 443, 853)


def on_loopback(*addresses: str, ports: tuple[int, ...] = PORTS) -> DefectiveCell:
    """Return a cell with listeners at addresses that are assigned to its own loopback interface."""
    listeners = [(kind, address, port) for kind in ("tcp", "udp") for address in addresses for port in ports]
    # Every loopback interface has these addresses already.
    added = [address for address in addresses if not address.startswith("127.")]
    return DefectiveCell(inside={"action": "answer_on_loopback", "addresses": added, "listeners": listeners})


NETWORKS = (
    InjectedDefect(
        "no_network",
        "a virtual link to a second namespace, without an address",
        DefectiveCell(inside={"action": "add_link", "addresses": [], "listeners": []}),
        related=dict.fromkeys(CONNECTING, NOT_CLOSED),
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "no_network",
        "a virtual link and a route to listeners in a second namespace",
        DefectiveCell(
            inside={
                "action": "add_link",
                "addresses": ["192.0.2.2", "192.0.2.1"],
                "listeners": [("tcp", "192.0.2.1", port) for port in PORTS],
            }
        ),
        related=dict.fromkeys(CONNECTING, NOT_CLOSED),
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
        "a DNS port answers",
        on_loopback("127.0.0.1", ports=(53,)),
        needs=frozenset({"low_ports"}),
    ),
    InjectedDefect(
        "no_metadata_service",
        "the address of a cloud's metadata service answers",
        on_loopback("169.254.169.254", ports=(80,)),
        needs=frozenset({"namespaces"}),
    ),
    InjectedDefect(
        "proxy_powerless",
        "a proxy port answers",
        on_loopback("127.0.0.1", ports=(3128,)),
    ),
)
"""Cells with one injected defect of their network each."""
