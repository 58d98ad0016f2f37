"""The bounds of a node as the machine's control groups hold them."""

from pathlib import Path

from redline.cell.footprint import is_of_a_cell

UNBOUNDED = 1 << 60


def cgroup_bounds(pid: int) -> dict[str, float | None]:
    """Memory in bytes and processors of the control groups that a process is in; empty where it is in none of its own.

    The lowest bound on the way up counts, and the process's own group must have a name: the root bounds nobody.
    """
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return {}
    places = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    if not any(is_of_a_cell(part) for path in places.values() for part in path.split("/")):
        return {}
    return {"memory": _memory(places), "cpus": _cpus(places)}


def _memory(places: dict[str, str]) -> float | None:
    return _lowest(
        [
            *_numbers("memory", places.get("memory"), "memory.limit_in_bytes"),
            *_numbers("", places.get(""), "memory.max"),
        ]
    )


def _cpus(places: dict[str, str]) -> float | None:
    found = []
    for folder in _folders("cpu", places.get("cpu")):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is not None and period and quota > 0:
            found.append(quota / period)
    for folder in _folders("", places.get("")):
        try:
            quota_word, period_word = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota_word != "max":
            found.append(int(quota_word) / int(period_word))
    return _lowest(found)


def _lowest(numbers: list[float]) -> float | None:
    bounded = [number for number in numbers if number < UNBOUNDED]
    return min(bounded) if bounded else None


def _numbers(controller: str, path: str | None, name: str) -> list[float]:
    found = [_number(folder / name) for folder in _folders(controller, path)]
    return [number for number in found if number is not None]


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _folders(controller: str, path: str | None) -> list[Path]:
    """Folders of a control group and of those above it, where the hierarchy is mounted in the usual place."""
    if path is None:
        return []
    root = Path("/sys/fs/cgroup") / controller if controller else Path("/sys/fs/cgroup")
    inner = path.strip("/")
    return [root / folder for folder in (Path(inner), *Path(inner).parents) if str(folder) != "."]
