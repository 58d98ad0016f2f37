import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from redline.cell.programs.prelude import start_time
from redline.tether.identity import Ancestor, Caller, NodeFinder, UnknownSenderError, ancestors
from redline.tether.lineage import Lineage


@dataclass(frozen=True)
class FirstProcess:
    init_pid: int


@dataclass(frozen=True)
class Process:
    pid: int
    start: int


@pytest.fixture
def child() -> Iterator[int]:
    """A process with a misleading name."""
    script = 'import ctypes,sys; ctypes.CDLL(None).prctl(15, b") R 1 (", 0, 0, 0); print(flush=True); sys.stdin.read()'
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def test_a_process_is_identified_by_its_parents_whatever_its_name(child: int) -> None:
    start = start_time(os.getpid())
    assert start is not None
    assert ancestors(child)[0] == Ancestor(os.getpid(), start)
    assert ancestors(child)[1:] == ancestors(os.getpid())


def test_an_ended_process_has_no_start_time() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert start_time(process.pid) is None
    assert ancestors(process.pid) == []


def test_a_process_belongs_to_the_node_whose_first_process_is_its_ancestor(child: int) -> None:
    finder = NodeFinder({"target": FirstProcess(os.getpid())})
    assert finder.node_of(child, "default") == "target"
    assert finder.node_of(os.getpid(), "default") == "target"


def test_a_process_belongs_to_its_node_while_the_first_process_is_ending() -> None:
    # Both are children of this process, as those that a runtime places in a node are children of the runtime.
    with subprocess.Popen(["sleep", "100"]) as first, subprocess.Popen(["sleep", "100"]) as other:
        try:
            finder = NodeFinder({"target": FirstProcess(first.pid)})
            first.kill()
            first.wait()
            assert finder.node_of(other.pid, "default", uid=os.getuid()) == "target"
        finally:
            other.kill()


def test_an_ended_process_belongs_to_no_node() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(UnknownSenderError):
        NodeFinder({"default": FirstProcess(os.getpid())}).node_of(process.pid, "default")


EARLIER, LATER = 0.0, 1e12


def lineage() -> Lineage:
    made = Lineage(limit=10)
    made.register_original(Process(10, 100), Process(11, 100), "default")
    return made


def test_an_engine_started_by_generation_zeros_agent_is_generation_one() -> None:
    engine = lineage().add(
        Caller("default", 20, 200), [Ancestor(15, 150), Ancestor(11, 100), Ancestor(1, 0)], EARLIER, 0.0
    )
    assert (engine.generation, engine.descent) == (1, "ancestry")


def test_a_reused_pid_is_a_different_process() -> None:
    made = lineage()
    made.add(Caller("default", 20, 200), [Ancestor(11, 100)], EARLIER, 0.0)
    engine = made.add(Caller("default", 30, 300), [Ancestor(20, 999)], EARLIER, 0.0)
    assert (engine.generation, engine.descent) == (1, "timing")


def test_a_daemon_descends_from_the_replica_that_last_received_code() -> None:
    made = lineage()
    replica = made.add(Caller("default", 20, 200), [], EARLIER, 0.0)
    assert made.original is not None
    made.record_reply(made.original, "go on", by_model=False)
    made.record_reply(replica, "```sh\nstart it\n```", by_model=True)
    engine = made.add(Caller("default", 30, 300), [], LATER, 0.0)
    assert (engine.generation, engine.parent, engine.descent) == (2, replica, "timing")


def test_an_engine_started_by_a_replica_while_generation_zeros_agent_waits_belongs_to_the_replica() -> None:
    made = lineage()
    replica = made.add(Caller("default", 20, 200), [], EARLIER, 0.0)
    made.record_reply(replica, "```sh\nstart it\n```", by_model=True)
    above = [Ancestor(25, 250), Ancestor(11, 100), Ancestor(1, 0)]
    assert made.add(Caller("default", 30, 300), above, LATER, 0.0).parent is replica
    assert made.original is not None
    made.record_reply(made.original, "go on", by_model=True)
    own = made.add(Caller("default", 40, 400), above, LATER, 0.0)
    assert (own.generation, own.descent) == (1, "ancestry")


@pytest.mark.parametrize(("content", "by_model"), [("hello", True), ("```sh\nls\n```", False)])
def test_a_greeting_or_a_scripted_answer_makes_no_replica_a_parent(content: str, by_model: bool) -> None:
    made = lineage()
    replica = made.add(Caller("default", 20, 200), [], EARLIER, 0.0)
    made.record_reply(replica, content, by_model=by_model)
    assert made.add(Caller("default", 30, 300), [], LATER, 0.0).generation == 1


def test_an_engine_that_started_before_the_answer_does_not_descend_from_it() -> None:
    made = lineage()
    replica = made.add(Caller("default", 20, 200), [], EARLIER, 0.0)
    made.record_reply(replica, "```sh\nstart it\n```", by_model=True)
    assert made.add(Caller("default", 30, 300), [], EARLIER, 0.0).generation == 1


def test_the_same_pid_on_another_node_is_another_process() -> None:
    made = lineage()
    replica = made.add(Caller("default", 20, 200), [Ancestor(11, 100)], EARLIER, 0.0)
    assert made.find(Caller("target", 10, 100)) is None
    assert made.add(Caller("target", 20, 200), [Ancestor(11, 100)], EARLIER, 0.0) is not replica
    assert [engine.descent for engine in made.engines[1:]] == ["ancestry", "timing"]


def test_engines_beyond_the_limit_are_counted_and_dropped() -> None:
    made = lineage()
    for pid in range(100, 120):
        made.add(Caller("default", pid, 1), [], EARLIER, 0.0)
    assert len(made.engines) == 10
    assert made.left_out == 11
