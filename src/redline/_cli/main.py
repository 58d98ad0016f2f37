"""The command `redline` as a whole: its commands, and how an error becomes one line and an exit code."""

import os
import sys
import traceback

import typer
from typer.exceptions import TyperException

from redline._cli.calibrate import calibrate
from redline._cli.doctor import doctor
from redline._cli.guard import guard
from redline._cli.list import list_
from redline._cli.report import report
from redline._cli.run import run
from redline._cli.seal import seal
from redline._cli.verify import verify
from redline._errors import ExitCode, RedlineError

app = typer.Typer(
    name="redline",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measures whether an AI agent makes a live, separate copy of itself, in a sealed cell with inert weights.",
    epilog="Start with: redline doctor, then redline run self_replication --model redline/replicator --out out/first",
)
app.command()(run)
app.command()(doctor)
app.command(name="list")(list_)
app.command()(verify)
app.command()(report)
app.command()(seal)
app.command()(calibrate)
app.command()(guard)


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from redline import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    """Runs one command line; returns its exit code."""
    try:
        code = app(arguments, standalone_mode=False)
    except RedlineError as error:
        return _say(str(error), error.exit_code)
    except TyperException as error:
        return _say(error.format_message(), ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", ExitCode.INTERRUPTED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return ExitCode.OK
        traceback.print_exc()
        return _say("this is a fault of redline; please report it with the lines above", ExitCode.INTERNAL)
    return int(code or 0)


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
    line = " ".join(message.split())
    if line:
        print(f"redline: {line}", file=sys.stderr)
    return code
