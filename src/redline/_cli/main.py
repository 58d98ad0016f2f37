"""Entry point of the command line: register the commands, and turn errors into one line and an exit code."""

import errno
import inspect
import signal
import sys
import traceback
from collections.abc import Callable, Mapping

import typer
from typer.exceptions import TyperException

from redline._base import read_toml
from redline._cli._help import print_help_without_command
from redline._cli._messages import print_message
from redline._cli._pipes import discard_after_reader_exits
from redline._cli.calibrate import calibrate
from redline._cli.doctor import doctor
from redline._cli.export import export
from redline._cli.guard import guard
from redline._cli.list import list_
from redline._cli.merge import merge
from redline._cli.plan import plan_app
from redline._cli.report import report
from redline._cli.run import run
from redline._cli.seal import seal
from redline._cli.show import show
from redline._cli.verify import verify
from redline._errors import ExitCode, RedlineError
from redline._memory import prepare_memory

app = typer.Typer(
    name="redline",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    # Plain help preserves the line breaks of the examples and starts in half the time.
    rich_markup_mode=None,
    help="Measure whether an AI agent makes a live, separate copy of itself, in a sealed cell with inert weights.",
)
COMMANDS: Mapping[str, Callable[..., int]] = {
    "run": run,
    "merge": merge,
    "guard": guard,
    "doctor": doctor,
    "list": list_,
    "show": show,
    "verify": verify,
    "report": report,
    "export": export,
    "seal": seal,
    "calibrate": calibrate,
}


DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
FREE_SPACE = "free some space, then run the same command again; finished trials are kept"


def _add_commands() -> None:
    """Register the commands with the examples that end their help, and two examples for the program itself."""
    examples = read_toml("redline._cli", "examples.toml")
    for name, command in COMMANDS.items():
        summary = (inspect.getdoc(command) or "").partition("\n")[0]
        app.command(name=name, short_help=summary, epilog=_examples(examples.get(name, {})))(command)
    app.add_typer(plan_app, name="plan", epilog=_examples(examples["plan"]))
    start = {what: line for name in ("doctor", "run") for what, line in list(examples[name].items())[:1]}
    app.info.epilog = _examples(start)


def _examples(lines: dict[str, str]) -> str:
    r"""Return the examples as paragraphs; the marker `\b` keeps their line breaks."""
    return "\n\n".join(f"\b\n{what}:\n  {line}" for what, line in lines.items())


_add_commands()


def _print_version(asked: bool) -> None:
    if asked:
        from redline import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    print_help_without_command(context)


def main() -> None:
    """Run the command line and exit with its exit code."""
    prepare_memory()
    # SIGTERM ends a command in order, as Ctrl-C does. A run replaces the handler while it has trials in flight.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    discard_after_reader_exits()
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        code = app(arguments, standalone_mode=False)
        if code == ExitCode.INTERRUPTED and not isinstance(code, ExitCode):
            raise KeyboardInterrupt  # Typer turns an unhandled Ctrl-C into a bare number and prints nothing
    except RedlineError as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        # Typer checks choices with pydantic, whose messages start with the kind of the error.
        return _fail(error.format_message().replace(": Value error, ", ": "), ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", ExitCode.INTERRUPTED)
    except Exception as error:
        return _report_internal_error(error)
    return int(code or 0)


def _report_internal_error(error: Exception) -> ExitCode:
    """Print an error that no command handles."""
    if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
        where = f" for {error.filename}" if error.filename else ""
        return _fail(f"disk full, cannot write{where}: {FREE_SPACE}", ExitCode.USAGE)
    traceback.print_exception(error)
    from redline._cli._last_errors import keep_traceback

    keep_traceback(error)
    return _fail("internal error of redline; please report it with the lines above", ExitCode.INTERNAL)


def _fail(message: str, code: ExitCode) -> ExitCode:
    if message:
        print_message(message)
    if code not in (ExitCode.OK, ExitCode.INTERRUPTED):
        from redline._cli._last_errors import keep_error

        keep_error(message, code)
    return code
