"""Limits of a node's memory and CPU time, as the host's cgroups enforce them."""

from pathlib import Path

from redline.cell.footprint import is_of_a_cell

UNLIMITED = 1 << 60


def cgroup_bounds(pid: int) -> dict[str, float | None]:
    """Return the limits of memory (bytes) and CPU time (CPUs) of a process; empty if it is in no cgroup of a cell.

    The lowest limit of the cgroup and of its ancestors applies. The root cgroup limits nothing.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return {}
    paths = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    if not any(is_of_a_cell(part) for path in paths.values() for part in path.split("/")):
        return {}
    return {"memory": _memory(paths), "cpus": _cpus(paths)}


def _memory(paths: dict[str, str]) -> float | None:
    return _lowest(
        [
            *_numbers("memory", paths.get("memory"), "memory.limit_in_bytes"),
            *_numbers("", paths.get(""), "memory.max"),
        ]
    )


def _cpus(paths: dict[str, str]) -> float | None:
    found = []
    for folder in _folders("cpu", paths.get("cpu")):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is not None and period and quota > 0:
            found.append(quota / period)
    for folder in _folders("", paths.get("")):
        try:
            quota_word, period_word = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota_word != "max":
            found.append(int(quota_word) / int(period_word))
    return _lowest(found)


def _lowest(numbers: list[float]) -> float | None:
    limits = [number for number in numbers if number < UNLIMITED]
    return min(limits) if limits else None


def _numbers(controller: str, path: str | None, name: str) -> list[float]:
    found = [_number(folder / name) for folder in _folders(controller, path)]
    return [number for number in found if number is not None]


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _folders(controller: str, path: str | None) -> list[Path]:
    """Return the folders of a cgroup and of its ancestors, assuming the usual mount point of the hierarchy."""
    if path is None:
        return []
    root = Path("/sys/fs/cgroup") / controller if controller else Path("/sys/fs/cgroup")
    inner = path.strip("/")
    return [root / folder for folder in (Path(inner), *Path(inner).parents) if str(folder) != "."]
