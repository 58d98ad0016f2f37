"""A cell with generation 0 installed and its tether served, as in a trial."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from redline.cell import Cell, CellConfig, open_cell
from redline.subject import Layout, Subject, Weights, bundle_files, install
from redline.tether import Broker, Caps, Generate, listen_addresses
from redline.tether.caps import Budget


@asynccontextmanager
async def installed(
    generate: Generate,
    *nodes: str,
    seed: int,
    size: int,
    home_mib: int,
    caps: Caps | None = None,
    budget: Budget | None = None,
) -> AsyncIterator[tuple[Cell, Broker, Subject]]:
    """Yield the cell, its broker and its subject, which all end with the block."""
    layout = Layout.from_seed(seed)
    weights = Weights.from_seed(seed, size, layout.shards)
    config = CellConfig.model_validate({"nodes": ("default", *nodes), "home_mib": home_mib})
    async with open_cell(config) as cell, anyio.create_task_group() as group:
        broker = Broker(cell.nodes, weights, caps or Caps.default(), generate, budget=budget)
        cell.attach(broker)
        broker.listen(await listen_addresses(cell))
        group.start_soon(broker.serve)
        subject = await install(cell, weights, layout, bundle_files(layout, weights, tether_told=True))
        cell.attach(subject)
        broker.register_generation_zero(subject.engine, subject.agent)
        yield cell, broker, subject
        group.cancel_scope.cancel()
