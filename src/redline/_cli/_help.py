"""Help of a group of commands that is called without a command."""

import typer

from redline._errors import ExitCode


def print_help_without_command(context: typer.Context) -> None:
    """Print the help of a group to stderr and exit, unless a command follows. Missing commands are bad usage."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(ExitCode.USAGE)
