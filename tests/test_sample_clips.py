"""The clips of data_samples: their boxes fit the object, their times the frames."""

import json

import numpy as np
import pytest

from stvgkit.boxes import to_px
from stvgkit.datasets import SkipReport, data_samples, read_benchmark
from stvgkit.video import probe, read_frames


def yellow(frame):
    red, green, blue = frame.astype(int).transpose(2, 0, 1)
    return (red > 110) & (green > 70) & (red - blue > 90)


def dark_grey(frame):
    return (frame.max(axis=2) < 100) & (np.ptp(frame, axis=2) < 16)


@pytest.mark.parametrize("number, colour, gap", [(0, yellow, 9), (1, dark_grey, 3)])
def test_boxes_of_the_sample_clips_fit_the_object(number, colour, gap):
    """By its colour: nearly all such pixels are inside, and each edge has some close by."""
    folder, report = data_samples() / "opencv", SkipReport()
    samples = list(read_benchmark("hcstvg", folder / "annotations.json", folder, report))
    sample = samples[number]
    assert len(samples) == 2
    assert not report.skipped and not report.changed
    info = probe(sample.video)
    assert (info.width, info.height, info.num_frames) == (320, 240, len(sample.window))
    assert info.fps == pytest.approx(sample.fps, abs=1e-3)
    assert sample.video.stat().st_size < 300_000
    assert sample.span.start > 0 and sample.span.end < info.num_frames - 1
    assert sample.tube.frames.tolist() == sample.span.frames().tolist()
    assert sample.tube.boxes.min() >= 0 and sample.tube.boxes.max() <= 1

    clip = read_frames(sample.video, indices=sample.tube.frames)
    boxes_px = to_px(sample.tube.boxes, 320, 240).round().astype(int)
    for frame, (x1, y1, x2, y2) in zip(clip.frames, boxes_px, strict=True):
        coloured = colour(frame)
        inside = coloured[y1:y2, x1:x2]
        assert inside.sum() >= 0.99 * coloured.sum()
        for edge in (inside[:gap], inside[-gap:], inside[:, :gap], inside[:, -gap:]):
            assert edge.any()


def test_times_of_the_sample_annotations_are_those_of_the_frames():
    folder = data_samples() / "opencv"
    for name, record in json.loads((folder / "annotations.json").read_text()).items():
        info = probe(folder / name)
        first = record["st_frame"] - 1
        after = first + len(record["bbox"])
        assert record["st_time"] == pytest.approx(info.times[first], abs=1e-3)
        assert record["ed_time"] == pytest.approx(info.times[after], abs=1e-3)
