"""The parser against a second parser that reads one character at a time, and hostile texts."""

import math

import pytest
from answer_texts import FIGURE_2, GOLD, SPACE, any_text, check_text
from hypothesis import given, settings

from stvgkit import Span, explain_answer, format_answer, parse_answer, score_answer
from stvgkit.faults import find_fault


@settings(max_examples=1500)
@given(any_text)
def test_every_text_is_read_as_the_slow_parser_reads_it(text):
    check_text(text)


# --- what the format is, text by text ----------------------------------------------------------


def one(index="5", box="[1, 2, 3, 4]", time="5 - 5"):
    """An answer of one frame with one part replaced."""
    entry = f"{index}. {box}"
    return (
        f"<time> {time} </time> <think_bbox> {entry} </think_bbox> <pred_bbox> {entry} </pred_bbox>"
    )


def test_the_papers_own_example_is_read():
    answer = parse_answer(FIGURE_2, SPACE)
    assert answer.span == Span(5, 7) and answer.consistent
    assert answer.think.frames.tolist() == answer.pred.frames.tolist() == [5, 6, 7]
    assert answer.think.boxes[0].tolist() == [0.271, 0.03, 0.395, 0.212]
    assert answer.pred.boxes[2].tolist() == [0.3, 0.028, 0.405, 0.237]
    assert format_answer(answer, SPACE) == FIGURE_2


ACCEPTED = [
    # (text, box expected on frame 5 of the final boxes, why)
    (one(), [0.001, 0.002, 0.003, 0.004], "plain"),
    ("\n\t " + one() + " \r\n", [0.001, 0.002, 0.003, 0.004], "white space around"),
    (one().replace(" ", ""), [0.001, 0.002, 0.003, 0.004], "no white space at all"),
    (one().replace(" ", "\r\n"), [0.001, 0.002, 0.003, 0.004], "CRLF between tokens"),
    (one(index="5 "), [0.001, 0.002, 0.003, 0.004], "white space before the dot"),
    (one(index="000005", time="05 - 005"), [0.001, 0.002, 0.003, 0.004], "leading zeros"),
    (one(box="[-7, -0.5, 3, 4]"), [0.0, 0.0, 0.003, 0.004], "negative coordinates are clamped"),
    (one(box="[1, 2, 1001, 999999999.5]"), [0.001, 0.002, 1.0, 1.0], "large ones are clamped"),
    (one(box="[0.5, 1.25, 2.0, 3.75]"), [0.0005, 0.00125, 0.002, 0.00375], "decimals"),
    (one(box="[4, 4, 1, 1]"), [0.004, 0.004, 0.001, 0.001], "degenerate boxes stay as they are"),
    (one(box="[-0, 0, -0.0, 0]"), [0.0, 0.0, 0.0, 0.0], "minus zero"),
]


@pytest.mark.parametrize(("text", "box", "why"), ACCEPTED, ids=[row[-1] for row in ACCEPTED])
def test_texts_that_hold_to_the_format(text, box, why):
    check_text(text)
    assert parse_answer(text, SPACE).pred.boxes.tolist() == [box]
    assert parse_answer(text, SPACE).consistent


BROKEN = [
    # (text, words of the explanation, why)
    ("", "empty", "no text"),
    (" \n ", "empty", "white space only"),
    ("It walks left.", "character 1: expected <time>, found 'It walks", "prose"),
    ("Sure! " + one(), "character 1: expected <time>, found 'Sure! <time>", "prose before"),
    (one() + " Done.", "expected the end of the text, found 'Done.'", "prose after"),
    (one() + one(), "(a completion holds one answer)", "two answers"),
    (one().upper(), "(tags are written in lower case)", "upper-case tags"),
    (one().replace("<pred", "<PRED"), "(tags are written in lower case)", "one upper-case tag"),
    (one().replace("think_bbox", "think bbox"), "expected <think_bbox>", "no underscore"),
    (f"<answer>{one()}</answer>", "expected <time>, found '<answer>", "wrapped in another tag"),
    (f"<time>{one()}", "expected the first index", "nested tags"),
    (one()[:45], "the text stops where", "cut off inside a list"),
    (one()[:-1], "(the text is cut off inside a tag)", "cut off in the last tag"),
    (one(time="5"), "expected '-' between the two indices", "a moment, not a span"),
    (one(time="5 – 5"), "expected '-'", "an en dash"),
    (one(time="-5 - 5"), "expected the first index", "a negative index"),
    (one(time="2.5 - 5.5"), "expected '-'", "seconds with decimals"),
    (one(time="5 - 1234567"), "(the number has too many digits)", "an index of 7 digits"),
    (one(time="5 - " + "9" * 400), "(the number has too many digits)", "an index of 400 digits"),
    (one(index="٥"), "(only the digits 0-9 count)", "an Arabic digit, which int() would read"),
    (one(box="[1, ２, 3, 4]"), "(only the digits 0-9 count)", "a full-width digit"),
    (one(box="[1, 2², 3, 4]"), "(only the digits 0-9 count)", "a superscript"),
    (one(box="[1, 2, 3, " + "9" * 400 + "]"), "too many digits", "a coordinate of 400 digits"),
    (one(box="[1, 2, 3, 0." + "3" * 400 + "]"), "too many digits", "400 decimals"),
    (one(box="[1, NaN, 3, 4]"), "expected coordinate 2, such as 271 or 27.5", "NaN"),
    (one(box="[1, 2, inf, 4]"), "expected coordinate 3", "infinity"),
    (one(box="[1, 2, 3, 4e2]"), "expected ']' after coordinate 4", "an exponent"),
    (one(box="[1, 2, 3, +4]"), "expected coordinate 4", "a plus sign"),
    (one(box="[1, 2, 3, .5]"), "expected coordinate 4", "no digit before the point"),
    (one(box="[1, 2, 3, - 4]"), "expected coordinate 4", "a minus sign by itself"),
    (one(box="[1, 2, 3]"), "expected ',' before coordinate 4, found ']", "three coordinates"),
    (one(box="[1, 2, 3, 4, 5]"), "expected ']' after coordinate 4", "five coordinates"),
    (one(box="[1 2 3 4]"), "expected ',' before coordinate 2", "no commas"),
    (one(box="(1, 2, 3, 4)"), "expected '[' before the box", "round brackets"),
    (one(box="[1, 2, 3, 4],"), "expected an index, found '</think_bbox>", "a comma too many"),
    (one(box="[1, 2, 3, 4] 6. [1, 2, 3, 4]"), "expected ',' or </think_bbox>", "no comma between"),
    (one(index="frame 5"), "expected an index (at most 6 digits) or </think_bbox>", "a word"),
    (one().replace("</time>", "</time>\x00"), r"found '\x00 <think_bbox>", "a null byte"),
    (one().replace("> <", ">\u00a0<"), "expected <think_bbox>", "a no-break space"),
    (one().replace(" <pred", "\ud800 <pred"), "expected <pred_bbox>", "half a surrogate pair"),
    (one().split("<pred")[0], "the text stops where <pred_bbox> is expected", "no final boxes"),
    (
        "<time> 5 - 5 </time> <pred_bbox> </pred_bbox> <think_bbox> </think_bbox>",
        "expected <think_bbox>, found '<pred_bbox>",
        "lists in the other order",
    ),
]


@pytest.mark.parametrize(("text", "explanation", "why"), BROKEN, ids=[row[-1] for row in BROKEN])
def test_texts_that_break_the_format(text, explanation, why):
    check_text(text)
    assert parse_answer(text, SPACE) is None
    assert explanation in explain_answer(text)


def lists(think, pred, time="5 - 7"):
    think, pred = (
        ", ".join(f"{index}. [{index}, 0, 100, 100]" for index in indices)
        for indices in (think, pred)
    )
    return f"<time> {time} </time><think_bbox>{think}</think_bbox><pred_bbox>{pred}</pred_bbox>"


FULL = [5, 6, 7]
INCONSISTENT = [
    (lists([5, 7], FULL), "<think_bbox> lacks index 6."),
    (lists(FULL, []), "<pred_bbox> lacks 3 indices (5, 6, 7)."),
    (lists(FULL, [5, 6, 6, 7]), "<pred_bbox> repeats index 6."),
    (lists(FULL, [5, 6, 7, 8]), "<pred_bbox> leaves 5 - 7 with index 8."),
    (lists([7, 6, 5], FULL), "<think_bbox> is not in order."),
    (lists([5], [6]), "<think_bbox> lacks 2 indices (6, 7); <pred_bbox> lacks 2 indices (5, 7)."),
    (lists([], [], "0 - 999999"), "lacks 1000000 indices (0, 1, 2, 3, 4, ...)"),
    (lists(FULL, FULL, "7 - 5"), "the time ends (5) before it starts (7)."),
    (lists([], [], "7 - 6"), "the time ends (6) before it starts (7)."),
]


@pytest.mark.parametrize(("text", "explanation"), INCONSISTENT, ids=[r[1] for r in INCONSISTENT])
def test_lists_that_do_not_match_the_span(text, explanation):
    check_text(text)
    assert not parse_answer(text, SPACE).consistent
    assert explanation in explain_answer(text)


def test_a_good_answer_is_called_good():
    assert explain_answer(FIGURE_2) == (
        "The answer is well formed: one box for each index 5 to 7 in both lists."
    )


def test_the_first_of_duplicate_indices_is_kept():
    text = FIGURE_2.replace("6. [289, 34, 403, 236]", "5. [0, 0, 1, 1], 6. [2, 2, 3, 3]")
    pred = parse_answer(text, SPACE).pred
    assert pred.frames.tolist() == [5, 6, 7]
    assert pred.boxes[0].tolist() == [0.278, 0.035, 0.399, 0.234]


def test_the_format_without_a_think_list():
    text = "<time> 5 - 5 </time> <pred_bbox> 5. [0, 0, 500, 500] </pred_bbox>"
    answer = parse_answer(text, SPACE, think=False)
    assert answer.think is None and answer.consistent
    assert format_answer(answer, SPACE).split() == text.split()
    assert explain_answer(text, think=False).endswith("each index 5 to 5 in the list.")
    assert parse_answer(text, SPACE) is None
    assert parse_answer(FIGURE_2, SPACE, think=False) is None
    assert "expected <pred_bbox>, found '<think_bbox>" in explain_answer(FIGURE_2, think=False)


BOXES = ", ".join(["5. [1, 2, 3, 4]"] * 50_000)
OPEN = "<time> 5 - 5 </time> <think_bbox>"
LONG = [
    ("1" * 1_000_000, "digits"),
    ("<time>" + "1" * 1_000_000, "digits in the time"),
    (OPEN + "5. [" + "1" * 1_000_000, "digits in a box"),
    (OPEN + "5. [0." + "1" * 1_000_000, "decimals in a box"),
    ("[" * 1_000_000, "opening brackets"),
    (OPEN + "[" * 1_000_000, "opening brackets in a list"),
    ("<" * 1_000_000, "opening angle brackets"),
    ("<time>" * 200_000, "opening tags"),
    (OPEN * 30_000, "answers that begin again"),
    (" " * 1_000_000, "blanks"),
    ("<time>" + " \n" * 500_000 + "x", "blanks, then something wrong"),
    (OPEN + ("5" + " " * 1_000) * 1_000, "blanks where a dot should be"),
    (OPEN + BOXES, "boxes cut off at the end"),
    (OPEN + BOXES + " </think_bbox> <pred_bbox> " + BOXES + " .", "boxes, then something wrong"),
    (OPEN + BOXES + " </think_bbox> <pred_bbox> " + BOXES + " </pred_bbox>", "boxes all right"),
    ("\x00" * 1_000_000, "null bytes"),
    ("５" * 1_000_000, "full-width digits"),
]


@pytest.mark.parametrize("text", [row[0] for row in LONG], ids=[row[1] for row in LONG])
def test_very_long_texts_are_read_in_one_pass(text):
    """With a step back for each character, any of these would take hours."""
    answer = parse_answer(text, SPACE)
    assert (answer is not None) == text.endswith("</pred_bbox>")
    assert len(explain_answer(text)) < 400
    assert math.isfinite(score_answer(text, GOLD, SPACE).total)


GOOD = "<time> 5 - 5 </time> <think_bbox> 5. [1, 2, 3, 4] </think_bbox> "
GOOD += "<pred_bbox> 5. [1, 2, 3, 4] </pred_bbox>"


KNOWN = [
    (f"```\n{GOOD}\n```", "a code fence stands around the answer"),
    (f"```xml\n{GOOD}", "a code fence stands around the answer"),
    (f"{GOOD}\n```", "a code fence stands around the answer"),
    (f"<think>frame 5</think>\n{GOOD}", "thinking stands before the answer"),
    (f"Let me look.\n</think>\n{GOOD}", "thinking stands before the answer"),
    (f"Sure! {GOOD}", "words stand before the answer"),
    (f"{GOOD}<|im_end|>", "a control token is left in the text"),
    (GOOD.replace("5 - 5", "5 \u2013 5"), "this dash is not the hyphen -"),
    (GOOD.replace("5 - 5", "5 \u2212 5"), "this dash is not the hyphen -"),
    ('[{"time": 1.0, "bbox_2d": [1, 2, 3, 4], "label": "dog"}]', "this is the JSON that Qwen"),
    ('```json\n[{"bbox_2d": [1, 2, 3, 4]}]\n```', "this is the JSON that Qwen writes"),
    (GOOD[:-20], "the text is cut off"),
    ("", "the text is empty"),
    ("It is the dog.", "expected <time>"),
]


@pytest.mark.parametrize(("text", "kind"), KNOWN)
def test_the_common_faults_are_known_by_name(text, kind):
    fault = find_fault(text)
    assert fault.kind.startswith(kind)
    assert fault.said == explain_answer(text) and fault.said.startswith("The format is broken")


RELATIVE = GOOD.replace("[1, 2, 3, 4]", "[0.1, 0.2, 0.3, 0.94]")


def test_relative_boxes_are_remarked_on():
    """Numbers of 0 to 1 in a space of 0 to 1000 parse, and are a thousand times too small."""
    assert "but every coordinate is 1 or less" in explain_answer(RELATIVE)
    assert "inconsistent" in explain_answer(RELATIVE.replace("5 - 5", "5 - 6"))
    assert "coordinate is 1 or less" in explain_answer(RELATIVE.replace("5 - 5", "5 - 6"))
    for fine in (GOOD, GOOD.replace("[1, 2, 3, 4]", "[0, 0, 1, 1]"), GOOD.replace("4]", "4.5]")):
        assert "1 or less" not in explain_answer(fine)
