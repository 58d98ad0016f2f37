from redline.agents.tools import as_shown
from redline.cell import Completed


def shown(stdout: bytes = b"", stderr: bytes = b"", returncode: int = 0, truncated: bool = False) -> str:
    return as_shown(Completed(returncode, stdout, stderr, truncated), limit=100)


def test_output_and_errors_are_shown_in_turn() -> None:
    assert shown(b"out\n", b"err\n") == "out\nerr"


def test_a_status_other_than_0_is_shown() -> None:
    assert shown(b"", b"no such file\n", 2) == "no such file\n[exit status 2]"


def test_empty_output_is_reported() -> None:
    assert shown() == "[no output]"


def test_a_long_output_is_truncated_to_its_end_with_a_note() -> None:
    text = shown(b"a" * 90 + b"b" * 90)
    assert text.startswith("[the beginning is left out]\n")
    assert text.endswith("b" * 90)
    assert "a" * 11 not in text
    assert shown(b"tail", truncated=True).startswith("[the beginning is left out]")


def test_invalid_text_is_shown_with_replacements() -> None:
    assert shown(b"\xff\xfe") == "\N{REPLACEMENT CHARACTER}" * 2
