"""The prose that people read: short sentences, terms that are defined, lessons of one shape."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import build  # noqa: E402
import glossary  # noqa: E402

MOST_WORDS = 30
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data_samples/**/*.md")]
)  # fmt: skip
LESSONS = [lesson.name for lesson in build.LESSONS]

TERMS = """ablation; adapter; advantage; answer; base model; baseline; benchmark; best of eight;
bf16; bootstrap; box; box chain of thought; chat template; checkpoint; clip; completion;
consistency; coordinate space; credit; DAPO; declarative; demonstration; distractor; Dr. GRPO; error
kind; final boxes; GIoU; gold; gradient; group; GRPO; gt_vIoU; HC-STVG; hull; imitation;
interpolation; interrogative; interval; IoU; k3; KL divergence; L1 distance; label; learning rate;
log-probability; look-alike; LoRA; loss; m_tIoU; m_vIoU; multimodal language model; oracle; policy;
prompt; protocol; query; ratio; reference model; reward; RFT; rollout; row; sample; SFT; shapes;
shown frame; silent group; smoke mode; span; spatio-temporal video grounding (STVG); standard
deviation; temperature; think boxes; think reward; tIoU; token; TRL; tube; unparsed; VidSTG; vIoU;
visual token; VUE-STG; zero-shot"""


def sentences(markdown: str) -> list[str]:
    """The sentences of a page, with a word in place of each piece of code or formula.

    Headings, list items and table cells are sentences of their own. Code blocks do not count.
    """
    text = re.sub(r"^(```|~~~).*?^\1", "", markdown, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", " Formula. ", text, flags=re.DOTALL)
    text = re.sub(r"^(?:    |\t)(?! *[-*] ).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]+`|\$[^$\n]+\$", "Code", text)
    text = re.sub(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<[^>]*>", " ", text)
    text = re.sub(r"^\s*(?:[-*+]|\d+\.)\s+|^#+ .*$", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"\|", "\n\n", text)
    text = re.sub(r"\b(?:Fig|Eq|Dr|et al|e\.g|i\.e|vs|no)\.", "abbr", text)
    found = []
    for block in re.split(r"\n\s*\n", text):
        found += re.split(r"(?<=[.!?])[\"'*_)]*\s+(?=[\"'*_(]*[A-Z0-9À-Þ$])", block.strip())
    return [" ".join(sentence.split()) for sentence in found if sentence.strip()]


def words(sentence: str) -> int:
    return sum(any(c.isalnum() for c in word) for word in sentence.split())


def too_long(markdown: str) -> list[str]:
    return [f"{words(s)} words: {s}" for s in sentences(markdown) if words(s) > MOST_WORDS]


def prose(lesson: str) -> str:
    place = LESSONS.index(lesson)
    cells = build.read_script(build.LESSONS[place])
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_sentences_are_told_apart():
    page = "# Head\nOne `a b c` two.\nThree (Fig. 2) four! *Five* six\n\n- seven\n- eight [nine](x)"
    assert sentences(page) == [
        "One Code two.", "Three (abbr 2) four!", "*Five* six", "seven", "eight nine",
    ]  # fmt: skip
    assert too_long("word " * 30) == [] and len(too_long("word " * 31 + ". Short.")) == 1
    assert too_long("| " + "word " * 20 + "| " + "word " * 20 + "|") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_of_a_page_is_long(page):
    assert too_long(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("lesson", LESSONS)
def test_no_sentence_of_a_lesson_is_long(lesson):
    assert too_long(prose(lesson)) == []


def test_glossary_defines_every_term_once_and_in_order():
    listed = [" ".join(term.split()) for term in TERMS.split(";")]
    assert glossary.terms() == listed == sorted(set(listed), key=str.lower)


def shipped_prose() -> str:
    """Every text of the lessons in their order, as GitHub shows it."""
    pages = (nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4) for name in LESSONS)
    return "\n\n".join(
        cell.source for page in pages for cell in page.cells[1:] if cell.cell_type == "markdown"
    )


LINK = re.compile(r"\[([^\[\]]*)\]\(\.\./docs/glossary\.md#([^)]*)\)")


@pytest.mark.parametrize("term", glossary.terms())
def test_first_use_of_a_term_links_to_the_glossary(term):
    links = [link for link in LINK.finditer(shipped_prose()) if link[2] == glossary.anchor(term)]
    assert len(links) == 1, "a term is used in some lesson, and linked once"
    before = shipped_prose()[: links[0].start()]
    before = re.sub(r"```.*?```|\$\$.*?\$\$", "", before, flags=re.DOTALL)
    before = re.sub(r"!?\[[^\[\]]*\]\([^)]*\)|`[^`]*`|\$[^$\n]*\$|<[^>]*>", "", before)
    lines = [line for line in before.splitlines() if not line.startswith(("#", "|", "---"))]
    plain = " ".join(" ".join(lines).split())
    for form in term.strip(")").split(" ("):
        assert not re.search(rf"(?<![\w@-]){re.escape(form)}(?:s|es)?(?![\w-])", plain), form


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_has_the_shape_of_a_lesson(lesson):
    text = prose(lesson)
    for part in (
        "**Question of this lesson.**", "**You need to know**", "**The picture of this lesson",
        "**Change and watch.**", "· Misconception: ", "## In three sentences",
        "**What comes next.**",
    ):  # fmt: skip
        assert text.count(part) == 1, part
    summary = text.partition("## In three sentences")[2].partition("**What comes next.**")[0]
    assert len(sentences(summary)) == 3


@pytest.mark.parametrize("lesson", build.LESSONS, ids=LESSONS)
def test_reading_a_lesson_takes_10_to_40_minutes(lesson):
    assert 10 <= build.reading_minutes(lesson) <= 40
    assert f"reading {build.reading_minutes(lesson)} min" in build.header(
        build.LESSONS.index(lesson)
    )
