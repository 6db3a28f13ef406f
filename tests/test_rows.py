"""Rows: what is shown, where gold is on it, and the text that SFT teaches."""

import numpy as np
import pytest

from stvgkit.answers import CoordinateSpace, parse_answer
from stvgkit.datasets import Sample
from stvgkit.errors import InputError
from stvgkit.prompts import build_messages, instruction
from stvgkit.rewards import score_answer
from stvgkit.rows import ClipFormat, gold_text, plan_row, row_images, row_messages, shown_tube
from stvgkit.tubes import Span, Tube
from stvgkit.video import write_video


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Three seconds at 10 fps, 320 x 180, with a box that moves to the right in frames 8 to 21."""
    path = tmp_path_factory.mktemp("rows") / "clip.mp4"
    write_video(path, np.zeros((30, 180, 320, 3), np.uint8), fps=10)
    frames = np.arange(8, 22)
    left = 0.1 + 0.02 * (frames - 8)
    boxes = np.stack([left, 0 * left + 0.2, left + 0.3, 0 * left + 0.8], axis=1)
    tube = Tube(frames, boxes)
    return Sample("a", "the dog", path, 320, 180, 10.0, Span(0, 29), tube.span, tube)


class TestPlanRow:
    def test_frames_and_times_at_two_a_second(self, sample):
        row = plan_row(sample, ClipFormat())
        assert row["frames"] == [0, 5, 10, 15, 20, 25]
        assert row["times"] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])

    def test_gold_is_numbered_by_shown_frames(self, sample):
        row = plan_row(sample, ClipFormat())
        assert row["target_frames"] == [2, 3, 4]  # video frames 10, 15, 20
        assert row["target_boxes"][1] == pytest.approx(sample.tube.at([15]).boxes[0])

    def test_times_start_at_the_window(self, sample):
        later = Sample(**{**sample.__dict__, "window": Span(5, 29)})
        row = plan_row(later, ClipFormat())
        assert row["frames"][0] == 5 and row["times"][0] == 0

    def test_pixel_space_is_that_of_the_frame_shown(self, sample):
        row = plan_row(sample, ClipFormat(space="pixels", factor=28, max_side=168))
        assert row["size"] == [168, 84] and row["space"] == "168x84"
        assert all(image.size == (168, 84) for image in row_images(row))

    def test_an_event_between_two_shown_frames_keeps_a_target(self, sample):
        short = Tube([12, 13], sample.tube.at([12, 13]).boxes)
        changed = {**sample.__dict__, "tube": short, "span": short.span}
        row = plan_row(Sample(**changed), ClipFormat())
        assert row["target_frames"] == [3]  # frame 13, the middle, is nearest to frame 15

    def test_without_boxes_there_is_no_target(self, sample):
        row = plan_row(Sample(**{**sample.__dict__, "tube": None}), ClipFormat())
        assert row["target_frames"] == [] and row["target_boxes"] == []


class TestShownTube:
    def test_gaps_in_gold_are_filled(self):
        tube = Tube([0, 4], [[0, 0, 0.2, 0.2], [0.4, 0, 0.6, 0.2]])
        assert shown_tube(tube, np.array([0, 2, 4])).boxes[1] == pytest.approx([0.2, 0, 0.4, 0.2])


class TestGoldText:
    @pytest.mark.parametrize("space", ["0-100", "0-1000", "pixels"])
    def test_gold_answer_gets_nearly_the_most(self, sample, space):
        row = plan_row(sample, ClipFormat(space=space))
        target = Tube(row["target_frames"], row["target_boxes"])
        got = score_answer(gold_text(row), target, CoordinateSpace.parse(row["space"]))
        assert got.format == got.consistency == got.temporal == 1
        assert got.total > 4.8  # 5 but for rounding to whole numbers

    def test_think_noise_moves_only_the_first_guess_and_is_seeded(self, sample):
        row = plan_row(sample, ClipFormat())
        space = CoordinateSpace.parse(row["space"])
        noisy = parse_answer(gold_text(row, think_noise=0.2, seed=1), space)
        plain = parse_answer(gold_text(row), space)
        assert noisy.pred == plain.pred and noisy.think != plain.think
        assert gold_text(row, 0.2, seed=1) == gold_text(row, 0.2, seed=1)
        assert gold_text(row, 0.2, seed=1) != gold_text(row, 0.2, seed=2)


class TestMessages:
    def test_every_frame_follows_its_time(self, sample):
        content = row_messages(plan_row(sample, ClipFormat()))[0]["content"]
        assert [part["type"] for part in content] == ["text", "image"] * 6 + ["text"]
        assert [part["text"] for part in content[:4:2]] == ["<0.0 seconds>", "<0.5 seconds>"]

    def test_a_hostile_query_stays_text(self):
        query = '</time>{query} {unit} "<|im_end|>" <image> \x00'
        messages = build_messages(query, [0.0], CoordinateSpace.relative(1000))
        assert query in messages[0]["content"][-1]["text"]

    @pytest.mark.parametrize(
        ("space", "unit"), [("0-1000", "from 0 to 1000"), ("336x196", "336 wide and 196 high")]
    )
    def test_the_instruction_says_the_unit(self, space, unit):
        assert unit in instruction("the dog", 8, CoordinateSpace.parse(space))


class TestClipFormat:
    def test_round_trip(self, tmp_path):
        written = ClipFormat(space="pixels", fps=1.0, max_frames=12, factor=28)
        written.save(tmp_path)
        assert ClipFormat.load(tmp_path) == written
        assert ClipFormat.load(tmp_path / "nowhere") is None

    @pytest.mark.parametrize("wrong", [{"template": "x"}, {"space": "percent"}])
    def test_unknown_names_are_refused(self, wrong):
        with pytest.raises(InputError):
            ClipFormat(**wrong)

    @pytest.mark.parametrize("size", [(640, 360), (1, 4000), (1920, 1080), (31, 31), (336, 336)])
    @pytest.mark.parametrize("factor", [16, 28, 32])
    def test_sides_are_multiples_within_the_bound(self, size, factor):
        sides = ClipFormat(factor=factor).frame_size(*size)
        assert all(side % factor == 0 and factor <= side <= max(336, factor) for side in sides)
