"""What is wrong with a completion: where it departs from the grammar, or where its lists do.

Slower than the parser, and only called where a person reads the sentence or counts the kinds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from typing import NamedTuple
from unicodedata import category

import numpy as np

from stvgkit.answers import read_lists
from stvgkit.boxes import Floats
from stvgkit.grammar import INDEX, LISTS, NUMBER, SPACE
from stvgkit.tubes import Span

_TAGS = ("<time>", "</time>", *(f"<{slash}{tag}>" for tag in LISTS[True] for slash in ("", "/")))


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
    read = read_lists(text, think=think)
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
        for tag, rows in zip(LISTS[think], lists, strict=True)
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
    """The grammar of an answer token by token: yields (pattern, name), is sent positions.

    Slower than the one pattern, so only for saying where a text departs from it.
    """
    yield "<time>", "<time>"
    yield INDEX, "the first index (at most 6 digits)"
    yield "-", "'-' between the two indices"
    yield INDEX, "the last index (at most 6 digits)"
    yield "</time>", "</time>"
    for tag in LISTS[think]:
        at = yield f"<{tag}>", f"<{tag}>"
        close = re.compile(f"{SPACE}</{tag}>")
        first = True
        while not close.match(text, at):
            if not first:
                yield ",", f"',' or </{tag}> after the box"
            yield INDEX, f"an index (at most 6 digits) or </{tag}>" if first else "an index"
            yield r"\.", "'.' after the index"
            yield r"\[", "'[' before the box"
            for corner in range(1, 5):
                if corner > 1:
                    yield ",", f"',' before coordinate {corner}"
                yield NUMBER, f"coordinate {corner}, such as 271 or 27.5"
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
    while token := re.compile(SPACE + pattern).match(text, at):
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
