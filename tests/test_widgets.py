"""The widgets without a front end: what they show follows what is set."""

from __future__ import annotations

import html
import json
import re
import time

import numpy as np
import pytest

from stvgkit.answers import CoordinateSpace, explain_answer, format_answer, parse_answer
from stvgkit.datasets import Sample
from stvgkit.datasets.shapes import render, scene_of
from stvgkit.errors import InputError
from stvgkit.rewards import score_answer
from stvgkit.rows import ClipFormat
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video
from stvgkit.viewing.widgets import GroupInspector, RewardLab, SampleBrowser

FORMAT = ClipFormat(space="0-100", fps=2.0, max_side=64, factor=16)
HOSTILE = "<script>alert(1)</script> & <img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Sample:
    """Four seconds at 8 frames a second; a square drifts right from frame 8 to frame 23."""
    path = tmp_path_factory.mktemp("clips") / "square.mp4"
    frames = np.full((32, 64, 64, 3), 60, np.uint8)
    for i in range(8, 24):
        frames[i, 20:40, i : i + 20] = (220, 60, 60)
    write_video(path, frames, fps=8)
    boxes = [[i / 64, 20 / 64, (i + 20) / 64, 40 / 64] for i in range(8, 24)]
    tube = Tube(np.arange(8, 24), boxes)
    groups = {"query": "declarative"}
    return Sample("a", HOSTILE, path, 64, 64, 8.0, Span(0, 31), tube.span, tube, groups)


@pytest.fixture
def lab(sample) -> RewardLab:
    return RewardLab(sample, FORMAT)


def shown_numbers(table: str) -> list[float]:
    """The five rewards and the sum, as a reader of the table sees them."""
    cells = re.findall(r'text-align: right">(?:<b>)?(-?[0-9.]+)', table)
    return [float(cell) for cell in cells]


def check_shown(lab: RewardLab) -> None:
    truth = score_answer(lab.text.value, lab.clip.target, lab.clip.space)
    numbers = [truth.format, truth.consistency, truth.temporal, truth.spatial, truth.think]
    assert shown_numbers(lab.table.value) == pytest.approx([*numbers, truth.total], abs=5e-4)


def test_every_preset_shows_its_true_rewards(lab):
    totals = {}
    for name in lab.preset.options:
        lab.preset.value = name
        check_shown(lab)
        totals[name] = lab.breakdown.total
    assert max(totals, key=totals.get) == "perfect"
    assert totals["perfect"] > 4.8  # 5, but for rounding to hundredths
    assert totals["no tags"] == 0
    assert len(set(totals.values())) > 6


def test_presets_break_what_they_say(lab):
    def of(name: str):
        lab.preset.value = name
        return lab.breakdown

    assert of("a rough guess, then the right boxes").think > 0
    assert of("right place, wrong time").temporal < 1 < of("right place, wrong time").spatial
    assert of("a box left out").consistency == 0
    assert of("the end before the start").total == 1.0
    assert of("words around the answer").format == 0
    spoiled, perfect = of("a spoiled guess to collect the think reward"), of("perfect")
    assert spoiled.think > perfect.think and spoiled.total < perfect.total


def test_sliding_the_time_moves_the_lists_along(lab):
    lab.time.value = (0, 7)
    answer = parse_answer(lab.text.value, lab.clip.space)
    assert answer.span == Span(0, 7) and answer.consistent
    assert lab.breakdown.temporal == pytest.approx(0.5)
    check_shown(lab)


def test_sliding_a_box_moves_one_frame_or_all(lab):
    lab.frame.value = 3
    before = lab.clip.space.encode(lab.answer.pred.boxes)
    lab.scope.value = "this frame"
    x1, x2 = lab.boxes["pred", "x"].value
    lab.boxes["pred", "x"].value = (x1 + 10, x2 + 10)
    after = lab.clip.space.encode(lab.answer.pred.boxes)
    moved = (after != before).any(axis=1)
    assert lab.answer.pred.frames[moved].tolist() == [3]
    lab.scope.value = "all frames"
    y1, y2 = lab.boxes["think", "y"].value
    lab.boxes["think", "y"].value = (y1 - 5, y2 - 5)
    think = lab.clip.space.encode(lab.answer.think.boxes)
    assert (think[:, [1, 3]] == before[:, [1, 3]] - 5).all()
    check_shown(lab)


def point(lab: RewardLab, phase: str, x: float, y: float) -> None:
    """What the picture's handler writes: where the pointer is, in parts of the picture."""
    lab.pointer.value = f"{phase} {x:.4f} {y:.4f} {time.monotonic_ns()}"


def test_dragging_moves_a_box_or_its_edges(lab):
    lab.frame.value = 4
    x1, y1, x2, y2 = before = lab.answer.pred.at([4]).boxes[0]
    others = lab.answer.pred.boxes.copy()
    lab.scope.value = "this frame"
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    point(lab, "any", *middle)
    point(lab, "move", middle[0] + 0.3, middle[1])  # and back: a drag has no memory of its way
    point(lab, "move", middle[0] + 0.1, middle[1] - 0.05)
    after = lab.answer.pred.at([4]).boxes[0]
    assert after == pytest.approx(before + [0.1, -0.05, 0.1, -0.05], abs=0.011)
    assert (lab.answer.pred.boxes != others).any(axis=1).sum() == 1
    check_shown(lab)
    lab.preset.value, lab.scope.value = "right time, loose boxes", "all frames"
    before, others = lab.answer.pred.at([4]).boxes[0], lab.answer.pred.boxes.copy()
    point(lab, "any", before[2] - 0.005, (before[1] + before[3]) / 2)
    point(lab, "move", before[2] - 0.105, 0.9)
    assert lab.answer.pred.at([4]).boxes[0] == pytest.approx(before - [0, 0, 0.1, 0], abs=0.011)
    assert (lab.answer.pred.boxes[:, 2] < others[:, 2]).all()
    check_shown(lab)


def test_a_box_dragged_to_the_rim_keeps_its_size_and_its_edges_may_cross(lab):
    lab.frame.value = 4
    before = lab.answer.pred.at([4]).boxes[0]
    point(lab, "any", *(before[:2] + before[2:]) / 2)
    point(lab, "move", 5.0, -5.0)
    after = lab.answer.pred.at([4]).boxes[0]
    assert after[2] == 1 and after[1] == 0
    assert after[2:] - after[:2] == pytest.approx(before[2:] - before[:2], abs=0.011)
    point(lab, "any", after[0], after[3] / 2)
    point(lab, "move", 2.0, after[3] / 2)
    x1, _, x2, _ = lab.answer.pred.at([4]).boxes[0]
    assert x1 == x2 == 1
    check_shown(lab)


def test_shift_takes_the_think_box_and_a_miss_takes_nothing(lab):
    lab.frame.value = 4
    box, pred = lab.answer.think.at([4]).boxes[0], lab.answer.pred.boxes.copy()
    point(lab, "think", *(box[:2] + box[2:]) / 2)
    point(lab, "move", *(box[:2] + box[2:]) / 2 + 0.1)
    assert lab.answer.think.at([4]).boxes[0] == pytest.approx(box + 0.1, abs=0.011)
    assert (lab.answer.pred.boxes == pred).all()
    text = lab.text.value
    point(lab, "any", 0.95, 0.95)
    point(lab, "move", 0.5, 0.5)
    lab.pointer.value = "move nan inf 3"
    lab.pointer.value = HOSTILE
    lab.text.value = HOSTILE
    point(lab, "any", 0.5, 0.5)
    point(lab, "move", 0.6, 0.6)
    assert lab.text.value == HOSTILE and text != HOSTILE


def test_typed_text_sets_the_sliders_or_is_explained(lab):
    lab.text.value = (
        "<time> 1 - 2 </time><think_bbox> 1. [1, 2, 3, 4], 2. [5, 6, 7, 8] </think_bbox>"
        "<pred_bbox> 1. [10, 20, 30, 40], 2. [11, 21, 31, 41] </pred_bbox>"
    )
    lab.frame.value = 2
    assert lab.time.value == (1, 2)
    assert lab.boxes["pred", "x"].value == (11, 31) and lab.boxes["think", "y"].value == (6, 8)
    lab.frame.value = 5
    assert lab.boxes["pred", "x"].disabled
    lab.text.value = HOSTILE
    assert lab.time.disabled and lab.breakdown.total == 0
    assert explain_answer(HOSTILE).split("<")[0] in lab.verdict.value


def test_hostile_text_is_escaped_everywhere(sample, lab):
    lab.text.value = HOSTILE
    group = {
        "step": 1,
        "id": "a",
        "completions": [HOSTILE] * 2,
        "rewards": {"<b>format": [0, 0]},
        "total": [0, 0],
        "advantages": [0, 0],
    }
    inspector = GroupInspector([group], [sample], FORMAT)
    parts = (lab.verdict, lab.children[0], inspector.course, inspector.table, inspector.reading)
    for widget in parts:
        assert "<script" not in widget.value and "<img" not in widget.value
        assert "<b>format" not in widget.value


def group_line(sample: Sample, step: int, shifts: list[float]) -> dict:
    space = CoordinateSpace.relative(100)
    clip = RewardLab(sample, FORMAT).clip
    texts = []
    for shift in shifts:
        moved = Tube(clip.target.frames, clip.target.boxes + shift)
        perfect = parse_answer(RewardLab(sample, FORMAT).text.value, space)
        texts.append(format_answer(type(perfect)(perfect.span, moved, moved, True), space))
    scores = [score_answer(text, clip.target, space) for text in texts]
    total = np.array([score.total for score in scores])
    return {
        "step": step,
        "id": sample.id,
        "completions": texts,
        "rewards": {"spatial": [s.spatial for s in scores], "format": [s.format for s in scores]},
        "total": total.tolist(),
        "advantages": ((total - total.mean()) / (total.std() + 1e-6)).tolist(),
    }


def test_group_inspector_steps_through_training(sample, tmp_path):
    lines = [group_line(sample, 20, [0.0, 0.0]), group_line(sample, 10, [0.0, 0.1, 0.2])]
    path = tmp_path / "groups.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    inspector = GroupInspector(path, [sample], FORMAT)
    first = inspector.table.value
    assert "step 10, group 1 of 2" in inspector.course.value and first.count("<tr") == 4
    for value in lines[1]["advantages"]:
        assert f"{value:+.2f}" in first
    inspector.completion.value = 2
    assert lines[1]["completions"][2].split("\n")[1][:30].replace("<", "&lt;").replace(
        ">", "&gt;"
    ) in (inspector.reading.value)
    inspector.play.click()
    assert "srcdoc" in inspector.player.value
    assert "What completion 3 wrote" in inspector.player.value
    inspector.step.value = 1
    assert inspector.player.value == ""
    assert "step 20" in inspector.course.value and inspector.table.value.count("<tr") == 3
    assert "teaches nothing" in inspector.course.value
    assert len(inspector.completion.options) == 2


def test_shipped_log_is_stepped_through_in_the_order_of_training(root, tmp_path):
    log = root / "data_samples" / "logs" / "groups.jsonl"
    groups = [json.loads(line) for line in log.read_text().splitlines()]
    wanted = {int(group["id"][-5:]) for group in groups if group["step"] in (1, 24)}
    some = sorted(wanted)[:2] + sorted(wanted)[-1:]
    samples = []
    for number in some:
        scene = scene_of("train", number)
        path = tmp_path / f"{number}.mp4"
        write_video(path, render(scene), 8.0)
        tube = Tube(scene.tube.frames * 4, scene.tube.boxes).interpolate()
        name = f"shapes-train-{number:05d}"
        samples.append(Sample(name, scene.query, path, 64, 64, 8.0, Span(0, 28), tube.span, tube))
    inspector = GroupInspector(log, samples, FORMAT)
    assert inspector.step.max == 2
    seen = []
    for inspector.step.value in range(3):
        group = inspector.group
        seen.append(group["step"])
        assert inspector.table.value.count("<tr") == 9
        assert html.escape(scene_of("train", int(group["id"][-5:])).query) in inspector.table.value
        target, space = inspector.clip.target, inspector.clip.space
        again = [score_answer(text, target, space).total for text in group["completions"]]
        assert again == pytest.approx(group["total"], abs=1e-3)
    assert seen == sorted(seen)
    inspector.sample.value = samples[0].id
    assert inspector.step.max == 0 and inspector.group["id"] == samples[0].id


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{}", "missing"),
        ("no json", "line 1"),
        ('{"id": "a", "step": 1, "completions": ["x"], "total": [], "advantages": [1], '
         '"rewards": {}}', "equally long"),
        ("[]", "line 1"),
    ],
)  # fmt: skip
def test_damaged_group_logs_are_named(tmp_path, sample, line, fault):
    path = tmp_path / "groups.jsonl"
    path.write_text(line)
    with pytest.raises(InputError, match=fault):
        GroupInspector(path, [sample])


def test_group_log_of_other_samples_is_refused(sample):
    group = group_line(sample, 1, [0.0]) | {"id": "someone else"}
    with pytest.raises(InputError, match="belongs to one of the samples"):
        GroupInspector([group], [sample])


@pytest.fixture
def browser(sample, tmp_path) -> SampleBrowser:
    def named(name: str, query: str) -> Sample:
        return Sample(
            name, query, sample.video, 64, 64, 8.0, Span(0, 31), sample.span, sample.tube,
            {"query": "interrogative" if query.endswith("?") else "declarative"},
        )  # fmt: skip

    samples = [named(n, q) for n, q in [("a", "the square"), ("b", "who?"), ("c", "what?")]]
    good = RewardLab(sample, FORMAT).text.value
    frames = list(range(0, 32, 4))
    lines = [
        {"id": "a", "completion": good, "frames": frames, "space": "0-100"},
        {"id": "b", "completion": HOSTILE, "frames": frames, "space": "0-100"},
    ]
    path = tmp_path / "preds.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return SampleBrowser(samples, path)


def test_browser_filters_by_score_group_kind_and_words(browser):
    def ids() -> list[str]:
        return [record["id"] for record in browser.selected]

    assert ids() == ["a", "b", "c"] and len(browser.listing.options) == 3
    browser.score.value = (0.5, 1.0)
    assert ids() == ["a"] and "1 of 3" in browser.counter.value
    browser.score.value = (0.0, 1.0)
    assert browser.kind.options == ("any", "missing", "right", "unparsed")
    browser.kind.value = "unparsed"
    assert ids() == ["b"]
    browser.kind.value = browser.ANY
    browser.group.value = "query: interrogative"
    browser.search.value = "WHAT"
    assert ids() == ["c"] and [value for _, value in browser.listing.options] == ["c"]


def test_browser_opens_and_exports(browser, tmp_path):
    assert browser.player.value == ""  # nothing is opened before it is chosen
    browser.listing.value = "b"
    assert "does not parse" in browser.player.value and "<script>alert" not in browser.player.value
    browser.kind.value = "unparsed"
    out = tmp_path / "chosen.jsonl"
    browser.path.value = str(out)
    browser.export.click()
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["b"]
    assert "1 samples written" in browser.counter.value
    browser.path.value = str(out / "below a file.jsonl")
    browser.export.click()
    assert "cannot be written" in browser.counter.value


def test_browser_works_without_predictions_and_without_videos():
    samples = [Sample(f"s{i}", "x", None, 64, 64, 8.0, Span(0, 9), Span(1, 3)) for i in range(300)]
    browser = SampleBrowser(samples)
    assert len(browser.listing.options) == 200 and "first 200" in browser.counter.value
    browser.listing.value = "s7"
    assert "no video" in browser.player.value


def test_lab_needs_gold_boxes(sample):
    bare = Sample("x", "q", sample.video, 64, 64, 8.0, Span(0, 31), Span(1, 3))
    with pytest.raises(InputError, match="no reward"):
        RewardLab(bare, FORMAT)
