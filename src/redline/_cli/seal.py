"""`redline seal`."""

from typing import Annotated

import typer

from redline._cli._runtime import as_runtime
from redline._errors import ExitCode


def seal(
    runtime: Annotated[str, typer.Option(help="auto, runsc, runc, crun or docker.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else.")] = False,
) -> int:
    """Makes a cell, probes its containment as the agent would meet it, and says what held."""
    import anyio

    from redline.cell import open_cell
    from redline.cell.config import CellConfig
    from redline.cell.runtime import choose_runtime
    from redline.cell.seal import SealReport, quick_seal

    async def measure() -> SealReport:
        async with open_cell(CellConfig(runtime=found.name)) as cell:
            return await quick_seal(cell)

    found = choose_runtime(as_runtime(runtime))
    report = anyio.run(measure)
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        for name in report.passed:
            print(f"held     {name}")
        for finding in report.failed:
            print(f"FAILED   {finding.name}: {finding.reason}")
        for note in report.notes:
            print(f"note     {note}")
        print(f"{report.summary()}, in {report.seconds * 1000:.0f} ms")
    return ExitCode.OK if report.verified else ExitCode.SEAL
