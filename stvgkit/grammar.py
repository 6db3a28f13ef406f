"""The grammar of an answer: what is one, what can still become one, and where its parts end.

`stvgkit.answers` shows the format. Every repeat here is possessive (`*+`): the matcher never goes
back, so time is linear in the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

# Caps on digits keep all numbers finite and every span short enough to list its frames.
SPACE = r"[ \t\r\n\f\v]*+"
INDEX = r"[0-9]{1,6}+"
NUMBER = r"-?+[0-9]{1,9}+(?:\.[0-9]{1,18}+)?+"


def _entry(index: str, number: str) -> str:
    """The pattern of a box with its index, whose parts the arguments match."""
    return SPACE.join([index, r"\.", r"\[", *[number, ","] * 3, number, r"\]"])


_ENTRY = _entry(INDEX, NUMBER)
_ENTRIES = f"((?:{_ENTRY}{SPACE}(?:,{SPACE}{_ENTRY}{SPACE})*+)?+)"
# The tags of an answer's lists, with a think list and without.
LISTS = {True: ("think_bbox", "pred_bbox"), False: ("pred_bbox",)}


def _answer_pattern(lists: tuple[str, ...]) -> re.Pattern[str]:
    tokens = ["", "<time>", f"({INDEX})", "-", f"({INDEX})", "</time>"]
    for tag in lists:
        tokens += [f"<{tag}>", f"{_ENTRIES}</{tag}>"]
    return re.compile(SPACE.join([*tokens, ""]))


ANSWERS = {think: _answer_pattern(lists) for think, lists in LISTS.items()}
_TIME = re.compile(SPACE.join(["", "<time>", f"({INDEX})", "-", f"({INDEX})", "</time>"]))
_BOX = re.compile(_entry(f"({INDEX})", f"({NUMBER})"))
_THINK = re.compile(SPACE.join(["", "<think_bbox>", f"{_ENTRIES}</think_bbox>"]))


def _cut(word: str) -> str:
    """The pattern of every beginning of a word but the whole, the empty one too."""
    pattern = ""
    for character in reversed(word[:-1]):
        pattern = f"(?:{re.escape(character)}{pattern})?+"
    return pattern


# The tokens of an entry, whole and cut off; an index that is cut off is an index all the same.
_CUT_NUMBER = r"(?:-?+(?:[0-9]{1,9}+\.)?+)"
_CUT_ENTRY = [(INDEX, ""), (r"\.", ""), (r"\[", "")]
_CUT_ENTRY += [(NUMBER, _CUT_NUMBER), (",", "")] * 3 + [(NUMBER, _CUT_NUMBER), (r"\]", "")]


def _beginning(tokens: list[tuple[str, str]], end: str = SPACE) -> str:
    """The pattern of every beginning of a sequence of tokens, each given whole and cut off."""
    pattern = end
    for whole, cut in reversed(tokens):
        pattern = f"{SPACE}(?:{whole}{pattern}|{cut})"
    return pattern


def _beginning_pattern(lists: tuple[str, ...]) -> re.Pattern[str]:
    """What `_answer_pattern` matches, or any beginning of it."""
    pattern = SPACE
    for tag in reversed(lists):
        close = f"</{tag}>"
        before = f"(?:{_ENTRY}{SPACE},{SPACE})*+"  # entries that another one has to follow
        inside = (
            f"(?:{_ENTRIES}(?:{close}{pattern}|{_cut(close)})|{before}{_beginning(_CUT_ENTRY)})"
        )
        pattern = f"{SPACE}(?:<{tag}>{SPACE}{inside}|{_cut(f'<{tag}>')})"
    head = [("<time>", _cut("<time>")), (INDEX, ""), ("-", ""), (INDEX, "")]
    return re.compile(_beginning([*head, ("</time>", _cut("</time>"))], pattern))


_BEGINNINGS = {think: _beginning_pattern(lists) for think, lists in LISTS.items()}


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


def time_numbers(text: str) -> list[tuple[int, int]]:
    """Start and end in characters of the numbers of an answer's time; none where it is broken.

    >>> time_numbers("<time> 5 - 16 </time>")
    [(7, 8), (11, 13)]
    """
    time = _TIME.match(text)
    return [time.span(1), time.span(2)] if time else []


def box_numbers(text: str) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Each whole box of a text: its frame index, and start and end of its four coordinates.

    >>> list(box_numbers("<think_bbox> 5. [0, 7, 50, 90], 6. [0, 0"))
    [(5, [(17, 18), (20, 21), (23, 25), (27, 29)])]
    """
    for box in _BOX.finditer(text):
        yield int(box[1]), [box.span(place) for place in range(2, 6)]
