"""Parsing in several threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from redline._python_source import parse_python


@pytest.mark.long
def test_threads_that_parse_at_the_same_time_do_not_disturb_each_other() -> None:
    source = Path(threading.__file__).read_text(encoding="utf-8")
    with ThreadPoolExecutor(4) as pool:
        trees = list(pool.map(parse_python, [source] * 12))
    assert {len(tree.body) for tree in trees} == {len(parse_python(source).body)}


def test_what_is_not_python_is_a_syntax_error_and_blocks_nothing() -> None:
    for _ in range(2):
        with pytest.raises(SyntaxError):
            parse_python("def")
    assert parse_python(b"x = 1").body
