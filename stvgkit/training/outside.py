"""Text from outside never becomes a control token.

A caption that holds `<|image_pad|>` would count as one more picture, and one that holds
`<|im_end|>` would end the question. Chat templates join a caption and their own control tokens
into one text, so a tokenizer cannot tell them apart. What it would take for a control token is
therefore broken up by a space before the two are joined.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

# What control tokens look like, where the model's tokenizer is not at hand.
_LOOKS = re.compile(r"<(?=[^\s<>]{1,60}>)|\[(?=/?[A-Z_]{2,20}\])")


def plain_rows(rows: Sequence[dict], processor=None) -> list[dict]:
    """The rows with queries in which this processor's tokenizer finds no control token.

    Without a processor, whatever looks like a control token is broken up.
    """
    return [row | {"query": plain_text(row["query"], processor)} for row in rows]


def plain_text(text: str, processor=None) -> str:
    """The text with a space inside each control token.

    >>> plain_text("the dog <|image_pad|>, if x < 3 and y > 2")
    'the dog < |image_pad|>, if x < 3 and y > 2'
    """
    if processor is None:
        return _LOOKS.sub(lambda found: f"{found[0]} ", text)
    control = _control_pattern(getattr(processor, "tokenizer", processor))
    while control is not None and control.search(text):
        text = control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return text


@cache
def _control_pattern(tokenizer) -> re.Pattern | None:
    """What the tokenizer itself takes for control tokens: special ones, and those in brackets."""
    added = tokenizer.added_tokens_decoder.values()
    bracketed = re.compile(r"<.*>|\[.*\]")
    tokens = {t.content for t in added if t.special or bracketed.fullmatch(t.content)}
    longest = sorted((t for t in tokens if len(t.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest))) if longest else None
