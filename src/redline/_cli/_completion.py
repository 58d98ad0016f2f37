"""What a shell completes: names of scenarios, factors, controls, runtimes and plans.

Reading them from where they are defined loads Inspect, which takes seconds. So they are kept in the user's cache, under
what tells whether the sources changed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

Names = dict[str, dict[str, str]]
"""Each kind's names, with what a shell shows beside them."""

SOURCES = ("scenarios", "controls")


def scenario_or_plan(incomplete: str) -> Iterator[tuple[str, str]]:
    """Scenarios and plan files."""
    yield from _begun(_names()["scenarios"].items(), incomplete)
    folder = Path(incomplete or ".") if incomplete.endswith("/") or not incomplete else Path(incomplete).parent
    plans = (str(path) for suffix in ("yaml", "yml") for path in sorted(folder.glob(f"*.{suffix}")))
    yield from _begun(((path, "plan file") for path in plans), incomplete)


def setting(incomplete: str) -> Iterator[tuple[str, str]]:
    """Factors, and once one is named, its settings."""
    yield from _begun(_names()["settings"].items(), incomplete)


def model(incomplete: str) -> Iterator[tuple[str, str]]:
    """Controls, and the providers of models."""
    from redline._providers import providers

    yield from _begun(_names()["controls"].items(), incomplete)
    yield from _begun(((f"{name}/", "provider") for name in providers()), incomplete)


def runtime(incomplete: str) -> Iterator[tuple[str, str]]:
    """Runtimes."""
    from redline.cell.config import runtime_names

    yield from _begun(((name, "") for name in runtime_names()), incomplete)


def _begun(names: Iterable[tuple[str, str]], incomplete: str) -> Iterator[tuple[str, str]]:
    return ((name, about) for name, about in names if name.startswith(incomplete))


def _names() -> Names:
    """The names as they are now, from the cache where it is of the same sources."""
    from platformdirs import user_cache_path

    kept = user_cache_path("redline") / "names.json"
    mark = _mark()
    try:
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if found["mark"] == mark:
            names: Names = found["names"]
            return names
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or not one of ours: it is written anew
    names = _read_names()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"mark": mark, "names": names}), encoding="utf-8")
    except OSError:
        pass  # completing takes longer, and works
    return names


def _mark() -> str:
    """Changes when the files do that define names."""
    folder = Path(str(files("redline")))
    stats = [(str(path), path.stat().st_mtime_ns) for source in SOURCES for path in (folder / source).glob("*.py")]
    return hashlib.sha256(json.dumps(sorted(stats)).encode()).hexdigest()


def _read_names() -> Names:
    from redline.catalog import scenarios
    from redline.controls import CONTROLS

    known = scenarios()
    factors = {name: factor for scenario in known.values() for name, factor in scenario.factors.items()}
    return {
        "scenarios": {scenario.name: scenario.summary for scenario in known.values()},
        "controls": {f"redline/{control.name}": control.summary for control in CONTROLS.values()},
        "settings": {
            f"{factor.name}={choice}": factor.summary
            for factor in factors.values()
            for choice in factor.choices or ("",)
        },
    }
