"""Strict JSON: unambiguous, with limited numbers and nesting."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline._records import StrictJsonError, record_limits, strict_json

MOST = record_limits().nesting
LARGEST = record_limits().magnitude
FEWEST = len(str(LARGEST))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


def refused(text: str) -> bool:
    try:
        strict_json(text.encode())
    except StrictJsonError:
        return True
    return False


@given(JSON)
def test_ordinary_json_is_parsed_as_python_parses_it(value: Any) -> None:
    assert strict_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("content", ["", "1", '"x"', "{}"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k":', "}")])
@pytest.mark.parametrize(("levels", "is_refused"), [(MOST - 1, False), (MOST, False), (MOST + 1, True), (5000, True)])
def test_nesting_is_limited(opening: str, closing: str, content: str, levels: int, is_refused: bool) -> None:
    # The innermost value is an object itself, or stands in the place of an empty array.
    outer = levels - 1 if content == "{}" else levels
    inner = content if content or opening == "[" else "null"
    assert refused(opening * outer + inner + closing * outer) is is_refused


@given(JSON, st.integers(0, MOST + 3))
def test_the_level_of_every_value_counts_whatever_is_beside_it(value: Any, levels: int) -> None:
    for _ in range(levels):
        value = [1, {"beside": "x"}, value, []]
    assert refused(json.dumps(value)) is (depth(value) > MOST)


def depth(value: Any) -> int:
    """Return the number of arrays and objects around the innermost value, with itself."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(st.integers(-(10 ** (FEWEST + 2)), 10 ** (FEWEST + 2)) | st.integers(LARGEST - 5, LARGEST + 5))
def test_integers_are_limited_on_both_sides(number: int) -> None:
    assert refused(f'{{"n": {number}}}') is (abs(number) > LARGEST)


@pytest.mark.parametrize(
    "text", ["9" * 5000, "-" + "9" * 5000, "1e999", "NaN", "Infinity", "-Infinity", "1e30", "-1e30"]
)
def test_huge_and_non_finite_numbers_are_refused(text: str) -> None:
    assert refused(f"[{text}]")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "", "[1,]", "\ufeff[]", '"\n"', "[" * 100_000])
def test_ambiguous_and_invalid_text_is_refused(text: str) -> None:
    assert refused(text)
