"""The reward lab: its data without a browser, and its page under a hand in a real Chromium."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from browser import listen

from stvgkit import explain_answer, format_answer, parse_answer, score_answer
from stvgkit.cli import main
from stvgkit.datasets import Sample
from stvgkit.errors import InputError
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video
from stvgkit.viewing.lab import reward_lab

HOSTILE = "</script><script>document.title = 'run'</script><img src=x onerror='alert(1)'> & \ud800"
ROOT = "document.querySelector('.stvg-lab')"
PARTS = ("format", "consistency", "temporal", "spatial", "think", "total")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Sample:
    """Six seconds at 8 frames a second; a box drifts right from frame 8 to frame 28."""
    path = tmp_path_factory.mktemp("clips") / "box.mp4"
    frames = np.full((48, 180, 320, 3), 60, np.uint8)
    for i in range(8, 29):
        frames[i, 54:108, 4 * i : 4 * i + 96] = (220, 120, 60)
    write_video(path, frames, fps=8)
    boxes = [[i / 80, 0.3, i / 80 + 0.3, 0.6] for i in range(8, 29)]
    tube = Tube(np.arange(8, 29), boxes)
    return Sample("a", "the box that drifts", path, 320, 180, 8.0, Span(0, 47), tube.span, tube)


# --- without a browser ---------------------------------------------------------------------------


def test_presets_break_what_they_say(sample):
    lab = reward_lab(sample)
    scores = {name: score_answer(text, lab.target, lab.space) for name, text in lab.presets.items()}
    totals = {name: score.total for name, score in scores.items()}
    assert max(totals, key=totals.get) == "perfect" and totals["perfect"] > 4.98  # but for rounding
    assert scores["a rough guess, then the right boxes"].think > 0
    late = scores["right place, wrong time"]
    assert late.temporal < 1 < late.spatial
    assert scores["a box left out"].consistency == 0
    assert totals["the end before the start"] == 1.0
    assert scores["words around the answer"].format == 0
    spoiled = scores["a spoiled guess to collect the think reward"]
    assert spoiled.think > scores["perfect"].think and spoiled.total < totals["perfect"]
    assert totals["no tags"] == 0


def test_a_lab_needs_gold_boxes_that_a_shown_frame_has(sample):
    bare = dataclasses.replace(sample, tube=None)
    with pytest.raises(InputError, match="no reward"):
        reward_lab(bare)


def test_a_long_clip_stays_below_two_megabytes_or_is_refused(tmp_path, monkeypatch):
    """Grain is the worst that a picture can hold."""
    rng = np.random.default_rng(0)
    path = tmp_path / "grain.mp4"
    frames = (rng.integers(0, 255, (180, 320, 3), np.uint8) for _ in range(40))
    write_video(path, frames, fps=2, crf=20)
    tube = Tube([3, 37], [[0.1, 0.1, 0.5, 0.5]] * 2)
    sample = Sample("grain", "q", path, 320, 180, 2.0, Span(0, 39), tube.span, tube)
    lab = reward_lab(sample)
    assert len(lab.data["images"]) == 40 and len(lab.html().encode()) < 2_000_000
    monkeypatch.setattr("stvgkit.viewing.lab.BUDGET", 100_000)
    with pytest.raises(InputError, match=r"grain: 40 frames do not fit .* clip_format"):
        reward_lab(sample)


def test_the_command_writes_a_sample_lab_or_a_named_one(root, tmp_path, capsys):
    out = tmp_path / "lab.html"
    assert main(["lab", "--out", str(out)]) == 0
    assert "11 shown frames" in capsys.readouterr().out and "The yellow box" in out.read_text()
    answer = tmp_path / "answer.txt"
    answer.write_text(" <time> my own </time>\n")
    options = ["--id", "cup.mp4", "--space", "640x360", "--answer", str(answer)]
    assert main(["lab", "--out", str(out), *options]) == 0
    page = out.read_text()
    assert "The black bottle" in page and '"640x360"' in page and r"\u003e my own" in page


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--id", "nobody"], "no sample with id 'nobody'"),
        (["--space", "3"], "unknown coordinate space '3'"),
        (["--answer", "missing.txt"], "missing.txt is not a file"),
        (["--video", "a.mp4"], "a reward needs gold boxes"),
        (["--videos", "."], "--videos needs --annotations"),
        (["--benchmark", "hcstvg"], "give both or neither"),
        (["--benchmark", "hcstvg", "--annotations", "{annotations}"], "it has no video file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_command_says_in_one_line_what_is_wrong(
    root, tmp_path, monkeypatch, capsys, options, fault
):
    monkeypatch.chdir(tmp_path)
    annotations = root / "data_samples" / "opencv" / "annotations.json"
    options = [option.format(annotations=annotations) for option in options]
    assert main(["lab", *options]) == 2
    said = capsys.readouterr().err
    assert fault in said and said.count("\n") == 1


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture
def visit(chromium, tmp_path):
    """Open a lab from disk; at the end nothing was asked of anyone and nothing was complained."""
    pages = []

    def opened(lab, width=1000, height=900, **options):
        page = chromium.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        listen(page)
        path = tmp_path / f"lab{len(pages)}.html"
        lab.save(path)
        page.goto(path.as_uri())
        page.lab = lab
        return page

    yield opened
    for page in pages:
        assert page.problems == []
        assert all(url.startswith(("file:", "data:")) for url in page.requests)
        page.context.close()


@pytest.fixture
def page(visit, sample):
    return visit(reward_lab(sample))


def text_of(page) -> str:
    return page.locator("textarea").input_value()


def answer_of(page, **form):
    return parse_answer(text_of(page), page.lab.space, **form)


def check_shown(page, **options) -> None:
    """What the page shows is what Python says of the text shown."""
    truth = score_answer(text_of(page), page.lab.target, page.lab.space, **options)
    shown = [float(cell) for cell in page.locator(".value").all_inner_texts()]
    assert shown == pytest.approx([getattr(truth, part) for part in PARTS], abs=5.1e-4)
    said = explain_answer(text_of(page), think=options.get("think", True))
    assert page.locator(".verdict").inner_text() == said


def look(page, frame: int) -> None:
    page.evaluate(f"{ROOT}.lab.look({frame})")


def place(page, x: float, y: float) -> tuple[float, float]:
    """A point of the picture, as the mouse knows it."""
    stage = page.locator(".stage").bounding_box()
    return stage["x"] + x * stage["width"], stage["y"] + y * stage["height"]


def drag(page, start, end, steps: int = 4) -> None:
    page.mouse.move(*place(page, *start))
    page.mouse.down()
    page.mouse.move(*place(page, 0.5, 0.5))  # a detour: only where the drag ends counts
    page.mouse.move(*place(page, *end), steps=steps)
    page.mouse.up()
    page.mouse.move(*place(page, 0.01, 0.01))


def middle(box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def test_every_preset_is_shown_with_its_true_rewards(page):
    names = [*page.lab.presets, "the given answer"]
    for name in names:
        page.locator("select").select_option(name)
        assert text_of(page) == page.lab.presets.get(name, page.lab.data["text"])
        check_shown(page)


def test_dragging_a_box_moves_it_on_all_frames_or_on_one(page):
    look(page, 4)
    before = answer_of(page)
    x, y = middle(before.pred.at([4]).boxes[0])
    drag(page, (x, y), (x + 0.1, y + 0.05))
    after = answer_of(page)
    np.testing.assert_allclose(after.pred.boxes, before.pred.boxes + [0.1, 0.05] * 2, atol=0.004)
    assert after.think == before.think and after.consistent
    check_shown(page)
    page.get_by_text("this frame", exact=True).click()
    drag(page, (x + 0.1, y + 0.05), (x, y + 0.05))
    last = answer_of(page)
    moved = (last.pred.boxes != after.pred.boxes).any(axis=1)
    assert last.pred.frames[moved].tolist() == [4]
    check_shown(page)


def test_dragging_an_edge_or_a_corner_changes_the_size(page):
    page.locator("select").select_option("perfect")
    look(page, 4)
    before = answer_of(page).pred.at([4]).boxes[0]
    x1, y1, x2, y2 = before
    drag(page, (x2, (y1 + y2) / 2), (x2 + 0.1, 0.9))
    wide = answer_of(page).pred.at([4]).boxes[0]
    np.testing.assert_allclose(wide, before + [0, 0, 0.1, 0], atol=0.004)
    drag(page, (wide[0], wide[1]), (wide[0] - 0.1, wide[1] - 0.1))
    corner = answer_of(page).pred.at([4]).boxes[0]
    np.testing.assert_allclose(corner, wide - [0.1, 0.1, 0, 0], atol=0.004)
    drag(page, (corner[0], middle(corner)[1]), (0.99, 0.5))  # the left edge past the right one
    crossed = answer_of(page).pred.at([4]).boxes[0]
    np.testing.assert_allclose(crossed[[0, 2]], [corner[2], 0.99], atol=0.004)
    check_shown(page)


def test_a_box_pushed_against_the_rim_keeps_its_size(page):
    look(page, 4)
    before = answer_of(page).pred.at([4]).boxes[0]
    page.get_by_text("this frame", exact=True).click()
    drag(page, middle(before), (0.999, 0.001))
    after = answer_of(page).pred.at([4]).boxes[0]
    assert after[2] == 1 and after[1] == 0
    np.testing.assert_allclose(after[2:] - after[:2], before[2:] - before[:2], atol=0.0021)


def test_a_finger_drags_the_think_box_by_its_corner(visit, sample):
    page = visit(reward_lab(sample), width=400, height=900, has_touch=True)
    look(page, 3)
    before = answer_of(page)
    start = np.array(before.think.at([3]).boxes[0][2:]) + 0.01  # near the corner is enough
    touch = page.context.new_cdp_session(page)
    for kind, by in [("Start", 0), ("Move", 0.05), ("Move", 0.1), ("End", None)]:
        spot = [] if by is None else [place(page, *(start + by))]
        points = [{"x": x, "y": y} for x, y in spot]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
        page.evaluate("new Promise(requestAnimationFrame)")
    after = answer_of(page)
    wanted = before.think.boxes + [0, 0, 0.1, 0.1]
    np.testing.assert_allclose(after.think.boxes, wanted, atol=0.006)
    assert after.pred == before.pred and page.evaluate("scrollY") == 0
    check_shown(page)


def test_keys_move_the_box_that_has_the_focus(page):
    look(page, 4)
    before = answer_of(page)
    page.locator(".hand.think").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown"):
        page.keyboard.press(key)
    after = answer_of(page)
    moved = before.think.boxes + [0.02, -0.01, 0.02, 0.0]
    np.testing.assert_allclose(after.think.boxes, moved, atol=0.0011)
    assert after.pred == before.pred
    assert "think box of frame 4" in page.locator(".hand.think").get_attribute("aria-label")
    check_shown(page)


def test_dragging_the_time_takes_the_lists_along(page):
    before = answer_of(page)
    assert before.span == Span(2, 7)
    cell = page.locator(".ruler").bounding_box()["width"] / 12
    for name, cells, span in [
        (".end >> nth=1", 3, Span(2, 10)),
        (".end >> nth=0", 30, Span(10, 10)),  # never past the other end
        (".bar >> nth=1", -9, Span(1, 1)),
        (".end >> nth=1", 6, Span(1, 7)),
    ]:
        box = page.locator(f".track {name}").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x - 50, y)
        page.mouse.move(x + cells * cell, y)
        page.mouse.up()
        assert answer_of(page).span == span and answer_of(page).consistent
        check_shown(page)


def test_the_time_follows_keys_and_interpolates_boxes(page):
    boxes = {frame: [100 * frame, 100, 100 * frame + 200, 300] for frame in (2, 4)}
    entries = ", ".join(f"{frame}. {box}" for frame, box in boxes.items())
    lists = f"<think_bbox> {entries} </think_bbox> <pred_bbox> </pred_bbox>"
    page.locator("textarea").fill(f"<time> 2 - 4 </time> {lists}")
    page.locator(".end").last.focus()
    page.keyboard.press("ArrowRight")
    answer = answer_of(page)
    assert answer.span == Span(2, 5) and answer.consistent
    assert answer.think.boxes[:, 0].tolist() == [0.2, 0.3, 0.4, 0.4]
    gold = page.lab.target.at([2, 3, 4, 5]).boxes  # for a list that was empty
    np.testing.assert_allclose(answer.pred.boxes, gold, atol=0.0006)
    page.locator(".end").first.focus()
    page.keyboard.press("Home")
    assert answer_of(page).span == Span(0, 5)
    check_shown(page)


def test_settings_are_those_of_score_answer(page):
    page.locator("input[type=range]").fill("2.5")
    check_shown(page, lambda_k=2.5)
    for word, spatial in (("GIoU", "giou"), ("−L1", "l1"), ("GIoU − L1", "both")):
        page.get_by_role("radio", name=word, exact=True).check()
        check_shown(page, lambda_k=2.5, spatial=spatial)
    before = answer_of(page)
    page.get_by_role("radio", name="off", exact=True).check()
    assert "think" not in text_of(page) and answer_of(page, think=False).pred == before.pred
    check_shown(page, lambda_k=2.5, think=False)
    page.locator("select").select_option("perfect")
    assert answer_of(page, think=False).consistent
    page.get_by_role("radio", name="on", exact=True).check()
    assert answer_of(page).consistent
    check_shown(page, lambda_k=2.5)


def test_typed_text_moves_the_boxes_or_is_explained(page):
    entry = "3. [100, 200, 400, 600]"
    lists = f"<think_bbox> {entry} </think_bbox> <pred_bbox> {entry} </pred_bbox>"
    page.locator("textarea").fill(f"<time> 3 - 3 </time> {lists}")
    look(page, 3)
    stage, box = page.locator(".stage").bounding_box(), page.locator(".box.pred .line")
    drawn = box.bounding_box()
    assert drawn["x"] - stage["x"] == pytest.approx(0.1 * stage["width"], abs=2.5)
    assert drawn["height"] == pytest.approx(0.4 * stage["height"], abs=5)
    check_shown(page)
    for text in ("no answer", "", "<time> 9 - 3 </time> " + lists, HOSTILE[:-1]):
        page.locator("textarea").fill(text)
        check_shown(page)
    assert not box.is_visible() and not page.locator(".end").first.is_visible()


def test_an_answer_may_be_given_as_text_or_parsed(visit, sample):
    perfect = reward_lab(sample).presets["perfect"]
    lab = reward_lab(sample, perfect)
    assert text_of(visit(lab)) == perfect
    answer = parse_answer(perfect, lab.space)
    assert reward_lab(sample, answer).data["text"] == format_answer(answer, lab.space) == perfect


def test_the_clip_plays_and_steps(page):
    page.keyboard.press("End")
    page.locator("button[aria-label='Play']").click()  # from the first frame again
    page.locator("output.clock", has_text="frame 2").wait_for()
    page.locator("button[aria-label='Pause']").click()
    page.evaluate(f"{ROOT}.lab.look(5)")
    page.locator("button[aria-label^='One frame on']").click()
    assert page.locator("output.clock").inner_text() == "frame 6 · 3.00 s"
    assert page.locator(".stage img.shown").count() == 1
    assert page.locator(".stage img").nth(6).get_attribute("class").split()[-1] == "shown"


def test_hostile_text_is_shown_and_never_runs(visit, sample):
    nasty = dataclasses.replace(sample, query=HOSTILE, id=HOSTILE)
    page = visit(reward_lab(nasty, HOSTILE))
    assert page.title() != "run" and page.locator("h2 img, .verdict img").count() == 0
    assert page.locator("h2").inner_text().startswith("</script><script>")
    assert page.locator(".verdict").inner_text() == explain_answer(HOSTILE)
    stray = page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        document.body.append(script);
        return window.ran;
    }""")
    assert stray is None
    page.problems.clear()  # the policy says that it refused


def test_notebook_form_works_in_its_sandbox(chromium, sample, tmp_path):
    page = chromium.new_page(viewport={"width": 1000, "height": 800})
    page.set_content(f"<body>{reward_lab(sample)._repr_html_()}</body>")
    inside = page.frame_locator("iframe[title='Reward lab']")
    before = inside.locator("textarea").input_value()
    inside.locator(".hand.pred").focus()
    page.keyboard.press("ArrowDown")
    assert inside.locator("textarea").input_value() != before
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_cut_off_at_any_width(visit, sample, root, width, scheme):
    page = visit(reward_lab(sample), width=width, height=900, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    folder = root / "out" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"lab-{scheme}-{width}.png", full_page=True)
