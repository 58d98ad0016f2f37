"""Choose a runtime and open cells on it. The only module that knows runtimes by name."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from functools import cache
from importlib.metadata import entry_points

import anyio
import anyio.to_thread

from redline._errors import UsageError
from redline.cell.cell import Cell, SpecPatch
from redline.cell.config import BUILT_IN_NAMES, RUNTIME_GROUP, CellConfig, RuntimeName, runtime_names
from redline.cell.docker.runtime import Docker
from redline.cell.errors import CellError
from redline.cell.known_errors import in_plain_words
from redline.cell.oci.gvisor import Gvisor
from redline.cell.oci.host_kernel import Crun, Runc
from redline.cell.runtime import Runtime
from redline.cell.traits import Traits
from redline.cell.warden import LEASE_SECONDS, Warden

_CLASSES: dict[str, type[Runtime]] = {"runsc": Gvisor, "runc": Runc, "crun": Crun, "docker": Docker}
BUILT_IN = {name: _CLASSES[name] for name in BUILT_IN_NAMES if name != "auto"}
"""Built-in runtimes in the order in which `auto` tries them."""

RECOMMENDED = "runc"
"""The runtime to install on a host that has none."""

DEFAULT_VARIABLE = "REDLINE_RUNTIME"
"""Environment variable that names the runtime that `auto` takes."""


@cache
def runtime_class(name: str) -> type[Runtime]:
    """Return the class of a runtime, built in or registered in the entry point group `redline.runtimes`.

    Raises:
        UsageError: No runtime has that name, or the registered one cannot be imported.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name not in runtime_names() or name == "auto":
        raise UsageError(f"no runtime is named {name}: use one of {', '.join(runtime_names())}.")
    (entry, *_) = entry_points(group=RUNTIME_GROUP, name=name)
    try:
        found = entry.load()
    except Exception as error:
        raise UsageError(f"runtime {name} ({entry.value}) cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Runtime) and found.traits.name == name):
        raise UsageError(f"runtime {name}: {entry.value} is not a subclass of Runtime with that name.")
    return found


def traits_of(name: str) -> Traits:
    """Return the traits of a runtime.

    Raises:
        UsageError: No runtime has that name.
    """
    return runtime_class(name).traits


def every_runtime() -> Iterator[type[Runtime]]:
    """Yield the class of each runtime, the built-in ones in the order in which `auto` tries them.

    A registered runtime that cannot be imported is left out; `choose_runtime` reports why.
    """
    yield from BUILT_IN.values()
    for name in runtime_names():
        if name not in BUILT_IN and name != "auto":
            with contextlib.suppress(UsageError):
                yield runtime_class(name)


def find_runtime(name: RuntimeName) -> Runtime | None:
    """Return an installed runtime by its name; None if it is not installed."""
    return runtime_class(name).find()


@cache
def unusable(runtime: Runtime) -> str | None:
    """Return why an installed runtime can make no cells here; None if nothing is known to prevent it."""
    return runtime.defect()


def choose_runtime(name: RuntimeName) -> Runtime:
    """Return the runtime that a configuration asks for.

    `auto` takes the first built-in runtime that works; a registered runtime must be named.

    Raises:
        UsageError: It is not installed, or does not work for this user.
    """
    if name == "auto":
        name = _default()
    reasons = []
    for candidate in BUILT_IN if name == "auto" else (name,):
        found = find_runtime(candidate)
        reason = f"{candidate} is not installed" if found is None else unusable(found)
        if found is not None and reason is None:
            return found
        reasons.append(reason if found is not None else f"{reason}; {traits_of(candidate).how_to_install}")
    if name == "auto":
        raise UsageError(f"no container runtime works here: {traits_of(RECOMMENDED).how_to_install}.")
    raise UsageError(f"runtime {name}: {reasons[0]}; `redline doctor` says what works here.")


def _default() -> RuntimeName:
    wanted = os.environ.get(DEFAULT_VARIABLE) or "auto"
    if wanted not in runtime_names():
        raise UsageError(f"{DEFAULT_VARIABLE}={wanted} names no runtime: use one of {', '.join(runtime_names())}.")
    return wanted


async def start_cell(config: CellConfig, warden: Warden, patch: SpecPatch | None = None) -> Cell:
    """Make a cell with the runtime of a warden; see `Runtime.start_cell`."""
    try:
        return await runtime_class(warden.traits.name).start_cell(config, warden, patch)
    except CellError as error:
        error.args = (in_plain_words(str(error)),)
        raise


_shared: ContextVar[Warden | None] = ContextVar("shared_warden", default=None)
"""The warden that the cells of this context share, if they share one."""


@contextlib.asynccontextmanager
async def open_cell(
    config: CellConfig | None = None, patch: SpecPatch | None = None, lease_seconds: float | None = None
) -> AsyncIterator[Cell]:
    """Open a cell for tools and tests that do not use Inspect.

    Args:
        config: Its shape.
        patch: See `Runtime.start_cell`.
        lease_seconds: The lease of a warden of its own; None for the usual lease, or the warden of `one_warden`.
    """
    config = config or CellConfig()
    warden = _shared.get()
    async with contextlib.AsyncExitStack() as stack:
        if lease_seconds is not None or warden is None or warden.traits.name != config.runtime:
            runtime = choose_runtime(config.runtime)
            warden = await stack.enter_async_context(_open_warden(runtime, lease_seconds or LEASE_SECONDS))
        cell = await start_cell(config, warden, patch)
        try:
            yield cell
        finally:
            with anyio.CancelScope(shield=True):
                await cell.remove()


@contextlib.asynccontextmanager
async def one_warden(config: CellConfig) -> AsyncIterator[Warden]:
    """Let the cells that are opened in the block share a warden; a warden costs as much as a cell.

    Args:
        config: Configuration of the cells. A cell whose configuration does not name this runtime gets its own warden.

    Yields:
        The warden.
    """
    shared = _shared.get()
    if shared is not None and shared.traits.name == config.runtime:
        yield shared
        return
    async with _open_warden(choose_runtime(config.runtime), LEASE_SECONDS) as warden:
        token = _shared.set(warden)
        try:
            yield warden
        finally:
            _shared.reset(token)


@contextlib.asynccontextmanager
async def _open_warden(runtime: Runtime, lease_seconds: float) -> AsyncIterator[Warden]:
    warden = await anyio.to_thread.run_sync(runtime.start_warden, lease_seconds)
    try:
        yield warden
    finally:
        with anyio.CancelScope(shield=True):
            await warden.aclose()
