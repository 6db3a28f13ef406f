"""HC-STVG v1 and v2: film clips of 20 seconds, with one person and one sentence each.

The annotation file is an object keyed by the video's file name. A record holds

- `bbox`: a pixel box `[x, y, width, height]` for each of consecutive frames;
- `st_frame`: the number of the first box's frame, **counted from 1**;
- `img_num`: the number of frames (20 seconds at the clip's frame rate);
- `st_time`, `ed_time`: seconds;
- in v1 `caption`, `width`, `height`; in v2 `English` and `img_size`, which is `[height, width]`.

The version is told record by record. A clip that is not 20 seconds long, as in our own
`data_samples`, says so by a further key `fps`.

The gold span is where the boxes are, as every published evaluator takes it. In some records the
times span a few more frames, which is reported. Some boxes leave the image and are clipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stvgkit.boxes import from_px, from_xywh
from stvgkit.datasets.folder import Files, find_video, video_files
from stvgkit.datasets.records import (
    MAX_FRAME,
    BadRecord,
    SkipReport,
    box_rows,
    gold_tube,
    load_json,
    member,
    sentence,
    trim,
    whole,
)
from stvgkit.datasets.sample import Sample
from stvgkit.tubes import Span

SECONDS = 20


def read(
    annotations: Path | str,
    videos: Path | str | None = None,
    report: SkipReport | None = None,
    *,
    crop: bool = True,
) -> Iterator[Sample]:
    """Yield a sample for each usable record; the others are counted in `report`.

    `crop=False` keeps boxes that leave the image as they are, as the official evaluator does.
    Raises `InputError` where the file is not an HC-STVG annotation file.

    >>> path = getfixture("tmp_path") / "test.json"
    >>> record = '{"bbox": [[64, 36, 64, 36]], "st_frame": 268, "img_num": 600, '
    >>> record += '"caption": "The woman turns.", "width": 640, "height": 360}'
    >>> _ = path.write_text('{"55_vfjywN5CN0Y.mp4": ' + record + '}')
    >>> sample = next(read(path))
    >>> sample.span, sample.fps, sample.tube.boxes
    (Span(start=267, end=267), 30.0, array([[0.1, 0.1, 0.2, 0.2]]))
    """
    report = SkipReport() if report is None else report
    records = load_json(Path(annotations), dict, report)
    files = video_files(videos)
    for name, record in records.items():
        try:
            yield _sample(name, record, files, report, crop)
        except BadRecord as reason:
            report.skip(str(reason), name)


def _size(record: dict[str, Any]) -> tuple[int, int]:
    if "img_size" not in record:
        return whole(record, "width", 1), whole(record, "height", 1)
    size = member(record, "img_size", list)
    if len(size) != 2:
        raise BadRecord("'img_size' is not [height, width]")
    sides = {"height": size[0], "width": size[1]}
    return whole(sides, "width", 1), whole(sides, "height", 1)


def _sample(name: str, record: Any, files: Files | None, report: SkipReport, crop: bool) -> Sample:
    boxes_xywh = box_rows(member(record, "bbox", list), "bbox")
    sentence({"id": name}, "id")
    query = sentence(record, "English" if "English" in record else "caption").strip()
    width, height = _size(record)
    window = Span(0, whole(record, "img_num", 1) - 1)
    first = whole(record, "st_frame", 1) - 1
    video = find_video(files, name)
    fps = _rate(record, len(window))
    given = Span(first, first + len(boxes_xywh) - 1)
    span = trim(given, window, report, name)
    boxes = from_px(from_xywh(boxes_xywh), width, height)[: len(span)]
    tube = gold_tube(span.frames(), boxes, report, name, crop=crop)
    if abs(_timed_frames(record, fps, len(given)) - len(given)) > 1:
        report.change("boxes and times differ by more than a frame, boxes hold", name)
    return Sample(name, query, video, width, height, fps, window, span, tube)


def _rate(record: dict[str, Any], frames: int) -> float:
    if "fps" not in record:
        return frames / SECONDS
    fps = member(record, "fps", int, float)
    if isinstance(fps, bool) or not 0 < fps <= 1000:
        raise BadRecord("'fps' is not a frame rate")
    return float(fps)


def _timed_frames(record: dict[str, Any], fps: float, fallback: int) -> float:
    """Frames from `st_time` to `ed_time`; the fallback where the record has no such times."""
    times: list[Any] = [record.get("st_time"), record.get("ed_time")]
    if not all(isinstance(time, int | float) and 0 <= time <= MAX_FRAME for time in times):
        return fallback
    return float((times[1] - times[0]) * fps)
