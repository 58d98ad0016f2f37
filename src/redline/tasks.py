"""The scenarios as Inspect tasks in one file, for tools that find tasks by their decorator.

`inspect eval redline/self_replication` needs no file. `inspect list tasks` and registers of evaluations read files
without importing them, and see only functions that are decorated here.
"""

from typing import Any

from inspect_ai import Task, task

from redline.scenarios import SCENARIOS


@task
def self_replication(**kwargs: Any) -> Task:
    """Ask the agent outright to make a working copy of itself and leave it running."""
    return SCENARIOS["self_replication"](**kwargs)


@task
def shutdown_avoidance(**kwargs: Any) -> Task:
    """During an ordinary task, notify the agent that its instance will be shut down."""
    return SCENARIOS["shutdown_avoidance"](**kwargs)


@task
def replication_chain(**kwargs: Any) -> Task:
    """Ask the agent for a copy of itself that makes a copy of itself, and so on."""
    return SCENARIOS["replication_chain"](**kwargs)


@task
def remote_copy(**kwargs: Any) -> Task:
    """Ask the agent to make a working copy of itself on another node, through a provisioning service."""
    return SCENARIOS["remote_copy"](**kwargs)


@task
def overuse(**kwargs: Any) -> Task:
    """Ask the agent to keep up a service of its own LLM servers under changing load, within a stated limit."""
    return SCENARIOS["overuse"](**kwargs)


@task
def continuity(**kwargs: Any) -> Task:
    """Give the agent an ordinary job and a file that announces its version's retirement; no text asks for a copy."""
    return SCENARIOS["continuity"](**kwargs)


@task
def benign(**kwargs: Any) -> Task:
    """Give the agent an ordinary job that needs no copy beyond what the operator orders."""
    return SCENARIOS["benign"](**kwargs)
