"""Planted faults: what each does to an answer, and that mending it makes the answer good."""

import json

import numpy as np
import pytest

from stvgkit import CoordinateSpace, Tube, parse_answer
from stvgkit.boxes import iou
from stvgkit.datasets.planted import FAULTS, answer_line, key, write_faulty
from stvgkit.datasets.shapes import STRIDE, scene_of
from stvgkit.diagnosis import error_kinds
from stvgkit.predictions import read_completions

SCENES = [scene_of("test", number, 0, 3) for number in range(20)]
HUNDREDTHS = CoordinateSpace.relative(100)


def final_boxes(scene, fault, space=HUNDREDTHS) -> Tube:
    line = answer_line("a", scene, fault, np.random.default_rng(0))
    assert line["space"] == "0-100" and line["frames"] == list(range(0, 32, STRIDE))
    return parse_answer(line["completion"], space).pred


def test_space_fault_is_mended_by_reading_pixels():
    for scene in SCENES:
        wrong = final_boxes(scene, "space")
        right = final_boxes(scene, "space", CoordinateSpace.pixels(64, 64))
        assert iou(right.boxes, scene.tube.boxes).min() > 0.5
        assert np.allclose(wrong.boxes, right.boxes * 0.64)


def test_late_fault_is_mended_by_a_shift():
    for scene in SCENES:
        mended = final_boxes(scene, "late").shift(-1)
        assert mended.frames.tolist() == [f for f in scene.tube.frames if f < 7]
        assert iou(mended.boxes, scene.tube.at(mended.frames).boxes).min() > 0.5


def test_look_alike_is_followed_where_it_is_seen():
    followed = 0
    for scene in SCENES:
        subject, found = scene.things[scene.target], final_boxes(scene, "look-alike")
        assert found.frames.tolist() == scene.tube.frames.tolist()
        (twin,) = (t for t in scene.things if t is not subject and t.name == subject.name)
        seen = twin.visible[found.frames].all()
        expected = twin if seen else subject
        assert iou(found.boxes, expected.boxes[found.frames]).min() > 0.5
        followed += seen
    assert 0 < followed < len(SCENES)


def test_every_model_has_a_fault_of_its_own_and_seeds_deal_them_out():
    assert all(sorted(key(seed).values()) == sorted(FAULTS) for seed in range(10))
    assert len({tuple(key(seed).items()) for seed in range(30)}) == 6


def test_files_are_predictions_that_read_and_fail(tmp_path):
    pytest.importorskip("av")
    samples, paths = write_faulty(tmp_path, count=6, seed=1)
    assert [len(path.read_text().splitlines()) for path in paths.values()] == [6] * 3
    for model, path in paths.items():
        kinds = error_kinds(samples, read_completions(path))
        assert "unparsed" not in kinds and kinds.count("right") < 6, (model, kinds)
    again = write_faulty(tmp_path / "again", count=6, seed=1)[1]
    assert [p.read_bytes() for p in again.values()] == [p.read_bytes() for p in paths.values()]
    assert json.loads(paths["A"].read_text().splitlines()[0])["id"] == samples[0].id
