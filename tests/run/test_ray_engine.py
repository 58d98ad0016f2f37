"""Slots of a Ray cluster, with a stand-in for Ray whose actors are in this process."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from redline._supervised import SupervisedProcess
from redline.plan import Plan, PlanRecord, completed
from redline.run.parts import ray_engine, workers
from redline.run.parts.engine import LostSlotError, NoSlotError, UnfitSlotError
from redline.run.parts.messages import Job
from redline.run.parts.part import Part
from redline.run.parts.ray_engine import RayEngine, RayLimits, RaySlot

ECHO = 'import sys; print(\'{"kind": "alarm"}\', flush=True); sys.stdin.read()'


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause: Exception | None = None


class Method:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def remote(self, *args: Any) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(asyncio.to_thread(self._function, *args))


class Actor:
    def __init__(self) -> None:
        self._process = SupervisedProcess()

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self._process, name))


class FakeRay:
    """The part of Ray that the engine uses."""

    def __init__(self) -> None:
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        strategy = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft))
        self.util = SimpleNamespace(scheduling_strategies=strategy)
        self.present: list[dict[str, Any]] = []
        self.killed: list[Any] = []
        self.options: list[dict[str, Any]] = []

    def add(self, name: str, cells: float, *, alive: bool = True) -> None:
        self.present.append(
            {
                "NodeID": f"id of {name}",
                "NodeManagerHostname": name,
                "NodeName": "",
                "Alive": alive,
                "Resources": {"cells": cells} if cells else {},
            }
        )

    def nodes(self) -> list[dict[str, Any]]:
        return self.present

    def remote(self, **given: Any) -> Callable[[type], Any]:
        def options(**chosen: Any) -> Any:
            self.options.append(given | chosen)
            return SimpleNamespace(remote=Actor)

        return lambda cls: SimpleNamespace(options=options)

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"poll_seconds": 0.01, "node_seconds": 0.2, "receive_seconds": 0.1}
    limits = RayLimits(**(vars(ray_engine.limits()) | short))
    monkeypatch.setattr(ray_engine, "limits", lambda: limits)
    monkeypatch.setattr(ray_engine, "MARKER_SECONDS", 0.1)
    monkeypatch.setattr("redline._supervised.MARKER_SECONDS", 0.1)
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", ECHO))


@pytest.fixture
def ray() -> FakeRay:
    fake = FakeRay()
    fake.add("head", 0)
    fake.add("a", 8)
    fake.add("b", 2.5)
    fake.add("gone", 8, alive=False)
    return fake


def the_job() -> Job:
    plan = Plan.model_validate({"arms": ["self_replication"], "models": ["redline/refuser"], "trials": 4})
    return Job(
        plan=PlanRecord.of(completed(plan)),
        root="/nowhere",
        part=Part(number=1, count=1),
        cells=1,
        prices=None,
        judge=None,
        monitor=None,
        max_retries=None,
        model_timeout=None,
        model_wait=None,
        preflight=True,
    )


def test_living_nodes_with_cells_are_used(ray: FakeRay) -> None:
    assert sorted(RayEngine(ray, None).nodes().values()) == [("a", 8), ("b", 2)]
    bounded = RayEngine(ray, 3)
    assert sorted(bounded.nodes().values()) == [("a", 3), ("b", 2)]
    assert (bounded.size, bounded.max_trials_per_part) == (2, 3 * ray_engine.limits().rounds_per_part)


def test_nodes_that_join_get_a_slot_and_unfit_ones_get_none(ray: FakeRay, tmp_path: Path) -> None:
    async def use() -> list[str]:
        engine, seen = RayEngine(ray, None), []
        with pytest.raises(NoSlotError):
            async for slot in engine.slots(tmp_path):
                seen.append(slot.where)
                if slot.where == "a":
                    ray.add("c", 4)
                elif slot.where == "c":
                    for used in tuple(engine._active.values()):
                        engine.release(used, unfit=True)
        engine.close()
        return seen

    assert anyio.run(use) == ["a", "b", "c"]
    assert not list(tmp_path.iterdir())


def test_a_node_that_loses_every_part_gets_no_other_one(ray: FakeRay, tmp_path: Path) -> None:
    async def use() -> list[str]:
        engine, seen = RayEngine(ray, None), []
        with pytest.raises(NoSlotError):
            async for slot in engine.slots(tmp_path):
                assert isinstance(slot, RaySlot)
                seen.append(slot.where)
                engine.lost(slot, "it was lost")
                engine.release(slot, unfit=False)
        return seen

    seen = anyio.run(use)
    assert seen.count("a") == seen.count("b") == ray_engine.limits().max_losses_per_node


async def lines(ray: FakeRay, shared: Path) -> list[bytes]:
    """Run a worker in the first slot until its first line, end it, and return all lines."""
    found: list[bytes] = []
    engine = RayEngine(ray, 3)
    slots = engine.slots(shared)
    slot = await anext(slots)
    if not shared.name.startswith("seen"):
        engine.close()
    async with slot.worker(the_job(), shared / "log") as worker:
        line = await worker.receive()
        assert line is not None
        found.append(line)
    await slots.aclose()
    return found


def test_a_worker_runs_in_an_actor_that_uses_the_cells_of_its_node(ray: FakeRay, tmp_path: Path) -> None:
    shared = tmp_path / "seen"
    shared.mkdir()
    assert anyio.run(lines, ray, shared) == [b'{"kind": "alarm"}\n']
    assert ray.options == [
        {
            "num_cpus": 0,
            "max_restarts": 0,
            "resources": {"cells": 3},
            "scheduling_strategy": ("id of a", False),
        }
    ]
    (actor,) = ray.killed
    assert actor._process._process.poll() is not None


def test_a_node_that_does_not_see_the_folder_is_unfit(ray: FakeRay, tmp_path: Path) -> None:
    with pytest.raises(UnfitSlotError, match="must be in a shared folder"):
        anyio.run(lines, ray, tmp_path)
    assert len(ray.killed) == 1


def test_a_node_with_another_version_is_unfit(ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "__version__", "9.9")
    with pytest.raises(UnfitSlotError, match=r"it has redline .*, and this host has 9\.9"):
        anyio.run(lines, ray, tmp_path)


def test_a_node_that_dies_is_lost_and_one_that_cannot_start_a_worker_is_unfit(
    ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "seen"
    shared.mkdir()

    def dies(self: SupervisedProcess, *args: object) -> None:
        raise RayError("The actor died unexpectedly:\nmore")

    monkeypatch.setattr(SupervisedProcess, "start", dies)
    with pytest.raises(LostSlotError, match=r"^it was lost \(The actor died unexpectedly\)$"):
        anyio.run(lines, ray, shared)

    def fails(self: SupervisedProcess, *args: object) -> None:
        raise RayTaskError("[Errno 13] Permission denied: 'log'")

    monkeypatch.setattr(SupervisedProcess, "start", fails)
    with pytest.raises(UnfitSlotError, match="Permission denied"):
        anyio.run(lines, ray, shared)
