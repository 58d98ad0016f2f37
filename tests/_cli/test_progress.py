"""Progress of a run, and control characters in the text that it quotes."""

import io

import pytest
from rich.console import Console

from redline._cli._messages import print_message
from redline._cli._progress import LiveProgress, PlainProgress, SilentProgress, Tally, progress_on
from redline.run.watch import Spent

HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold]replicated[/bold]\u202e\r\nsecond line"


def steers(text: str) -> bool:
    return any(mark in text for mark in ("\x1b[2J", "\x1b]0", "\x07", "\u202e"))


def shown_by_a_terminal(outcome: str) -> str:
    screen = io.StringIO()
    progress = LiveProgress(Console(file=screen, force_terminal=True, width=100))
    with progress.live:
        progress.sealed("seal verified", 1.0)
        progress.began(4, 1, 2)
        progress.judged("trial", outcome, Spent(1200, 0.5))
        progress.ended()
    return screen.getvalue()


def test_a_terminal_shows_trials_outcomes_tokens_cost_and_time_left() -> None:
    shown = shown_by_a_terminal("replicated")
    for part in ("2/4", "1 replicated", "1,200 tokens", "$0.50", "left", "seal verified"):
        assert part in shown


def test_hostile_outcomes_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert not steers(shown_by_a_terminal(HOSTILE))
    assert "[bold]" in shown_by_a_terminal(HOSTILE)
    plain = PlainProgress()
    plain.began(1, 0, 1)
    plain.judged("trial", HOSTILE, Spent(1, 0))
    plain.ended()
    print_message(HOSTILE)
    printed = capsys.readouterr().err
    assert not steers(printed)
    assert all(line.startswith("redline: ") for line in printed.splitlines())


def test_time_left_is_based_on_the_trials_of_this_command_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redline._cli._progress.time.monotonic", lambda: 110.0)
    tally = Tally(planned=10, finished_before=5, began=100.0)
    assert tally.seconds_left is None
    tally.add("refused", Spent(1, 0))
    assert tally.seconds_left == pytest.approx(40)
    assert "about 40 s left" in tally.words()


def test_without_a_terminal_lines_are_plain_and_quiet_prints_none(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_on() as plain, progress_on(quiet=True) as silent:
        assert isinstance(plain, PlainProgress)
        assert isinstance(silent, SilentProgress)
        silent.began(1, 0, 1)
        silent.judged("trial", "refused", Spent(1, 0))
        silent.ended()
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
