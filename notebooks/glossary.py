"""Links each term's first use in the sequence of lessons to its entry in docs/glossary.md.

The terms are the headings of the glossary, so nobody has to write a link or a list. What stands in
code, formulas, headings, tables or other links is left as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

GLOSSARY = Path(__file__).resolve().parents[1] / "docs" / "glossary.md"
UNTOUCHED = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>]*>|^#.*?$|^\|.*?$",
    re.DOTALL | re.MULTILINE,
)


def terms() -> list[str]:
    """The headings of the glossary, as they stand there."""
    return re.findall(r"^### (.+)$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)


def anchor(term: str) -> str:
    """The name that GitHub gives to a heading.

    >>> anchor("spatio-temporal video grounding (STVG)")
    'spatio-temporal-video-grounding-stvg'
    """
    return re.sub(r"[^\w\- ]", "", term.lower()).replace(" ", "-")


def pattern(term: str) -> re.Pattern:
    """Finds a term or its plural, also across lines; a short form in brackets counts as well.

    >>> [bool(pattern("tIoU").search(text)) for text in ("the tIoU", "m_tIoU", "tiou")]
    [True, False, False]
    """
    spelled = "|".join(_spelled(form.strip(" )")) for form in term.split("("))
    return re.compile(rf"(?<![\w@-])(?:{spelled})(?:s|es)?(?![\w-])")


def _spelled(form: str) -> str:
    """A form as it may stand in a text: with a capital, across lines; `GRPO` only as it is."""
    first = rf"[{form[0]}{form[0].upper()}]" if form.islower() else re.escape(form[0])
    return first + re.escape(form[1:]).replace(r"\ ", r"\s+")


def link_first_uses(texts: list[str], waiting: set[str]) -> list[str]:
    """The texts of one lesson with links; a term that was found leaves `waiting`.

    >>> link_first_uses(["`span`: a span. Spans"], {"span", "tube"})
    ['`span`: a [span](../docs/glossary.md#span). Spans']
    """
    linked = []
    for text in texts:
        for term in sorted(waiting, key=len, reverse=True):  # "silent group" before "group"
            hidden = UNTOUCHED.sub(lambda match: "\0" * len(match[0]), text)
            if match := pattern(term).search(hidden):
                start, end = match.span()
                link = f"[{text[start:end]}](../docs/glossary.md#{anchor(term)})"
                text = text[:start] + link + text[end:]
                waiting.discard(term)
        linked.append(text)
    return linked
