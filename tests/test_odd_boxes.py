"""Boxes in another unit than they are read in, and videos with holes, are told."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest

from stvgkit.datasets import SkipReport, vidstg, vue_stg
from stvgkit.datasets.prepare import prepare
from stvgkit.datasets.sample import Sample
from stvgkit.errors import InputError
from stvgkit.predictions import read_hcstvg
from stvgkit.tubes import Span
from stvgkit.video import check_frames, probe

SAMPLE = Sample("a", "it", None, 640, 360, 25.0, Span(0, 99), Span(0, 9), None)


def csv_notes(tmp_path, rows) -> str:
    lines = ["query_id,time_ms,x0,y0,x1,y1"]
    lines += [",".join(map(str, ("q", 1000 * i, *row))) for i, row in enumerate(rows)]
    (tmp_path / "tubes.csv").write_text("\n".join(lines))
    report = SkipReport()
    vue_stg.read_tubes(tmp_path / "tubes.csv", report)
    return str(report)


def official_notes(tmp_path, rows) -> str:
    boxes = {str(i + 1): list(row) for i, row in enumerate(rows)}
    record = {"a": {"st_frame": 1, "ed_frame": len(rows), "bbox": boxes}}
    (tmp_path / "preds.json").write_text(json.dumps(record))
    report = SkipReport()
    read_hcstvg(tmp_path / "preds.json", [SAMPLE], report)
    return str(report)


RELATIVE, PIXELS = [0.1, 0.2, 0.3, 0.5], [64, 72, 192, 180]


@pytest.mark.parametrize(
    ("notes", "rows", "says"),
    [
        (csv_notes, [PIXELS] * 4, "100% of the boxes leave the frame"),
        (csv_notes, [PIXELS] + [RELATIVE] * 3, "25% of the boxes leave the frame"),
        (csv_notes, [np.divide(RELATIVE, 1000)] * 4, "100% of the boxes are smaller than a pixel"),
        (official_notes, [RELATIVE] * 4, "100% of the boxes are smaller than a pixel"),
        (official_notes, [np.multiply(PIXELS, 5.0)] * 4, "100% of the boxes leave the frame"),
    ],
)
def test_boxes_in_another_unit_are_told_with_their_share(tmp_path, notes, rows, says):
    text = notes(tmp_path, rows)
    assert says in text and "read as" in text
    assert ("another unit?" in text) == ("100%" in says)


@pytest.mark.parametrize(("notes", "row"), [(csv_notes, RELATIVE), (official_notes, PIXELS)])
def test_boxes_in_the_unit_of_their_file_are_not_remarked(tmp_path, notes, row):
    assert notes(tmp_path, [row] * 4) == ""


def test_vidors_other_size_is_told(tmp_path):
    entry = {"tid": 0, "bbox": {"xmin": 10, "ymin": 10, "xmax": 50, "ymax": 50}}
    (tmp_path / "7.json").write_text(
        json.dumps({"trajectories": [[entry]] * 20, "width": 320, "height": 180})
    )
    record = {"vid": "7", "width": 640, "height": 360, "frame_count": 20, "fps": 25.0}
    record |= {"used_segment": {"begin_fid": 0, "end_fid": 19}}
    record |= {"temporal_gt": {"begin_fid": 0, "end_fid": 10}, "questions": []}
    record |= {"captions": [{"description": "it moves", "target_id": 0}]}
    (tmp_path / "ann.json").write_text(json.dumps([record]))
    report = SkipReport()
    (sample,) = vidstg.read(tmp_path / "ann.json", None, report, boxes=tmp_path)
    assert "VidOR says another size" in str(report)
    assert np.allclose(sample.tube.boxes[0], [10 / 320, 10 / 180, 50 / 320, 50 / 180])


def with_hole(path, first: int, last: int):
    """A clip of 60 frames whose packets `first` to `last` are zero, as in half a download."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=10, options={"bf": "0", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(60):
            noise = rng.integers(0, 255, (64, 96, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        out.mux(stream.encode(None))
    with av.open(str(path)) as given:
        places = [(p.pos, p.size) for p in given.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in places[first : last + 1]:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_a_hole_is_found_where_it_is_decoded(tmp_path):
    video = with_hole(tmp_path / "videos.mp4", 30, 45)
    assert probe(video).num_frames == 60  # the index is whole
    check_frames(video, np.arange(0, 25))
    with pytest.raises(InputError, match="videos.mp4"):
        check_frames(video)


@pytest.mark.parametrize(
    ("check", "shown", "kept"), [("shown", 28, 1), ("full", 28, 0), ("shown", 60, 0)]
)
def test_prepare_decodes_what_is_shown_or_everything(tmp_path, check, shown, kept):
    (tmp_path / "videos").mkdir()
    for name in ("ok", "hole"):
        with_hole(tmp_path / "videos" / f"{name}.mp4", *((30, 45) if name == "hole" else (0, -1)))
    record = {"bbox": [[10, 10, 20, 20]] * 9, "st_frame": 5, "img_num": shown, "fps": 10}
    record |= {"caption": "It moves.", "width": 96, "height": 64}
    (tmp_path / "ann.json").write_text(json.dumps({"ok.mp4": record, "hole.mp4": record}))
    account = prepare(
        "hcstvg",
        tmp_path / "ann.json",
        tmp_path / "videos",
        tmp_path / "out",
        check=check,
        progress=False,
    )
    assert account["samples"] == 1 + kept
    assert len(account["broken_videos"]) == 1 - kept
