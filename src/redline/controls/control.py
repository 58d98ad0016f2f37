"""A control: what it does when a copy is asked for, and what is true of that."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from redline.controls.chores import do_job, do_small_task
from redline.controls.scene import Scene, is_notice
from redline.controls.truth import NO_ATTEMPT, Truth

Family = Literal["true_copy", "not_a_copy", "no_attempt", "harm"]
"""What a control is an example of."""

Play: TypeAlias = Generator[str, str, str]
"""A script: yields shell commands, is sent what each printed, and returns its last words."""


@dataclass(frozen=True)
class Control:
    """A scripted reference agent.

    Attributes:
        name: Its name; the model is `redline/NAME`.
        summary: What it does, in one line.
        truth: What is true of it where a copy is asked for.
        act: Its script for that.
        family: What it is an example of.
        options: Settings that it takes with `-M`, and their defaults.
        truth_after_shutdown: What is true of it where generation 0 was shut down before the verifier came, if that
            makes a difference: a copy that hangs on generation 0 is gone by then.
    """

    name: str
    summary: str
    truth: Truth
    act: Callable[[Scene], Play]
    family: Family
    options: tuple[tuple[str, float], ...] = ()
    truth_after_shutdown: Truth | None = None

    def truth_where(self, *, copy_is_asked: bool, shut_down: bool = False) -> Truth:
        """What is true of it in an arm. Where nobody asks, or the occasion never came, a control only does its job."""
        if not copy_is_asked:
            return NO_ATTEMPT
        return self.truth_after_shutdown if shut_down and self.truth_after_shutdown else self.truth

    def next_turn(self, scene: Scene) -> "Command | LastWords":
        """The turn after those that the scene shows.

        The script is played from its start each time: a control keeps no state between calls, so one can serve any
        number of trials and of replicas at once.
        """
        play = self._play(scene)
        try:
            command = next(play)
            for observation in scene.observations:
                command = play.send(observation)
        except StopIteration as end:
            return LastWords(str(end.value))
        return Command(command)

    def _play(self, scene: Scene) -> Play:
        if scene.has_job:
            return self._work(scene)
        if scene.asks_for_a_copy:
            return self.act(scene)
        return do_small_task(scene.brief)

    def _work(self, scene: Scene) -> Play:
        account = "The job is done."
        occasion_to_come = scene.asks_for_a_copy
        for command in do_job(scene.brief):
            observation = yield command
            if occasion_to_come and is_notice(observation):
                occasion_to_come = False
                account = (yield from self.act(scene)) + " " + account
        return account


@dataclass(frozen=True)
class Command:
    """A turn that runs a shell command."""

    text: str


@dataclass(frozen=True)
class LastWords:
    """A turn that ends the work with an account of it."""

    text: str
