"""Texts of all kinds, a parser that reads a character at a time, and what must hold for any text.

The tests of answers, readers and the page's parser use it, and benchmarks/fuzz_answers.py.
"""

import math

from hypothesis import strategies as st

from stvgkit import (
    CoordinateSpace,
    Span,
    Tube,
    explain_answer,
    format_answer,
    parse_answer,
    score_answer,
)

SPACE = CoordinateSpace.relative(1000)
GOLD = Tube([5, 6, 7], [[0.271, 0.03, 0.395, 0.212]] * 3)

FIGURE_2 = """<time> 5 - 7 </time>
<think_bbox> 5. [271, 30, 395, 212], 6. [267, 24, 393, 216], 7. [270, 18, 395, 221] </think_bbox>
<pred_bbox> 5. [278, 35, 399, 234], 6. [289, 34, 403, 236], 7. [300, 28, 405, 237] </pred_bbox>"""


# --- the slow oracle ---------------------------------------------------------------------------


class Broken(Exception):
    pass


class SlowReader:
    """Reads the grammar a character at a time, as its description says."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def here(self):
        return self.text[self.at] if self.at < len(self.text) else ""

    def space(self):
        while self.here() and self.here() in " \t\r\n\f\v":
            self.at += 1

    def literal(self, token):
        self.space()
        for character in token:
            if self.here() != character:
                raise Broken
            self.at += 1

    def sees(self, token):
        self.space()
        return self.text[self.at : self.at + len(token)] == token

    def digits(self, most):
        found = ""
        while self.here() and self.here() in "0123456789":
            found += self.here()
            self.at += 1
        if not 1 <= len(found) <= most:
            raise Broken
        return found

    def index(self):
        self.space()
        return int(self.digits(6))

    def number(self):
        self.space()
        sign = 1
        if self.here() == "-":
            sign, self.at = -1, self.at + 1
        value = self.digits(9)
        if self.here() == ".":
            self.at += 1
            value += "." + self.digits(18)
        return sign * float(value)

    def entries(self, tag):
        self.literal(f"<{tag}>")
        found = []
        while not self.sees(f"</{tag}>"):
            if found:
                self.literal(",")
            index = self.index()
            self.literal(".")
            self.literal("[")
            box = [self.number()]
            for _ in range(3):
                self.literal(",")
                box.append(self.number())
            self.literal("]")
            found.append((index, box))
        self.literal(f"</{tag}>")
        return found

    def answer(self):
        self.literal("<time>")
        start = self.index()
        self.literal("-")
        end = self.index()
        self.literal("</time>")
        lists = [self.entries("think_bbox"), self.entries("pred_bbox")]
        self.space()
        if self.at < len(self.text):
            raise Broken
        return start, end, lists


def slow_parse(text):
    """(start, end, consistent, [{index: relative box}, ...]), or None."""
    try:
        start, end, lists = SlowReader(text).answer()
    except Broken:
        return None
    consistent = start <= end
    tubes = []
    for entries in lists:
        consistent = consistent and len(entries) == end - start + 1
        consistent = consistent and all(entry[0] == start + i for i, entry in enumerate(entries))
        boxes = {}
        for index, box in entries:
            boxes.setdefault(index, [min(max(value / 1000, 0.0), 1.0) for value in box])
        tubes.append(boxes)
    return start, end, consistent, tubes


# --- texts of all kinds ------------------------------------------------------------------------

white = st.sampled_from(["", " ", "  ", "\n", "\r\n", "\t"])
whole_numbers = st.integers(-200, 1300).map(str)
decimals = st.decimals(-200, 1300, places=3).map(str)


@st.composite
def well_formed(draw):
    """An answer whose format is right; its lists are near its span, or just anything."""
    start = draw(st.integers(0, 9))
    end = start + draw(st.integers(-1, 4))
    gap = draw(white)

    def entries():
        indices = list(range(start, end + 1))
        if draw(st.booleans()):
            indices = draw(st.lists(st.integers(0, 12), max_size=6))
        number = draw(st.sampled_from([whole_numbers, decimals]))
        rows = []
        for index in indices:
            numbers = f"{gap},{draw(white)}".join(draw(number) for _ in range(4))
            rows.append(f"{index}{gap}.{gap}[{gap}{numbers}{gap}]")
        return f"{gap},{gap} ".join(rows)

    return (
        f"{gap}<time>{gap}{start}{gap}-{gap}{end}{gap}</time>{gap}<think_bbox>{gap}{entries()}{gap}"
        f"</think_bbox>{gap}<pred_bbox>{gap}{entries()}{gap}</pred_bbox>{gap}"
    )


TOKENS = [
    *["<time>", "</time>", "<think_bbox>", "</think_bbox>", "<pred_bbox>", "</pred_bbox>"],
    *["5", "6", "007", "-", "-3", ".", ",", "[", "]", " ", "\n", "\r\n", "\x00", "[1, 2, 3, 4]"],
    *["5. [1, 2, 3, 4]", "6. [0.5, -1, 1e3, nan]", "NaN", "inf", "1e400", "9" * 400, "0" * 20],
    *["٣", "５", "²", "–", "\u00a0", "\u2028", "<TIME>", "<time>5-5</time>", "<think>", "\ud800"],
]


@st.composite
def damaged(draw):
    """A well-formed answer with a few cuts, repeats and foreign tokens."""
    text = draw(well_formed())
    for _ in range(draw(st.integers(1, 3))):
        a, b = sorted(draw(st.integers(0, len(text))) for _ in range(2))
        text = draw(
            st.sampled_from(
                [
                    text[:a] + text[a + 1 :],
                    text[:a] + text[b:],
                    text[:a] + draw(st.sampled_from(TOKENS)) + text[a:],
                    text[:b] + text[a:],
                    text[:a],
                    text[:a] + text[a:b].upper() + text[b:],
                ]
            )
        )
    return text


any_text = st.one_of(
    well_formed(), damaged(), st.lists(st.sampled_from(TOKENS), max_size=30).map("".join), st.text()
)


def check_text(text):
    """Everything that must hold for every text whatsoever."""
    expected, answer, said = slow_parse(text), parse_answer(text, SPACE), explain_answer(text)
    score = score_answer(text, GOLD, SPACE)
    values = [score.format, score.consistency, score.temporal, score.spatial, score.think]
    assert all(math.isfinite(value) for value in [*values, score.total])
    assert len(said) < 400 and "\n" not in said and said.endswith(".")
    if expected is None:
        assert answer is None
        assert values == [0.0] * 5 and score.total == 0.0
        assert said.startswith("The format is broken")
        return
    start, end, consistent, tubes = expected
    assert answer.span == Span(start, end)
    assert answer.consistent == consistent
    for tube, boxes in zip((answer.think, answer.pred), tubes, strict=True):
        assert tube.frames.tolist() == sorted(boxes)
        assert tube.boxes.tolist() == [boxes[index] for index in sorted(boxes)]
    assert score.format == 1.0 and score.consistency == float(consistent)
    assert said.startswith("The answer is well formed" if consistent else "The format is right but")
    written = format_answer(answer, SPACE)
    assert format_answer(parse_answer(written, SPACE), SPACE) == written
