"""Convert the page to PDF with a headless browser on the host."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from redline._errors import UsageError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 120


def find_browser() -> str | None:
    """Return the path of a Chromium on this host; None if there is none."""
    return next((path for path in map(shutil.which, BROWSERS) if path is not None), None)


def print_pdf(page: str) -> bytes:
    """Return the page as PDF.

    Raises:
        UsageError: No browser is installed, or it produced no PDF.
    """
    browser = find_browser()
    if browser is None:
        raise UsageError("no Chromium found to create the PDF; install chromium, or print report.html from any browser")
    with tempfile.TemporaryDirectory(prefix="redline-pdf-") as folder:
        source, target = Path(folder) / "page.html", Path(folder) / "page.pdf"
        source.write_text(page, encoding="utf-8")
        # The page has no script and loads nothing. The browser's own sandbox cannot start as root.
        command = [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}/profile", "--no-pdf-header-footer"),
            *(f"--print-to-pdf={target}", source.as_uri()),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"{browser} created no PDF ({type(error).__name__}); print report.html instead") from error
        if done.returncode or not target.is_file():
            raise UsageError(f"{browser} created no PDF (exit code {done.returncode}); print report.html instead")
        return target.read_bytes()
