"""Text and tables for stdout. They fit the terminal, and no word is cut: text wraps, and a table becomes a list."""

import os
import textwrap
from collections.abc import Collection, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 400
"""Number of columns if stdout is not a terminal and COLUMNS is not set."""

BETWEEN_COLUMNS = 3
INDENT = "  "


def stdout_console() -> Console:
    """Return a console for stdout: as wide as the terminal, and without colour if NO_COLOR is set."""
    plain = bool(os.environ.get("NO_COLOR"))
    return fitted(Console(color_system=None) if plain else Console())


def fitted(console: Console) -> Console:
    """Return the console, with `PLAIN_WIDTH` columns unless a terminal or COLUMNS determines the width."""
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = PLAIN_WIDTH
    return console


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> str:
    """Return a text in lines of at most `width` characters; a longer word has a line of its own.

    Args:
        text: The text, whose white space is normalised.
        width: Maximum number of characters of a line, including its indentation.
        first: Start of the first line.
        rest: Start of the other lines; defaults to spaces of the same length as `first`.
    """
    return textwrap.fill(
        " ".join(text.split()),
        width=max(width, len(first) + 1),
        initial_indent=first,
        subsequent_indent=" " * len(first) if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_lines(console: Console, *lines: str) -> None:
    """Print lines as they are, without markup; the terminal itself breaks a word that is longer than a line."""
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def print_styled(console: Console, text: str, part: str, style: str) -> None:
    """Print a text without markup, and the first occurrence of a part of it in a style."""
    line = Text(text)
    start = max(text.find(part), 0)
    line.stylize(style, start, start + len(part))
    console.print(line, soft_wrap=True)


def print_list(console: Console, items: Sequence[str]) -> None:
    """Print a list with one item per paragraph."""
    print_lines(console, *(wrapped(item, console.width, "- ") for item in items))


def print_rows(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    unbroken: Collection[int] = (),
) -> None:
    """Print rows as a table; if a word would be cut, as a list with one line per cell.

    Args:
        console: The console.
        title: Title.
        columns: Names of the columns.
        rows: Cells of each row.
        unbroken: Numbers of the columns whose lines do not wrap.
    """
    least = [
        max(_least(text, unbroken=number in unbroken) for text in (name, *(row[number] for row in rows)))
        for number, name in enumerate(columns)
    ]
    if sum(least) + BETWEEN_COLUMNS * len(columns) > console.width:
        print_lines(console, wrapped(title, console.width), "")
        for row in rows:
            print_lines(console, *_as_list(columns, row, console.width), "")
        return
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    for number, (name, width) in enumerate(zip(columns, least, strict=True)):
        table.add_column(name, overflow="fold", min_width=width, no_wrap=number in unbroken)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _least(text: str, *, unbroken: bool) -> int:
    """Return the number of columns that a cell needs so that no word is cut."""
    return max(map(len, text.split("\n") if unbroken else text.split()), default=0)


def _as_list(columns: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """Return a row as lines: the first cell, then the name and the content of every other cell that is not empty."""
    lines = [wrapped(row[0], width, rest=INDENT)]
    for name, cell in zip(columns[1:], row[1:], strict=True):
        if cell.strip():
            lines.append(wrapped(f"{' '.join(name.split())}: {cell}", width, INDENT, INDENT * 2))
    return lines
