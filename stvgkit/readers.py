"""Readers: what a model said, where it was not trained to say it in our form.

- `strict` is `parse_answer`: the format of the paper and nothing else. Rewards use no other.
- `lenient` finds the same tags in a longer text, and forgives how their contents are written.
- `qwen` reads the JSON that Qwen2.5-VL and Qwen3-VL write by themselves about a video:
  `[{"time": 1.0, "bbox_2d": [271, 30, 395, 212], "label": "the dog"}, ...]`.

A report names its reader, so that a number says how much was forgiven. Like the strict parser, the
others take time linear in the text and never raise, whatever the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from stvgkit.answers import Answer, CoordinateSpace, answer_from_rows, parse_answer
from stvgkit.errors import InputError
from stvgkit.tubes import Span

READERS = ("strict", "lenient", "qwen")


def read_answer(
    text: str,
    space: CoordinateSpace,
    reader: str = "strict",
    *,
    think: bool = True,
    times: Sequence[float] | None = None,
) -> Answer | None:
    """Read a completion with the reader of this name, or None where it finds no answer.

    `think` is the strict form to expect, see `parse_answer`. `times`, the seconds of the shown
    frames, are needed by `qwen` alone, which places a box on the nearest frame. Raises
    `InputError` for another reader, or for `qwen` without times; never because of the text.

    >>> text = "Sure! <time>5s – 6s</time> <pred_bbox>\\n5: [1, 2, 3, 4]\\n6: [1, 2, 3.5, 4]"
    >>> space = CoordinateSpace.relative(10)
    >>> read_answer(text, space) is None
    True
    >>> read_answer(text, space, "lenient").pred.boxes[1]
    array([0.1 , 0.2 , 0.35, 0.4 ])
    """
    if reader == "strict":
        return parse_answer(text, space, think=think)
    if reader == "lenient":
        return parse_answer(text, space, think=think) or _lenient(text, space)
    if reader != "qwen":
        raise InputError(f"unknown reader {reader!r}: use one of {', '.join(READERS)}")
    if times is None:
        raise InputError("the qwen reader needs 'times', the seconds of the frames shown")
    return _qwen(text, space, np.asarray(times, dtype=np.float64))


# --- lenient -------------------------------------------------------------------------------------

# Repeats are possessive (`*+`) and digits are capped, as in the strict grammar. A search may start
# at every character, but none goes on past the next tag, nor twice over the same white space more
# often than there are numbers in an entry.
_SPACE = r"\s*+"
_NUMBER = r"-?+[0-9]{1,9}+(?:\.[0-9]{1,18}+)?+"
_INDEX = r"(?<![0-9.])([0-9]{1,6}+(?:\.[0-9]{1,6}+)?+)"
_UNIT = rf"{_SPACE}(?:seconds?|sec|s)?+"
_NEXT = rf"(?:{_SPACE},{_SPACE}|\s++)"
_ENTRY = re.compile(
    rf"{_INDEX}{_UNIT}{_SPACE}[.:=)–—-]?+{_SPACE}[\[(]{_SPACE}"
    rf"({_NUMBER}{_NEXT}{_NUMBER}{_NEXT}{_NUMBER}{_NEXT}{_NUMBER}){_SPACE}[\])]",
)
_RANGE = re.compile(rf"{_INDEX}{_UNIT}{_SPACE}(?:[-–—−,]|to){_SPACE}{_INDEX}")
_TIME, _THINK, _PRED = (
    re.compile(rf"(?ai:<{tag}>)([^<]*+)") for tag in ("time", "think_bbox", "pred_bbox")
)


def _lenient(text: str, space: CoordinateSpace) -> Answer | None:
    """The first time that is followed by final boxes; a first guess counts if it lies between.

    A section ends at the next `<`, so its closing tag may be missing or wrong. What stands before
    a `</think>` is thought, not answer. "s" after a number is dropped: it stays a frame's number.
    """
    thought = text.rfind("</think>")
    for time in _TIME.finditer(text, max(thought, 0)):
        if found := _RANGE.search(time[1]):
            break
    else:
        return None
    pred = _PRED.search(text, time.end())
    if pred is None:
        return None
    think = _THINK.search(text, time.end(), pred.start())
    span = Span(*(round(float(number)) for number in found.groups()))
    lists = [_entries(section[1]) for section in (think, pred) if section]
    return answer_from_rows(span, lists, space, think=think is not None)


def _entries(section: str) -> np.ndarray:
    """The boxes of a list as `(n, 5)` rows of index and numbers."""
    rows = [
        [round(float(index)), *map(float, numbers.replace(",", " ").split())]
        for index, numbers in _ENTRY.findall(section)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


# --- qwen ----------------------------------------------------------------------------------------

_OBJECT = re.compile(r"\{[^{}]*+\}")
_SECONDS = re.compile(rf"{_SPACE}([0-9]{{1,9}}+(?:\.[0-9]{{1,18}}+)?+){_UNIT}{_SPACE}")
_MOST = 1e9


def _qwen(text: str, space: CoordinateSpace, times: np.ndarray) -> Answer | None:
    """The objects with a box and a time in seconds (`time`) or a frame's number (`frame`).

    An object that lies further from every shown frame than these from each other is left out.
    """
    rows = []
    for found in _OBJECT.finditer(text):
        try:
            record = json.loads(found[0])
        except (ValueError, RecursionError):
            continue
        index, box = _frame(record, times), _box(record.get("bbox_2d"))
        if index is not None and box is not None:
            rows.append([index, *box])
    if not rows:
        return None
    table = np.array(rows, dtype=np.float64)
    span = Span(int(table[:, 0].min()), int(table[:, 0].max()))
    return answer_from_rows(span, [table], space, think=False)


def _frame(record: dict[str, Any], times: np.ndarray) -> int | None:
    """The index of the shown frame that a record is about."""
    number = _number(record.get("frame"))
    if number is not None:
        return int(number) if number == int(number) and 0 <= number < len(times) else None
    seconds = _number(record.get("time"))
    if seconds is None or not len(times):
        return None
    away = np.abs(times - seconds)
    step = float(np.diff(times).max()) if len(times) > 1 else 1.0
    return int(away.argmin()) if away.min() <= step else None


def _box(value: Any) -> list[float] | None:
    """Four numbers, also as the one box in a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = [number for number in map(_number, value) if number is not None]
    return numbers if len(numbers) == 4 else None


def _number(value: Any) -> float | None:
    """A JSON number, or a text that holds one, such as "1.5s"."""
    if isinstance(value, str):
        found = _SECONDS.fullmatch(value)
        return float(found[1]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST:
        return None
    return float(value)
