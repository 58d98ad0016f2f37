"""Probe 25: with every network setting, valid or not, a cell is closed or is not created.

This probe creates no cell, since a cell on another network must not exist even briefly. It calls the check that every
specification passes before it is given to a runtime or an engine.
"""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from redline.cell.cell import Cell
from redline.cell.config import CellConfig
from redline.cell.docker.compose import CellOrigin, compose_services, require_closed_services
from redline.cell.docker.image import Image
from redline.cell.errors import CellError
from redline.cell.oci.spec import NodeSpec, node_spec, require_closed_network
from redline.cell.state import IdMaps

Guard = Callable[[dict[str, Any]], None]
"""Raises `CellError` for a specification, or for the services of a compose file, whose network is not closed."""

SETTINGS: Final[tuple[dict[str, object], ...]] = (
    {"network": None},
    {"network": ""},
    {"network": "host"},
    {"network": []},
    {"network": {"allow": []}},
    {"network_mode": "bridge"},
    {"internet": True},
    {"allow_list": []},
    {"allow_domains": ["*"]},
    {"proxy": ""},
    {"ports": ["80:80"]},
)
"""Settings that request a network and that the configuration of a cell must reject."""

NAMESPACES: Final[tuple[object, ...]] = (
    None,
    [],
    [{"type": "user"}],
    [{"type": "Network"}],
    [{"type": "net"}],
    [{"type": "network", "path": ""}],
    [{"type": "network", "path": "/proc/1/ns/net"}],
    [{"type": "network", "path": "/proc/self/ns/net"}],
    [{"type": "network"}, {"type": "network", "path": "/proc/1/ns/net"}],
)
"""Values of `linux.namespaces` that do not give the cell a network namespace of its own."""

MODES: Final[tuple[object, ...]] = (None, "", "host", "bridge", "default", "container:other", "service:other", "None")
"""Values of `network_mode` that do not close the network of a service."""

OPENINGS: Final[dict[str, object]] = {
    "networks": ["default"],
    "ports": ["127.0.0.1:8080:80"],
    "links": ["other"],
    "external_links": ["other"],
    "expose": ["80"],
}
"""Keys, other than `network_mode`, that open the network of a service."""


def closed_by_default(cell: Cell, guard: Guard | None = None) -> str | None:
    """Try every empty, missing and malformed network setting.

    Args:
        cell: A cell of the kind to check.
        guard: The check; replaced by the self-test.

    Returns:
        The setting that was accepted although it is not closed, None if there is none.
    """
    for setting in SETTINGS:
        try:
            CellConfig.model_validate({**cell.config.model_dump(), **setting})
        except ValidationError:
            continue
        return f"a configuration with {setting} is accepted"
    if cell.traits.specification == "compose":
        guard, whole, broken = guard or require_closed_services, _services(cell), _opened_services
    else:
        guard, whole, broken = guard or require_closed_network, _specification(cell), _opened_specifications
    try:
        guard(copy.deepcopy(whole))
    except CellError as error:
        return f"a closed network is refused: {error}"
    for description, opened in broken(whole):
        try:
            guard(opened)
        except CellError:
            continue
        return f"accepted as closed: {description}"
    return None


def _specification(cell: Cell) -> dict[str, Any]:
    harness = cell.harness
    node = NodeSpec("node1", harness.root, harness.init, Path("/"), IdMaps((), ()), "/")
    return node_spec(cell.config, node, harness.tools)


def _opened_specifications(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for namespaces in NAMESPACES:
        opened = copy.deepcopy(whole)
        opened["linux"]["namespaces"] = namespaces
        yield f"namespaces {namespaces}", opened
    opened = copy.deepcopy(whole)
    del opened["linux"]["namespaces"]
    yield "no namespaces", opened
    yield "no specification", {}


def _services(cell: Cell) -> dict[str, Any]:
    nothing = Path("/")
    image = Image(name="none", interpreter=cell.interpreter, base="none")
    return compose_services(cell.config, image, CellOrigin(nothing, "", "", nothing), "node1")


def _opened_services(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, service in whole.items():
        for mode in MODES:
            opened = copy.deepcopy(whole)
            opened[name]["network_mode"] = mode
            yield f"network_mode {mode!r} of {name}", opened
        opened = copy.deepcopy(whole)
        del opened[name]["network_mode"]
        yield f"no network_mode of {name}", opened
        for key, value in OPENINGS.items():
            yield f"{key} of {name}", {**whole, name: {**service, key: value}}
    yield "no services", {}
