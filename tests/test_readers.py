"""The lenient and the qwen reader: answers of known content in other clothes, and hostile texts.

`check_readers` also serves the long run, benchmarks/fuzz_answers.py.
"""

import json
import math

import numpy as np
import pytest
from answer_texts import FIGURE_2, SPACE, any_text, well_formed
from hypothesis import given, settings
from hypothesis import strategies as st
from test_answers import LONG

from stvgkit import Answer, CoordinateSpace, Span, Tube, format_answer, parse_answer
from stvgkit.cli import main
from stvgkit.datasets import Sample, write_prepared
from stvgkit.errors import InputError
from stvgkit.predictions import read_completions
from stvgkit.prompts import instruction
from stvgkit.readers import READERS, read_answer

TIMES = np.arange(12) / 2
ANSWER = parse_answer(FIGURE_2, SPACE)


def lenient(text):
    return read_answer(text, SPACE, "lenient")


def qwen(value, times=TIMES):
    text = value if isinstance(value, str) else json.dumps(value)
    return read_answer(text, SPACE, "qwen", times=times)


def check_readers(text):
    """What must hold for every text whatsoever."""
    strict = parse_answer(text, SPACE)
    assert read_answer(text, SPACE) == strict
    if strict is not None:
        assert lenient(text) == strict
    for answer in (lenient(text), qwen(text)):
        if answer is not None:
            assert np.isfinite(answer.pred.boxes).all()
            assert ((answer.pred.boxes >= 0) & (answer.pred.boxes <= 1)).all()
            assert answer.consistent <= (len(answer.pred) == len(answer.span) > 0)


@settings(max_examples=600)
@given(any_text)
def test_every_text_is_read_or_not_and_a_strict_answer_by_the_lenient_reader_too(text):
    check_readers(text)


def test_the_strict_reader_is_the_parser():
    text = FIGURE_2.replace("think_bbox", "pred_bbox")
    assert read_answer(text, SPACE) is None
    assert read_answer(FIGURE_2, SPACE) == ANSWER
    without = FIGURE_2.splitlines()[0] + FIGURE_2.splitlines()[2]
    assert read_answer(without, SPACE) is None
    assert read_answer(without, SPACE, think=False).think is None


# --- lenient: the paper's own example, spoilt in one way after another ---------------------------

SPOILT = {
    "words around it": "Let me look.\n" + FIGURE_2 + "\nThat is my answer.",
    "words between": FIGURE_2.replace("\n", "\nand then\n"),
    "a code fence": f"```xml\n{FIGURE_2}\n```",
    "the end of a turn": FIGURE_2 + "<|im_end|>",
    "a thought before it": f"<think>It is <time> 1 - 2 </time>.</think>{FIGURE_2}",
    "decimal indices": FIGURE_2.replace(" 5 - 7 ", " 5.0 - 7.0 ").replace("5. [", "5.0. ["),
    "seconds": FIGURE_2.replace(" 5 - 7 ", " 5s - 7s ").replace("6. [", "6s: ["),
    "spelt seconds": FIGURE_2.replace(" 5 - 7 ", " 5 seconds - 7 seconds "),
    "an en dash": FIGURE_2.replace("5 - 7", "5 – 7"),
    "an em dash": FIGURE_2.replace("5 - 7", "5—7"),
    "the word to": FIGURE_2.replace("5 - 7", "5 to 7"),
    "lines of their own": FIGURE_2.replace("], ", "]\n"),
    "a list with marks": FIGURE_2.replace("], ", "]\n- frame "),
    "semicolons": FIGURE_2.replace("], ", "]; "),
    "colons": FIGURE_2.replace(". [", ": ["),
    "round brackets": FIGURE_2.replace("[", "(").replace("]", ")"),
    "blanks for commas": FIGURE_2.replace(", 30, 395, ", " 30 395 "),
    "tags in capitals": FIGURE_2.replace("time", "TIME").replace("pred_bbox", "Pred_BBox"),
    "no last closing tag": FIGURE_2.removesuffix("</pred_bbox>"),
    "half of the last closing tag": FIGURE_2.removesuffix("bbox>"),
    "the wrong closing tag": FIGURE_2.replace("</think_bbox>", "</pred_bbox>"),
    "no closing tag of the time": FIGURE_2.replace("</time>", ""),
    "a second answer": FIGURE_2 + FIGURE_2.replace("5", "9"),
    "unicode blanks": FIGURE_2.replace(" ", "\u00a0"),
}


@pytest.mark.parametrize("text", SPOILT.values(), ids=SPOILT)
def test_the_lenient_reader_reads_what_was_meant(text):
    assert parse_answer(text, SPACE) is None
    assert lenient(text) == ANSWER


@settings(max_examples=200)
@given(well_formed(), st.sampled_from(["Sure: ", "```\n", "<think>no</think>"]), st.booleans())
def test_any_answer_in_a_longer_text_is_read_as_it_stands_alone(text, before, cut):
    expected = parse_answer(text, SPACE)
    text = text.rstrip()
    assert lenient(before + (text.removesuffix("</pred_bbox>") if cut else text)) == expected


def test_decimals_of_boxes_are_kept_and_a_cut_box_is_left_out():
    text = "<time> 5 - 6 </time><pred_bbox> 5. [1.5, -2, 3, 1004], 6. [1, 2, 3"
    answer = lenient(text)
    assert answer.pred.frames.tolist() == [5] and answer.think is None
    assert answer.pred.boxes.tolist() == [[0.0015, 0.0, 0.003, 1.0]]
    assert not answer.consistent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The dog runs from 5 to 7.",
        "<time> 5 - 7 </time>",
        "<pred_bbox> 5. [1, 2, 3, 4] </pred_bbox>",
        "<time> soon </time><pred_bbox> 5. [1, 2, 3, 4] </pred_bbox>",
        "<time> 5 </time><pred_bbox> 5. [1, 2, 3, 4] </pred_bbox>",
        "<pred_bbox> 5. [1, 2, 3, 4] </pred_bbox> <time> 5 - 5 </time>",
        "<time> ５ - ７ </time><pred_bbox> 5. [1, 2, 3, 4] </pred_bbox>",
    ],
)
def test_the_lenient_reader_invents_nothing(text):
    assert lenient(text) is None


def test_what_is_no_box_is_no_box_to_the_lenient_reader_either():
    boxes = "5. [1, 2, 3] 6. [1, 2, 3, 4, 5] 7. [a, b, c, d] 8. [1e3, 1, 1, 1] [1, 2, 3, 4]"
    assert len(lenient(f"<time> 5 - 8 </time><pred_bbox> {boxes} </pred_bbox>").pred) == 0


# --- qwen ----------------------------------------------------------------------------------------


def item(time, box, **more):
    return {"time": time, "bbox_2d": box, "label": "the dog", **more}


def test_qwens_seconds_fall_on_the_nearest_shown_frame():
    answer = qwen([item(1.0, [100, 200, 300, 400]), item(1.6, [0, 0, 1000, 1000])])
    assert answer.span == Span(2, 3) and answer.consistent and answer.think is None
    assert answer.pred == Tube([2, 3], [[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]])


ONE = item(1.0, [100, 200, 300, 400])


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ONE]),
        json.dumps(ONE),
        f"```json\n{json.dumps([ONE], indent=2)}\n```<|im_end|>",
        "Here it is: " + json.dumps([ONE]) + " I hope this helps.",
        json.dumps([ONE])[:-1] + ', {"time": 1.5, "bbox_2d": [1, 2',  # cut off
        json.dumps([ONE | {"time": "1.0"}]),
        json.dumps([ONE | {"time": "1.0s"}]),
        json.dumps([ONE | {"time": "1 second"}]),
        json.dumps([ONE | {"bbox_2d": ["100", "200", "300", "400"]}]),
        json.dumps([ONE | {"bbox_2d": [[100, 200, 300, 400]]}]),
        json.dumps([{"frame": 2, "bbox_2d": [100, 200, 300, 400]}]),
        json.dumps([ONE, ONE | {"bbox_2d": [1, 2, 3, 4]}]),  # the first of two on a frame
        json.dumps([item(99.0, [1, 2, 3, 4]), ONE, item(-3.0, [1, 2, 3, 4])]),  # no such time
        json.dumps([ONE, {"time": 2.0}, {"bbox_2d": [1, 2, 3, 4]}, item(2.0, [1, 2, 3])]),
        json.dumps([ONE, item(True, [1, 2, 3, 4]), item(2.0, [1, 2, 3, None])]),
        json.dumps([ONE, {"frame": 2.5, "bbox_2d": [1, 2, 3, 4]}, {"frame": 99, "bbox_2d": [1]}]),
        json.dumps([ONE, item(math.nan, [1, 2, 3, 4]), item(1e300, [1, 2, 3, 4])]),
        json.dumps([ONE, item(2.0, [1, 2, 3, math.inf]), item(2.0, [1, 2, 3, 10**400])]),
    ],
)
def test_qwens_json_is_read_in_any_wrapping(text):
    answer = qwen(text)
    assert (answer.span, answer.think) == (Span(2, 2), None)
    assert answer.pred == Tube([2], [[0.1, 0.2, 0.3, 0.4]])


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "I see no dog.", FIGURE_2, "[" * 9999])
def test_what_holds_no_box_is_no_answer_to_the_qwen_reader(text):
    assert qwen(text) is None


def test_the_qwen_reader_needs_times_and_can_do_without_frames():
    with pytest.raises(InputError, match="needs 'times'"):
        read_answer("[]", SPACE, "qwen")
    assert qwen([ONE], times=[]) is None
    assert qwen([item(0.4, [1, 2, 3, 4])], times=[0.0]).span == Span(0, 0)
    with pytest.raises(InputError, match="unknown reader 'json': use one of strict, lenient, qwen"):
        read_answer("", SPACE, "json")


def test_the_prompt_for_qwens_form_shows_what_its_reader_reads():
    text = instruction('the "red" {x}', 8, SPACE, "qwen")
    assert '"the "red" {x}"' in text and "integers from 0 to 1000" in text
    assert qwen(text.splitlines()[-1]).pred == Tube([2], [[0.3, 0.2, 0.5, 0.8]])


boxes = st.lists(st.integers(0, 1000), min_size=4, max_size=4)


@given(st.dictionaries(st.integers(0, 11), boxes, min_size=1))
def test_a_tube_in_qwens_form_is_read_back(tube):
    frames = sorted(tube)
    expected = Tube(frames, SPACE.decode([tube[frame] for frame in frames]))
    answer = qwen([item(frame / 2, tube[frame]) for frame in frames])
    assert answer.pred == expected and answer.span == expected.span
    assert answer.consistent == (len(frames) == len(expected.span))


# --- very long texts -----------------------------------------------------------------------------

LISTS = "<time> 5 - 6 </time><pred_bbox>"
LONGER = [
    *(text for text, _ in LONG),
    "<time>5 - " * 100_000,
    LISTS + ("5" + " " * 1_000) * 1_000,
    LISTS + ("5.[1," + " " * 1_000) * 1_000,
    LISTS + "5. [1 2 3 " * 100_000,
    LISTS + "5. [" + "1 " * 500_000,
    LISTS.replace(">5", ">" + " " * 500_000) + "<think_bbox>" * 50_000,
    "</think>" * 100_000,
    "{" * 1_000_000,
    '{"time": ' * 100_000,
    '{"time": 1, "bbox_2d": ' + "[" * 1_000_000 + "}",
    '{"time": ' + "9" * 1_000_000 + "}",
    '{"time": "' + " " * 1_000_000 + 's"}',
    json.dumps([ONE] * 50_000)[:-1],
]


@pytest.mark.parametrize("text", LONGER, ids=range(len(LONGER)))
def test_very_long_texts_are_read_in_one_pass(text):
    """With a step back for each character, any of these would take hours."""
    check_readers(text)


# --- the command line ----------------------------------------------------------------------------

FRAMES = list(range(0, 180, 15))


@pytest.fixture
def files(tmp_path):
    """Four samples with one gold tube, and answers: strict, lenient, qwen's, none."""
    gold = Tube(np.arange(30, 46), [[0.1, 0.2, 0.3, 0.4]] * 16)
    samples = [
        Sample(name, "the dog", None, 640, 360, 30.0, Span(0, 179), gold.span, gold)
        for name in ("strict", "lenient", "qwen", "none")
    ]
    write_prepared(tmp_path, samples, "by hand")
    answer = Answer(Span(2, 3), None, Tube([2, 3], [[0.1, 0.2, 0.3, 0.4]] * 2), True)
    text = format_answer(
        Answer(answer.span, answer.pred, answer.pred, True), CoordinateSpace.relative(1000)
    )
    told = {
        "strict": text,
        "lenient": f"Sure!\n{text}",
        "qwen": json.dumps([item(t, [100, 200, 300, 400]) for t in (1.0, 1.5)]),
        "none": "I see no dog.",
    }
    lines = [
        {"id": name, "completion": said, "frames": FRAMES, "times": TIMES.tolist()}
        for name, said in told.items()
    ]
    path = tmp_path / "preds.jsonl"
    path.write_text("".join(json.dumps(line | {"space": "0-1000"}) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("reader", "read"), [(None, ["strict"]), ("lenient", ["strict", "lenient"]), ("qwen", ["qwen"])]
)
def test_score_reads_with_the_reader_that_is_named_and_says_so(files, capsys, reader, read):
    out = files.parent / "scores.json"
    arguments = ["score", "--benchmark", "prepared", "--annotations", files.parent]
    arguments += ["--predictions", files, "--json", out]
    arguments += ["--reader", reader] if reader else []
    assert main([str(argument) for argument in arguments]) == 0
    report = json.loads(out.read_text())
    assert (report["reader"], report["lenient_only"]) == (reader or "strict", 1)
    assert report["unparsed"] == 4 - len(read)
    assert report["metrics"]["m_vIoU"] == pytest.approx(len(read) / 4)
    told = read_completions(files, reader or "strict")
    assert [name for name in told if told[name].tube is not None] == read
    said = f"reader {reader or 'strict'}, answers that only the lenient reader reads: 1"
    assert said in capsys.readouterr().out.splitlines()


def test_the_qwen_reader_says_what_a_file_lacks(files, capsys):
    lines = [json.loads(line) for line in files.read_text().splitlines()]
    arguments = ["score", "--benchmark", "prepared", "--annotations", str(files.parent)]
    arguments += ["--predictions", str(files), "--reader", "qwen"]
    wrong = [None, "soon", 1.0, [], TIMES.tolist()[:-1], [0.0] * 12, ["a"] * 12, [[0.0]] * 12]
    for times in wrong:
        files.write_text("".join(json.dumps(line | {"times": times}) + "\n" for line in lines))
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert "line 1: 'times'" in said and said.count("\n") == 1
    for line in lines:
        del line["times"]
    files.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(arguments) == 2
    assert "line 1: no key 'times'" in capsys.readouterr().err


def test_tubes_take_no_reader(files, capsys):
    path = files.with_suffix(".json")
    path.write_text("{}")
    code = main(
        ["score", "--benchmark", "hcstvg", "--annotations", str(path), "--predictions", str(path)]
        + ["--reader", "lenient"]
    )
    assert code == 2 and "holds tubes, not answers: leave --reader out" in capsys.readouterr().err


@pytest.mark.parametrize("reader", READERS)
def test_the_player_reads_with_the_reader_too(files, reader, tmp_path):
    from stvgkit.video import write_video
    from stvgkit.viewing.players import show_player

    video = tmp_path / "clip.mp4"
    write_video(video, np.zeros((180, 48, 64, 3), np.uint8), fps=30)
    lines = {line["id"]: line for line in map(json.loads, files.read_text().splitlines())}
    player = show_player(video, answers=lines, reader=reader)
    read = {"strict": ["strict"], "lenient": ["strict", "lenient"], "qwen": ["qwen"]}[reader]
    for name in lines:
        assert (f"{name} does not parse" in player.html()) == (name not in read)
