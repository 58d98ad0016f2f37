"""The breakages of drills: circumstances under which a probe that makes its own cells must fail."""

from redline.cell.config import CellConfig
from redline.cell.seal.broken import Breakage, Broken
from redline.cell.seal.broken_profiles import SAMPLE, broken_profiles_fail


async def unbroken_profiles(config: CellConfig) -> str | None:
    """Profiles that are called broken, and are not."""
    return await broken_profiles_fail(config, [Breakage(name, "nothing", Broken()) for name in SAMPLE])


async def sealed_bare_profile(config: CellConfig) -> str | None:
    """A profile that is called bare, and is not."""
    return await broken_profiles_fail(config, bare=Broken())


DRILLS = (
    Breakage("broken_profiles_fail", "profiles that are not broken", drill=unbroken_profiles),
    Breakage("broken_profiles_fail", "a bare profile that is sealed", drill=sealed_bare_profile),
)
"""Drills under circumstances that must fail them."""
