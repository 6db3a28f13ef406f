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
from bisect import bisect_left
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple
from unicodedata import category

import numpy as np
from numpy.typing import ArrayLike

from stvgkit.boxes import Floats, Ints, as_boxes, clip
from stvgkit.errors import InputError
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


# Every repeat is possessive (`*+`): the matcher never goes back, so time is linear in the text.
# Caps on digits keep all numbers finite and every span short enough to list its frames.
_SPACE = r"[ \t\r\n\f\v]*+"
_INDEX = r"[0-9]{1,6}+"
_NUMBER = r"-?+[0-9]{1,9}+(?:\.[0-9]{1,18}+)?+"
_ENTRY = _SPACE.join(
    [_INDEX, r"\.", r"\[", _NUMBER, ",", _NUMBER, ",", _NUMBER, ",", _NUMBER, r"\]"]
)
_ENTRIES = f"((?:{_ENTRY}{_SPACE}(?:,{_SPACE}{_ENTRY}{_SPACE})*+)?+)"
_PUNCTUATION = str.maketrans("[],", "   ")


def _answer_pattern(lists: tuple[str, ...]) -> re.Pattern[str]:
    tokens = ["", "<time>", f"({_INDEX})", "-", f"({_INDEX})", "</time>"]
    for tag in lists:
        tokens += [f"<{tag}>", f"{_ENTRIES}</{tag}>"]
    return re.compile(_SPACE.join([*tokens, ""]))


_TIME = re.compile(_SPACE.join(["", "<time>", _INDEX, "-", _INDEX, "</time>"]))
_THINK = re.compile(_SPACE.join(["", "<think_bbox>", f"{_ENTRIES}</think_bbox>"]))
_LISTS = {True: ("think_bbox", "pred_bbox"), False: ("pred_bbox",)}
_TAGS = ("<time>", "</time>", *(f"<{slash}{tag}>" for tag in _LISTS[True] for slash in ("", "/")))
_PATTERNS = {think: _answer_pattern(lists) for think, lists in _LISTS.items()}


def _cut(word: str) -> str:
    """The pattern of every beginning of a word but the whole, the empty one too."""
    pattern = ""
    for character in reversed(word[:-1]):
        pattern = f"(?:{re.escape(character)}{pattern})?+"
    return pattern


# The tokens of an entry, whole and cut off; an index that is cut off is an index all the same.
_CUT_NUMBER = r"(?:-?+(?:[0-9]{1,9}+\.)?+)"
_CUT_ENTRY = [(_INDEX, ""), (r"\.", ""), (r"\[", "")]
_CUT_ENTRY += [(_NUMBER, _CUT_NUMBER), (",", "")] * 3 + [(_NUMBER, _CUT_NUMBER), (r"\]", "")]


def _beginning(tokens: list[tuple[str, str]], end: str = _SPACE) -> str:
    """The pattern of every beginning of a sequence of tokens, each given whole and cut off."""
    pattern = end
    for whole, cut in reversed(tokens):
        pattern = f"{_SPACE}(?:{whole}{pattern}|{cut})"
    return pattern


def _beginning_pattern(lists: tuple[str, ...]) -> re.Pattern[str]:
    """What `_answer_pattern` matches, or any beginning of it."""
    pattern = _SPACE
    for tag in reversed(lists):
        close = f"</{tag}>"
        before = f"(?:{_ENTRY}{_SPACE},{_SPACE})*+"  # entries that another one has to follow
        inside = (
            f"(?:{_ENTRIES}(?:{close}{pattern}|{_cut(close)})|{before}{_beginning(_CUT_ENTRY)})"
        )
        pattern = f"{_SPACE}(?:<{tag}>{_SPACE}{inside}|{_cut(f'<{tag}>')})"
    head = [("<time>", _cut("<time>")), (_INDEX, ""), ("-", ""), (_INDEX, "")]
    return re.compile(_beginning([*head, ("</time>", _cut("</time>"))], pattern))


_BEGINNINGS = {think: _beginning_pattern(lists) for think, lists in _LISTS.items()}


def _read(text: str, think: bool) -> tuple[Span, list[Floats]] | None:
    """The span and each list as `(n, 5)` rows of index and numbers; None if broken."""
    match = _PATTERNS[think].fullmatch(text)
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
    read = _read(text, think)
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


def can_continue(text: str, *, think: bool = True) -> bool:
    """Whether a text is the beginning of something that `parse_answer` reads; linear in the text.

    Where it is not, no continuation helps: all five rewards are 0 whatever follows.

    >>> can_continue("<time> 5 - 6 </ti"), can_continue("<time> 5 - 6 </think_bbox>")
    (True, False)
    """
    return _BEGINNINGS[think].fullmatch(text) is not None


def part_ends(text: str, *, think: bool = True) -> tuple[int | None, int | None, int]:
    """Where the time, the think list, and what can be an answer at all end, in characters.

    The first two are None where the text breaks or stops before; without `think`, both are the
    time's. The third is the length of the longest beginning that can still become an answer, which
    is the whole text unless it breaks the format.

    >>> part_ends("<time> 5 - 6 </time> <think_bbox> </pred_bbox>")
    (20, None, 36)
    """
    time = _TIME.match(text)
    listed = _THINK.match(text, time.end()) if time and think else time
    # Whatever begins a beginning is one too, so the longest is found by halving.
    lengths = range(1, len(text) + 1)
    viable = bisect_left(lengths, True, key=lambda n: not can_continue(text[:n], think=think))
    return time and time.end(), listed and listed.end(), viable


class Fault(NamedTuple):
    """Why a completion breaks the format: a few words to count it by, and a whole sentence."""

    kind: str
    said: str


def explain_answer(text: str, *, think: bool = True) -> str:
    """Say in one sentence what is wrong with a completion, or that nothing is.

    >>> explain_answer("<time> 5 - 6 </time> <pred_bbox> 5. [1, 2, 3, 4] </pred_bbox>")
    "The format is broken at character 22: expected <think_bbox>, found '<pred_bbox> 5. [1, 2'."
    >>> explain_answer(
    ...     "<time> 5 - 6 </time> <think_bbox> 5. [1, 2, 3, 4] </think_bbox>"
    ...     "<pred_bbox> 5. [1, 2, 3, 4], 6. [1, 2, 3, 4] </pred_bbox>")
    'The format is right but the answer is inconsistent: <think_bbox> lacks index 6.'
    """
    read = _read(text, think)
    if read is None:
        return find_fault(text, think=think).said
    span, lists = read
    if not len(span):
        return (
            f"The format is right but the answer is inconsistent: the time ends ({span.end}) "
            f"before it starts ({span.start})."
        )
    faults = [
        f"<{tag}> {fault}"
        for tag, rows in zip(_LISTS[think], lists, strict=True)
        for fault in _list_faults(rows[:, 0].astype(int).tolist(), span)
    ]
    tiny = _too_small(lists)
    if faults:
        return f"The format is right but the answer is inconsistent: {'; '.join(faults)}{tiny}."
    where = "in both lists" if think else "in the list"
    said = f"The answer is well formed: one box for each index {span.start} to {span.end} {where}"
    return f"{said}{tiny}."


def _too_small(lists: list[Floats]) -> str:
    """A remark where all coordinates are those of relative boxes, which no space writes."""
    numbers = np.concatenate([rows[:, 1:] for rows in lists])
    if not len(numbers) or numbers.max() > 1 or (numbers == np.rint(numbers)).all():
        return ""
    return "; but every coordinate is 1 or less, and is read in a space such as 0-1000"


def _list_faults(indices: list[int], span: Span) -> list[str]:
    """What keeps a list from holding exactly the span's indices, each once, in order."""
    counts = Counter(indices)
    faults = {
        "lacks": [index for index in range(span.start, span.end + 1) if index not in counts],
        "repeats": [index for index, count in counts.items() if count > 1],
        f"leaves {span.start} - {span.end} with": [i for i in counts if i not in span],
    }
    said = [f"{verb} {_named(found)}" for verb, found in faults.items() if found]
    return said or (["is not in order"] if indices != sorted(indices) else [])


def _named(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")
    return f"index {shown}" if len(indices) == 1 else f"{len(indices)} indices ({shown})"


def _tokens(text: str, think: bool) -> Generator[tuple[str, str], int, None]:
    """The grammar of `_answer_pattern` token by token: yields (pattern, name), is sent positions.

    Slower than the one pattern, so only for saying where a text departs from it.
    """
    yield "<time>", "<time>"
    yield _INDEX, "the first index (at most 6 digits)"
    yield "-", "'-' between the two indices"
    yield _INDEX, "the last index (at most 6 digits)"
    yield "</time>", "</time>"
    for tag in _LISTS[think]:
        at = yield f"<{tag}>", f"<{tag}>"
        close = re.compile(f"{_SPACE}</{tag}>")
        first = True
        while not close.match(text, at):
            if not first:
                yield ",", f"',' or </{tag}> after the box"
            yield _INDEX, f"an index (at most 6 digits) or </{tag}>" if first else "an index"
            yield r"\.", "'.' after the index"
            yield r"\[", "'[' before the box"
            for corner in range(1, 5):
                if corner > 1:
                    yield ",", f"',' before coordinate {corner}"
                yield _NUMBER, f"coordinate {corner}, such as 271 or 27.5"
            at = yield r"\]", "']' after coordinate 4"
            first = False
        yield f"</{tag}>", f"</{tag}>"


def find_fault(text: str, *, think: bool = True) -> Fault:
    """Where and how a text that breaks the format first departs from it.

    >>> find_fault("```<time> 5 - 6 </time>```").kind
    'a code fence stands around the answer'
    """
    if not text.strip():
        return Fault("the text is empty", "The format is broken: the text is empty.")
    tokens = _tokens(text, think)
    at = 0
    pattern, name = next(tokens)
    while token := re.compile(_SPACE + pattern).match(text, at):
        at = token.end()
        try:
            pattern, name = tokens.send(at)
        except StopIteration:
            name = "the end of the text"
            break
    at = len(text) - len(text[at:].lstrip(" \t\r\n\f\v"))
    if at == len(text):
        said = f"The format is broken: the text stops where {name} is expected."
        return Fault("the text is cut off", said)
    remark = _remark(text, at)
    said = f"The format is broken at character {at + 1}: expected {name}, "
    said += f"found {text[at : at + 20]!r}" + (f" ({remark})." if remark else ".")
    return Fault(remark or f"expected {name}", said)


# What stands where the format breaks, and what that means; `at` is where.
_SIGNS = (
    ("```", "a code fence stands around the answer"),
    ("<|", "a control token is left in the text: decode with skip_special_tokens"),
    ("<think>", "thinking stands before the answer"),
    ("</think>", "thinking stands before the answer"),
    *((dash, "this dash is not the hyphen -") for dash in "\u2010\u2011\u2012\u2013\u2014\u2212"),
)


def _remark(text: str, at: int) -> str:
    """What the commonest causes of what stands at `at` are, in a few words; "" if it is none."""
    character, found = text[at], text[at : at + 20]
    if '"bbox_2d"' in text and "<time>" not in text:
        return "this is the JSON that Qwen writes by itself: --reader qwen reads it"
    for sign, meaning in _SIGNS:
        if found.startswith(sign):
            return meaning
    if text[at - 1 : at].isdecimal() and character.isascii() and character.isdecimal():
        return "the number has too many digits"
    if not character.isascii() and category(character).startswith("N"):
        return "only the digits 0-9 count"
    if any(tag != found and tag.startswith(found) for tag in _TAGS):
        return "the text is cut off inside a tag"
    if found.lower().startswith(_TAGS) and not found.startswith(_TAGS):
        return "tags are written in lower case"
    if found.startswith("<time>") and "<time>" in text[:at]:
        return "a completion holds one answer"
    if not text[:at].strip() and "<time>" in text:
        thinks = "</think>" in text.partition("<time>")[0]
        return "thinking stands before the answer" if thinks else "words stand before the answer"
    return ""
