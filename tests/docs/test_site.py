"""The documentation site builds with strict links, and its pages load nothing from other hosts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"']?(?:https?:)?//|<link\b[^>]*\bhref=[\"']?(?:https?:)?//"
)
LOADED_BY_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.long
def test_every_page_is_built_and_loads_nothing_from_other_hosts(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        html = (site / f"{page.stem}.html").read_text()
        assert not LOADED.findall(html), page.name
    for sheet in site.rglob("*.css"):
        assert not LOADED_BY_STYLE.findall(sheet.read_text()), sheet.name


@pytest.mark.parametrize(
    "tag", ['<script src="https://x/y.js">', "<link rel=stylesheet href=//x/y.css>", "<img alt='' src='http://x/y'>"]
)
def test_the_check_finds_resources_from_other_hosts(tag: str) -> None:
    assert LOADED.search(tag)
