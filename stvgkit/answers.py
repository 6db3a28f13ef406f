"""What a model says: the answer's text, and the space its numbers live in.

The format is that of STVG-o1 (arXiv 2511.21375, Fig. 2), in this order and with nothing else but
white space around and between the tokens:

    <time> 5 - 6 </time>
    <think_bbox> 5. [271, 30, 395, 212], 6. [267, 24, 393, 216] </think_bbox>
    <pred_bbox> 5. [278, 35, 399, 234], 6. [289, 34, 403, 236] </pred_bbox>

An index is the number of a frame *shown to the model*, from 0; both ends of the time are inclusive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stvgkit.boxes import Floats, Ints, as_boxes, clip
from stvgkit.errors import InputError
from stvgkit.grammar import ANSWERS
from stvgkit.tubes import Span, Tube


@dataclass(frozen=True)
class CoordinateSpace:
    """The numbers a model writes: x from 0 to `width`, y from 0 to `height`.

    Qwen3-VL writes 0 to 1000 on both axes, Qwen2.5-VL pixels of the frame as the model sees it.

    >>> space = CoordinateSpace.relative(1000)
    >>> space.encode([0.271, 0.03, 0.395, 0.2125])
    array([[271,  30, 395, 212]])
    >>> space.decode([271, 30, 395, 1212])
    array([[0.271, 0.03 , 0.395, 1.   ]])
    >>> CoordinateSpace.parse("640x360") == CoordinateSpace.pixels(640, 360)
    True
    """

    name: str
    width: float
    height: float

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0):
            raise InputError(
                f"coordinate space {self.name!r} has no area: give a positive width and height"
            )

    @classmethod
    def relative(cls, steps: int) -> CoordinateSpace:
        """0 to `steps` on both axes, whatever the frame's size."""
        return cls(f"0-{steps}", steps, steps)

    @classmethod
    def pixels(cls, width: int, height: int) -> CoordinateSpace:
        """Pixels of a frame of this size."""
        return cls(f"{width}x{height}", width, height)

    @classmethod
    def parse(cls, name: str) -> CoordinateSpace:
        """The space with this name: `0-1000`, `0-100`, `640x360`; else `InputError`."""
        if match := re.fullmatch("0-([0-9]{1,9})", name):
            return cls.relative(int(match[1]))
        if match := re.fullmatch("([0-9]{1,9})x([0-9]{1,9})", name):
            return cls.pixels(int(match[1]), int(match[2]))
        raise InputError(
            f"unknown coordinate space {name!r}: use 0-1000, 0-100, or the frame's size "
            "in pixels such as 640x360"
        )

    def encode(self, boxes: ArrayLike) -> Ints:
        """Relative boxes as the integers to write, `(n, 4)` int64, clamped and rounded."""
        return np.rint(clip(boxes) * self._scale).astype(np.int64)

    def decode(self, numbers: ArrayLike) -> Floats:
        """Written numbers as relative boxes, `(n, 4)` float64, clamped to [0, 1]."""
        return clip(as_boxes(numbers) / self._scale)

    @property
    def _scale(self) -> Floats:
        return np.array([self.width, self.height, self.width, self.height], dtype=np.float64)


@dataclass(frozen=True)
class Answer:
    """A parsed answer; frame i of its span and tubes is the i-th frame shown to the model.

    `consistent` says that the text's lists held exactly the span's indices, each once, in order.
    Where it is False the tubes hold what was said: sorted, the first of duplicate indices kept.
    `think` is None for the format without a think list.
    """

    span: Span
    think: Tube | None
    pred: Tube
    consistent: bool


_PUNCTUATION = str.maketrans("[],", "   ")


def read_lists(text: str, *, think: bool) -> tuple[Span, list[Floats]] | None:
    """An answer's span and each list as `(n, 5)` rows of index and numbers; None if broken."""
    match = ANSWERS[think].fullmatch(text)
    if match is None:
        return None
    start, end, *lists = match.groups()
    rows = []
    for entries in lists:
        words = entries.translate(_PUNCTUATION).split()  # an index keeps its dot: float reads "5."
        numbers = [word for word in words if word != "."]  # a dot with white space before it
        rows.append(np.array(numbers, dtype=np.float64).reshape(-1, 5))
    return Span(int(start), int(end)), rows


def _covers(rows: np.ndarray, span: Span) -> bool:
    return 0 < len(rows) == len(span) and bool((rows[:, 0] == span.frames()).all())


def parse_answer(text: str, space: CoordinateSpace, *, think: bool = True) -> Answer | None:
    """Read a completion, or None where it breaks the format; linear in the text, never raises.

    White space between tokens is free, a list may be empty, coordinates may be negative or have
    decimals and are clamped to the frame. Everything else breaks the format: words before, between
    or after the tags, another order, upper-case tags, a second answer, digits other than 0-9,
    an exponent, NaN, a sign or more than 6 digits in an index, more than 9 digits before a
    coordinate's point. A reversed span, and lists that do not match it, only make the answer
    inconsistent. With `think=False` the format is the one without the think list.

    >>> text = "<time>5-5</time><think_bbox>5.[0,0,50,50]</think_bbox><pred_bbox></pred_bbox>"
    >>> answer = parse_answer(text, CoordinateSpace.relative(100))
    >>> answer.span, answer.think.boxes, len(answer.pred), answer.consistent
    (Span(start=5, end=5), array([[0. , 0. , 0.5, 0.5]]), 0, False)
    >>> parse_answer("It is the dog.", CoordinateSpace.relative(100)) is None
    True
    """
    read = read_lists(text, think=think)
    if read is None:
        return None
    span, lists = read
    return answer_from_rows(span, lists, space, think=think)


def answer_from_rows(
    span: Span, lists: list[Floats], space: CoordinateSpace, *, think: bool
) -> Answer:
    """The answer that holds these lists, `(n, 5)` rows of index and numbers; the last is final."""
    consistent = all(_covers(rows, span) for rows in lists)
    if not consistent:  # sorted, the first of duplicates kept
        lists = [rows[np.unique(rows[:, 0], return_index=True)[1]] for rows in lists]
    tubes = [Tube(rows[:, 0], space.decode(rows[:, 1:])) for rows in lists]
    return Answer(span, tubes[0] if think else None, tubes[-1], consistent)


def format_answer(answer: Answer, space: CoordinateSpace) -> str:
    """Write an answer as a model should: `parse_answer` reads the same answer back.

    >>> tube = Tube([5, 6], [[0, 0, 0.5, 0.5], [0.1, 0, 0.6, 0.5]])
    >>> answer = Answer(Span(5, 6), tube, tube, consistent=True)
    >>> print(format_answer(answer, CoordinateSpace.relative(100)))
    <time> 5 - 6 </time>
    <think_bbox> 5. [0, 0, 50, 50], 6. [10, 0, 60, 50] </think_bbox>
    <pred_bbox> 5. [0, 0, 50, 50], 6. [10, 0, 60, 50] </pred_bbox>
    """
    lines = [f"<time> {answer.span.start} - {answer.span.end} </time>"]
    for tag, tube in (("think_bbox", answer.think), ("pred_bbox", answer.pred)):
        if tube is not None:
            rows = zip(tube.frames.tolist(), space.encode(tube.boxes).tolist(), strict=True)
            entries = ", ".join(f"{index}. {box}" for index, box in rows)
            lines.append(f"<{tag}> {entries} </{tag}>")
    return "\n".join(lines)
