"""Check the prose of documentation, templates and changelog with proselint and the rules in prose.toml.

Usage: check_prose.py [FILE ...]. Without files, it checks those that prose.toml lists. In Python files, it checks the
comments and docstrings.
"""

import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from proselint.checks import __register__ as builtin_checks
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, CheckResult
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parents[1]
STYLE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("prose.toml").read_text(encoding="utf-8"))
PREFIX = "redline"
MAX_FINDINGS = 100_000

TEMPLATE_CODE = re.compile(r"<!--.*?-->|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
CODE = re.compile(
    r"^(?P<fence>```|~~~).*?^(?P=fence)"
    r"|^(?: {4}|\t)[^\n]*"  # indented code
    r"|`[^`\n]+`"
    r"|<(?:style|script|pre|code)\b.*?</(?:style|script|pre|code)>|</?[a-zA-Z!][^>]*>"
    r"|\]\([^)\n]*\)|https?://\S+",  # targets of links
    re.DOTALL | re.MULTILINE,
)

STARTS_OF_STATEMENTS = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def prose_of(text: str) -> str:
    """Return the text with everything that is not prose blanked out, at the same positions."""

    def blank(found: re.Match[str]) -> str:
        return blanked(found[0])

    return CODE.sub(blank, TEMPLATE_CODE.sub(blank, text))


def blanked(text: str) -> str:
    """Return the text with a filler for every character but line feeds."""
    return re.sub(r"[^\n]", "·", text)


def prose_of_python(source: str) -> str:
    """Return the comments and docstrings of a module, at the same positions."""
    lines = source.splitlines(keepends=True)
    prose = [blanked(line) for line in lines]
    previous = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and previous in STARTS_OF_STATEMENTS):
            (first, start), (last, end) = token.start, token.end
            for row in range(first - 1, last):
                left, right = (start if row == first - 1 else 0), (end if row == last - 1 else len(lines[row]))
                prose[row] = prose[row][:left] + lines[row][left:right] + prose[row][right:]
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            previous = token.type
    return re.sub(r"`[^`\n]+`", lambda found: blanked(found[0]), "".join(prose))


def apply_rule(pattern: re.Pattern[str], text: str, check: Check) -> Iterator[CheckResult]:
    """Yield each match of one of our rules."""
    for found in pattern.finditer(text):
        yield CheckResult(check.path, f"{found[0]!r}: {check.message}", found.span(), None)


def register() -> Config:
    """Register proselint's checks and our rules; return the configuration."""
    registry = CheckRegistry()
    registry.register_many(builtin_checks)
    for number, rule in enumerate(STYLE["rules"]):
        words = rule["pattern"] if rule["pattern"].startswith("\\") else rf"\b(?:{rule['pattern']})\b"
        pattern = re.compile(words.replace(" ", r"\s+") if words.startswith(r"\b") else words, re.IGNORECASE)
        registry.register(
            Check(
                check_type=partial(apply_rule, pattern),
                path=f"{PREFIX}.{number}",
                message=rule["instead"],
                flags=CheckFlags(allow_quotes=True),
            )
        )
    # proselint uses the first entry that matches.
    disabled = dict.fromkeys(STYLE["disabled"], False)
    enabled = {name: value for name, value in DEFAULT["checks"].items() if name not in disabled}
    return {"max_errors": MAX_FINDINGS, "checks": {**disabled, **enabled, PREFIX: True}}


def main(arguments: Sequence[str]) -> int:
    """Print every finding; return 1 if there is one."""
    config = register()
    files = [Path(name) for name in arguments] or sorted(
        {path for pattern in STYLE["files"] for path in ROOT.glob(pattern)}
    )
    count = 0
    for path in files:
        text = path.read_text(encoding="utf-8")
        prose = prose_of_python(text) if path.suffix == ".py" else prose_of(text)
        findings = LintFile(str(path), prose).lint(config) if prose else []
        for finding in findings:
            line, column = finding.pos
            check, message = finding.check_result.check_path, " ".join(finding.check_result.message.split())
            shown = path.resolve().relative_to(ROOT) if path.resolve().is_relative_to(ROOT) else path
            print(f"{shown}:{line}:{column}: {'style' if check.startswith(PREFIX) else check}: {message}")
        count += len(findings)
    print(f"{count} findings in {len(files)} files", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
