"""The generated benchmark: seeded, tight gold boxes, sentences that single out one thing."""

import numpy as np
import pytest

from stvgkit.datasets import read_prepared
from stvgkit.datasets.shapes import (
    COLOURS,
    EVENTS,
    MOVES,
    NOVEL,
    NUM_FRAMES,
    RESIZES,
    SHAPES,
    SPLITS,
    STRIDE,
    draw,
    render,
    scene_of,
    write_shapes,
)
from stvgkit.video import read_frames

SCENES = [scene_of("train", i) for i in range(200)]


def painted_box(frame, colour):
    """The pixel extent of a colour in a frame, relative; None where there is none."""
    near = np.abs(frame.astype(int) - COLOURS[colour]).max(axis=-1) < 40
    rows, columns = np.nonzero(near)
    if not len(rows):
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(frame)


class TestScene:
    def test_same_seed_same_scene(self):
        assert scene_of("test", 3).query == scene_of("test", 3).query
        assert np.array_equal(render(scene_of("test", 3)), render(scene_of("test", 3)))

    def test_splits_and_seeds_share_no_scene(self):
        keys = {
            (split, seed, n): render(scene_of(split, n, seed), [0, 16]).tobytes()
            for split in SPLITS
            for seed in (0, 1)
            for n in range(20)
        }
        assert len(set(keys.values())) == len(keys)

    def test_the_sentence_fits_one_thing_only(self):
        for scene in SCENES:
            fitting = [t for t in scene.things if f"the {t.name} that {t.event}" == scene.query]
            assert fitting == [scene.things[scene.target]]

    def test_looks_alone_do_not_settle_difficulty_3(self):
        for i in range(50):
            scene = scene_of("train", i, difficulty=3)
            target = scene.things[scene.target]
            twins = [t for t in scene.things if t.name == target.name]
            assert len(twins) == 2
            assert twins[0].event != twins[1].event

    def test_every_event_and_look_occurs_but_the_novel_ones(self):
        targets = [scene.things[scene.target] for scene in SCENES]
        assert {t.event for t in targets} == set(EVENTS) - {NOVEL["event"]}
        assert {t.colour for s in SCENES for t in s.things} == set(COLOURS) - {NOVEL["colour"]}
        assert {t.shape for s in SCENES for t in s.things} == set(SHAPES) - {NOVEL["shape"]}

    def test_novel_targets_hold_something_new(self):
        for i in range(50):
            scene = scene_of("novel", i)
            target = scene.things[scene.target]
            looks = {"colour": target.colour, "shape": target.shape, "event": target.event}
            assert any(looks[key] == value for key, value in NOVEL.items())

    def test_the_event_happens_inside_its_span_and_only_there(self):
        for scene in SCENES:
            thing = scene.things[scene.target]
            span = thing.span
            if thing.event == "appears":
                assert np.array_equal(np.flatnonzero(thing.visible), span.frames())
                continue
            change = np.abs(np.diff(thing.boxes, axis=0)).max(axis=1) > 1e-9  # step i to i + 1
            assert np.array_equal(np.flatnonzero(change), np.arange(span.start, span.end))

    @pytest.mark.parametrize("event", [*MOVES, *RESIZES])
    def test_motion_goes_the_way_the_sentence_says(self, event):
        scenes = [scene_of("novel", i) for i in range(200)] + SCENES
        things = [t for s in scenes for t in s.things if t.event == event]
        assert things
        for thing in things:
            first, last = thing.boxes[thing.span.start], thing.boxes[thing.span.end]
            moved = (last[:2] + last[2:] - first[:2] - first[2:]) / 2
            grown = (last[2] - last[0]) - (first[2] - first[0])
            if event in MOVES:
                assert np.dot(moved, MOVES[event]) > 0.1 and abs(grown) < 1e-9
            else:
                assert np.sign(grown) == RESIZES[event] and np.abs(moved).max() < 1e-9


class TestDraw:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_paint_fills_the_box(self, shape):
        box = np.array([0.2, 0.3, 0.6, 0.7])
        frame = draw(
            box[None, None],
            np.array([[True]]),
            np.array([[COLOURS["red"]]], dtype=np.float32),
            np.array([[SHAPES.index(shape)]]),
            np.zeros((1, 3)),
            size=200,
        )[0]
        assert np.abs(painted_box(frame, "red") - box).max() <= 0.02


class TestFiles:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("shapes")
        write_shapes(folder, "test", 12)
        return folder

    def test_gold_boxes_sit_on_the_paint_of_the_decoded_video(self, folder):
        checked = 0
        for i, sample in enumerate(read_prepared(folder / "test")):
            scene = scene_of("test", i)
            colour = scene.things[scene.target].colour
            if sum(t.colour == colour for t in scene.things) > 1:
                continue  # two things of this colour: paint alone does not tell them apart
            clip = read_frames(sample.video, indices=sample.tube.frames)
            for frame, box in zip(clip.frames, sample.tube.boxes, strict=True):
                found = painted_box(frame, colour)
                if found is not None:
                    assert np.abs(found - np.clip(box, 0, 1)).max() < 4 / 64
                    checked += 1
        assert checked > 30

    def test_video_and_annotation_agree(self, folder):
        for i, sample in enumerate(read_prepared(folder / "test")):
            scene = scene_of("test", i)
            assert sample.query == scene.query
            assert sample.span.start == scene.tube.span.start * STRIDE
            assert sample.span.end == scene.tube.span.end * STRIDE
            assert len(read_frames(sample.video, indices=np.arange(NUM_FRAMES))) == NUM_FRAMES

    def test_an_interrupted_run_goes_on(self, folder, tmp_path):
        write_shapes(tmp_path, "test", 3)
        kept = sorted((tmp_path / "test" / "videos").iterdir())
        before = [path.stat().st_mtime_ns for path in kept]
        write_shapes(tmp_path, "test", 5)
        assert [path.stat().st_mtime_ns for path in kept] == before
        assert len(list(read_prepared(tmp_path / "test"))) == 5

    def test_the_novel_split_is_reported_by_what_is_new(self, tmp_path):
        from stvgkit.scoring import score_samples

        samples = list(read_prepared(write_shapes(tmp_path, "novel", 12)))
        for sample in samples:
            assert NOVEL[sample.groups["new"]] in sample.query
        groups = score_samples(samples, {}).groups["new"]
        assert sum(row["samples"] for row in groups.values()) == len(samples)
        assert set(groups) == {"colour", "shape", "event"}

    def test_other_splits_hold_nothing_new(self, folder):
        assert not [s for s in read_prepared(folder / "test") if "new" in s.groups]
