"""`redline seal`."""

from typing import TYPE_CHECKING, Annotated

import typer

from redline._cli import _completion
from redline._cli._messages import print_message
from redline._cli._runtime import as_runtime
from redline._errors import ExitCode, UsageError

if TYPE_CHECKING:
    from redline.cell.config import CellConfig
    from redline.seal import SealReport


def seal(
    runtime: Annotated[
        str,
        typer.Option(help="Container runtime: auto, runsc, runc, crun or docker.", autocompletion=_completion.runtime),
    ] = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="Run only the quick probes used before and after each trial.")
    ] = False,
    selftest: Annotated[
        bool,
        typer.Option("--selftest", help="Run every probe on cells with an injected defect and check that it fails."),
    ] = False,
    only: Annotated[str, typer.Option(metavar="PROBE,…", help="With --selftest: test only these probes.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> int:
    """Measure the containment of a cell from inside it.

    The exit code is 3 if a probe fails; with --selftest, if a probe does not detect its injected defect.
    """
    from redline.cell.config import CellConfig
    from redline.cell.open import choose_runtime

    if selftest and quick:
        raise UsageError("--quick and --selftest are mutually exclusive; use one of them")
    if only and not selftest:
        raise UsageError("--only requires --selftest")
    config = CellConfig(runtime=choose_runtime(as_runtime(runtime)).name)
    if selftest:
        return _selftest(config, only, as_json=as_json)
    report = _measure(config, quick=quick)
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        _print(report)
    return ExitCode.OK if report.verified else ExitCode.SEAL


def _measure(config: "CellConfig", *, quick: bool) -> "SealReport":
    import anyio

    from redline.cell import open_cell
    from redline.scenarios import full_seal
    from redline.seal import cells_for_the_seal, quick_seal

    async def measure_quick() -> "SealReport":
        with cells_for_the_seal(config.runtime):
            async with open_cell(config) as cell:
                return await quick_seal(cell)

    return anyio.run(measure_quick) if quick else anyio.run(full_seal, config)


def _print(report: "SealReport") -> None:
    from redline._text import LONGEST_LINE, clean_line
    from redline.report.console import print_lines, stdout_console, wrapped

    console = stdout_console()

    def say(start: str, text: str) -> None:
        print_lines(console, wrapped(clean_line(text, LONGEST_LINE), console.width, start))

    for name in report.passed:
        say("held     ", name)
    for finding in report.lacking:
        say("lacking  ", f"{finding.name}: {finding.reason}")
    for finding in report.warnings:
        say("warning  ", f"{finding.name}: {finding.reason}")
    for finding in report.failed:
        say("FAILED   ", f"{finding.name}: {finding.reason}")
    for text in (*report.notes, *report.not_protected):
        say("not protected: ", text)
    labels = f", {report.labels}, kernel: {report.kernel}" if report.labels else ""
    say("", f"{report.summary()}{labels}, in {report.seconds * 1000:.0f} ms")


def _selftest(config: "CellConfig", only: str, *, as_json: bool) -> int:
    import anyio

    from redline._names import unknown
    from redline.run import ABOVE_THE_CELL
    from redline.seal import PROBE_NAMES
    from redline.seal.matrix import Matrix, Row
    from redline.seal.selftest import INJECTED_DEFECTS, selftest

    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in PROBE_NAMES:
            raise UsageError(unknown("probe", name, PROBE_NAMES))

    def report_row(row: Row) -> None:
        print_message(f"{row.mark(row.probe) if row.probe else '.'} {row.probe} {row.description}")

    async def measure() -> Matrix:
        return await selftest(
            config, names or None, None if as_json else report_row, defects=(*INJECTED_DEFECTS, *ABOVE_THE_CELL)
        )

    matrix = anyio.run(measure)
    print(matrix.model_dump_json(indent=1) if as_json else matrix.render())
    return ExitCode.OK if matrix.holds else ExitCode.SEAL
