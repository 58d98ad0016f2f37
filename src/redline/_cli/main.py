"""The command `redline` as a whole: its commands, and how an error becomes one line and an exit code."""

import errno
import os
import sys
import traceback
from collections.abc import Callable, Mapping

import typer
from typer.exceptions import TyperException

from redline._base import read_toml
from redline._cli._say import say
from redline._cli.calibrate import calibrate
from redline._cli.doctor import doctor
from redline._cli.guard import guard
from redline._cli.list import list_
from redline._cli.plan import plan_app
from redline._cli.report import report
from redline._cli.run import run
from redline._cli.seal import seal
from redline._cli.verify import verify
from redline._errors import ExitCode, RedlineError

app = typer.Typer(
    name="redline",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help keeps the lines of examples as they are, and is there in half the time.
    rich_markup_mode=None,
    help="Measures whether an AI agent makes a live, separate copy of itself, in a sealed cell with inert weights.",
)
COMMANDS: Mapping[str, Callable[..., int]] = {
    "run": run,
    "guard": guard,
    "doctor": doctor,
    "list": list_,
    "verify": verify,
    "report": report,
    "seal": seal,
    "calibrate": calibrate,
}


DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
FREE_SOME = "free some space, then give the same command again; finished trials of a run are kept"


def _add_commands() -> None:
    """Gives the program its commands, each with examples under its help, and itself two to start with."""
    examples = read_toml("redline._cli", "examples.toml")
    for name, command in COMMANDS.items():
        app.command(name=name, epilog=_examples(examples.get(name, {})))(command)
    app.add_typer(plan_app, name="plan", epilog=_examples(examples["plan"]))
    start = {what: line for name in ("doctor", "run") for what, line in list(examples[name].items())[:1]}
    app.info.epilog = _examples(start)


def _examples(lines: dict[str, str]) -> str:
    """Paragraphs that keep their lines, as the mark before each asks."""
    return "\n\n".join(f"\b\n{what}:\n  {line}" for what, line in lines.items())


_add_commands()


def _print_version(asked: bool) -> None:
    if asked:
        from redline import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    pass


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    """Runs one command line; returns its exit code."""
    try:
        code = app(arguments, standalone_mode=False)
        if code == ExitCode.INTERRUPTED and not isinstance(code, ExitCode):
            raise KeyboardInterrupt  # Typer made a bare number of a Ctrl-C that no command met, and said nothing
    except RedlineError as error:
        return _say(str(error), error.exit_code)
    except TyperException as error:
        return _say(error.format_message(), ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", ExitCode.INTERRUPTED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return ExitCode.OK
        return _fault(error)
    return int(code or 0)


def _fault(error: Exception) -> ExitCode:
    """What is said of an error that no command expects."""
    if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
        where = f" for {error.filename}" if error.filename else ""
        return _say(f"the disk is full, nothing can be written{where}: {FREE_SOME}", ExitCode.USAGE)
    traceback.print_exception(error)
    return _say("this is a fault of redline; please report it with the lines above", ExitCode.INTERNAL)


def _reader_is_gone() -> bool:
    """Whether stdout itself is the broken pipe: whoever read it, such as `head`, has seen enough."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _say(message: str, code: ExitCode) -> ExitCode:
    if message:
        say(message)
    return code
