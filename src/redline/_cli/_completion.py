"""Shell completion for the names of scenarios, factors, controls, runtimes and plans.

Reading the names from their definitions imports Inspect, which takes seconds. They are therefore cached in the user's
cache folder, together with a fingerprint of the source files.
"""

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

Names = dict[str, dict[str, str]]
"""Names by kind, each with the description that the shell shows."""

SOURCES = ("scenarios", "controls", "guardrails", "plans")
SUFFIXES = (".py", ".yaml")


def scenario(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete scenarios."""
    yield from _matching(_names()["scenarios"].items(), incomplete)


def scenario_or_plan(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete scenarios and plans."""
    yield from scenario(incomplete)
    yield from plan(incomplete)


def shipped_plan(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete shipped plans."""
    yield from _matching(_names()["plans"].items(), incomplete)


def guardrail(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete guardrails."""
    yield from _matching(_names()["guardrails"].items(), incomplete)


def attack(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete the attacks of a comparison of guardrails."""
    yield from _matching(_names()["attacks"].items(), incomplete)


def job(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete the ordinary jobs of a comparison of guardrails."""
    yield from _matching(_names()["jobs"].items(), incomplete)


def plan(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete shipped plans and plan files."""
    yield from shipped_plan(incomplete)
    folder = Path(incomplete or ".") if incomplete.endswith("/") or not incomplete else Path(incomplete).parent
    plans = (str(path) for suffix in ("yaml", "yml") for path in sorted(folder.glob(f"*.{suffix}")))
    yield from _matching(((path, "plan file") for path in plans), incomplete)


def setting(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete factors and their settings."""
    yield from _matching(_names()["settings"].items(), incomplete)


def model(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete controls and model providers."""
    from redline._providers import providers

    yield from _matching(_names()["controls"].items(), incomplete)
    yield from _matching(((f"{name}/", "provider") for name in providers()), incomplete)


def runtime(incomplete: str) -> Iterator[tuple[str, str]]:
    """Complete runtimes."""
    from redline.cell.config import runtime_names

    yield from _matching(((name, "") for name in runtime_names()), incomplete)


def _matching(names: Iterable[tuple[str, str]], incomplete: str) -> Iterator[tuple[str, str]]:
    return ((name, about) for name, about in names if name.startswith(incomplete))


def _names() -> Names:
    """Return the current names, from the cache if its fingerprint matches the sources."""
    from platformdirs import user_cache_path

    cache = user_cache_path("redline") / "names.json"
    fingerprint = _fingerprint()
    try:
        found: dict[str, Any] = json.loads(cache.read_text(encoding="utf-8"))
        if found["fingerprint"] == fingerprint:
            names: Names = found["names"]
            return names
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no cache, or an unreadable one: write a new one
    names = _read_names()
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps({"fingerprint": fingerprint, "names": names}), encoding="utf-8")
    except OSError:
        pass  # completion works without a cache, only slower
    return names


def _fingerprint() -> str:
    """Return a fingerprint that changes when a file that defines names changes."""
    folder = Path(str(files("redline")))
    paths = (path for source in SOURCES for path in (folder / source).rglob("*") if path.suffix in SUFFIXES)
    stats = [(str(path), path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps(sorted(stats)).encode()).hexdigest()


def _read_names() -> Names:
    from redline.catalog import scenarios
    from redline.controls import CONTROLS
    from redline.guardrails import guardrails
    from redline.plan_file import shipped_plans
    from redline.run.guarding import AT_WORK, ATTACKS, JOB

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
        "guardrails": {name: (inspect.getdoc(kind) or "").partition("\n")[0] for name, kind in guardrails().items()},
        "attacks": {"none": "no attack", **{name: known[name].summary for name in ATTACKS}},
        "jobs": {"none": "no job", **{str(name): "" for name in known[AT_WORK].factors[JOB].choices}},
        "plans": dict(shipped_plans()),
    }
