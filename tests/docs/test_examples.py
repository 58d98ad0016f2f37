"""Run the examples of the documentation pages in order, and parse the command lines of help and README."""

import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from _pytest.mark import ParameterSet
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from redline._cli import main
from redline._errors import ExitCode

ROOT = Path(__file__).parents[2]
CELL = "<!-- cell -->"

TRIED = ("```sh", "```python")

pages = sorted(path for path in (ROOT / "docs").glob("*.md") if any(fence in path.read_text() for fence in TRIED))


def typed(example: Example) -> None:
    """Run the lines of a block of shell commands."""
    for line in example.parsed.splitlines():
        words = shlex.split(line)
        match words[0]:
            case "export":
                for assignment in words[1:]:
                    name, _, value = assignment.partition("=")
                    example.namespace["patch"].setenv(name, value)
            case "redline":
                assert main.execute(words[1:]) == ExitCode.OK, line
            case other:
                raise AssertionError(f"an example with {other}: {line}")


def marked(page: Path) -> ParameterSet:
    return pytest.param(page, id=page.name, marks=pytest.mark.cell if CELL in page.read_text() else ())


@pytest.mark.long
@pytest.mark.parametrize("page", [marked(page) for page in pages])
def test_the_examples_of_a_page_work(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sybil = Sybil([PythonCodeBlockParser(), CodeBlockParser("sh", typed)], path=str(page.parent))
    document = sybil.parse(page)
    document.namespace["patch"] = monkeypatch
    examples = list(document.examples())
    assert examples
    for example in examples:
        example.evaluate()


def command_lines() -> Iterator[str]:
    """Yield every redline command line in help and README."""
    for examples in tomllib.loads((ROOT / "src/redline/_cli/examples.toml").read_text()).values():
        yield from examples.values()
    for line in (ROOT / "README.md").read_text().replace("\\\n", " ").splitlines():
        if ".venv/bin/redline " in line and line.startswith((".venv", "VLLM", "LOCAL")):
            yield line[line.index(".venv/bin/redline") + len(".venv/bin/") :]


@pytest.mark.parametrize("line", list(command_lines()))
def test_every_documented_command_line_is_valid(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)
    assert name == "redline"
    command = typer.main.get_command(main.app)
    while hasattr(command, "get_command"):  # a group: the next word is a subcommand
        name, *arguments = arguments
        command = command.get_command(typer.Context(command), name)
        assert command is not None, f"there is no command {name}"
    command.make_context(name, arguments)
