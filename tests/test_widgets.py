"""The widgets without a front end: what they show follows what is set."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest

from stvgkit.answers import Answer, CoordinateSpace, format_answer
from stvgkit.credit import CREDITS
from stvgkit.datasets import Sample
from stvgkit.datasets.shapes import render, scene_of
from stvgkit.errors import InputError
from stvgkit.rewards import score_answer
from stvgkit.rows import ClipFormat
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video
from stvgkit.viewing.lab import reward_lab
from stvgkit.viewing.widgets import GroupInspector, SampleBrowser

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


def test_hostile_text_is_escaped_everywhere(sample):
    group = {
        "step": 1,
        "id": "a",
        "completions": [HOSTILE] * 2,
        "rewards": {"<b>format": [0, 0]},
        "total": [0, 0],
        "advantages": [0, 0],
    }
    inspector = GroupInspector([group], [sample], FORMAT)
    for widget in (inspector.course, inspector.table, inspector.reading):
        assert "<script" not in widget.value and "<img" not in widget.value
        assert "<b>format" not in widget.value


def group_line(sample: Sample, step: int, shifts: list[float]) -> dict:
    space = CoordinateSpace.relative(100)
    lab = reward_lab(sample, clip_format=FORMAT)
    texts = []
    for shift in shifts:
        moved = Tube(lab.target.frames, lab.target.boxes + shift)
        texts.append(format_answer(Answer(moved.span, moved, moved, True), space))
    scores = [score_answer(text, lab.target, space) for text in texts]
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


def test_text_is_coloured_by_what_its_parts_are_paid(sample):
    line = group_line(sample, 1, [0.0, 0.1, 0.2])
    line["completions"].append(line["completions"][0].replace("</think_bbox>", "</pred_bbox>"))
    for values in (line["total"], line["advantages"], *line["rewards"].values()):
        values.append(0.0)
    inspector = GroupInspector([line], [sample], FORMAT)
    shown = {}
    for inspector.credit.value in CREDITS:
        inspector.completion.value = 0
        shown[inspector.credit.value] = inspector.reading.value
        assert "time: " in inspector.reading.value and "rgba(" in inspector.reading.value
        inspector.completion.value = 3
        text = html.unescape(re.sub("<[^>]*>", "", inspector.reading.value))
        assert line["completions"][3] in text  # nothing of a broken answer is lost
    assert len(set(shown.values())) == len(CREDITS)
    assert shown["whole"].count(f"{line_advantage(line, 0):+.2f}") >= 3


def line_advantage(line: dict, place: int) -> float:
    total = np.array(line["total"])
    return (total[place] - total.mean()) / (total.std(ddof=1) + 1e-4)


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
    good = reward_lab(sample, clip_format=FORMAT).presets["perfect"]
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
